#!/usr/bin/env python3
"""Exports the state of rsyslog's forwarding queue for the node exporter's textfile collector.

    fibsrv-queue-metrics FILE

Started by rsyslog, which writes its statistics to stdin, one JSON object per line: see queue-metrics.conf. Standard
library only.
"""

import json
import pathlib
import sys

QUEUE = "fibsrvShip queue"
"""The name of the queue in rsyslog's statistics, from the action in shipper.conf."""

METRICS = (
    ("fibsrv_log_queue_lines", "gauge", "Lines queued for the log host.", "size"),
    ("fibsrv_log_queued_total", "counter", "Lines added to the queue.", "enqueued"),
    ("fibsrv_log_discarded_total", "counter", "Lines discarded because the queue was full.", "discarded.full"),
)


def exposition(statistics):
    lines = []
    for name, kind, text, field in METRICS:
        lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", f"{name} {int(statistics[field])}"]
    return "\n".join(lines) + "\n"


def main():
    file = pathlib.Path(sys.argv[1])
    new = file.with_suffix(".new")  # the collector reads only *.prom
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
