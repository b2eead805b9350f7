#!/usr/bin/env python3
"""Writes how rsyslog's queue for the log host stands into a file for the node exporter's textfile collector.

    fibsrv-queue-metrics FILE

Started by rsyslog, which writes its statistics to stdin, an object a line: see queue-metrics.conf. Standard library only.
"""

import json
import pathlib
import sys

QUEUE = "fibsrvShip queue"
"""How rsyslog names the queue of the action in shipper.conf."""

METRICS = (
    ("fibsrv_log_queue_lines", "gauge", "Lines that wait to be acknowledged by the log host.", "size"),
    ("fibsrv_log_queued_total", "counter", "Lines that were queued.", "enqueued"),
    ("fibsrv_log_discarded_total", "counter", "Lines that the queue did not take.", "discarded.full"),
)


def exposition(statistics):
    lines = []
    for name, kind, text, field in METRICS:
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", f"{name} {int(statistics[field])}"]
    return "\n".join(lines) + "\n"


def main():
    file = pathlib.Path(sys.argv[1])
    new = file.with_suffix(".new")  # the collector looks at files that end in .prom alone
    for line in sys.stdin:
        start = line.find("{")
        try:
            statistics = json.loads(line[start:])
            if statistics["name"] == QUEUE:
                new.write_text(exposition(statistics))
                new.rename(file)
        except (ValueError, KeyError, OSError) as error:
            print(f"queue-metrics: {error}: {line.strip()}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
