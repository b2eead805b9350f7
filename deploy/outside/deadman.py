#!/usr/bin/env python3
"""A dead man's switch: says so when a Prometheus or its Alertmanager falls silent, which neither can say itself.

    deadman.py --expect outside --expect inside --notify http://pager.example/page

Alertmanager posts the alert Watchdog to it again and again; the label `monitor` tells whose sign of life it is.
Whoever of those expected has not been heard for so long (--silence), from the start on, is reported by an alert
DeadMansSwitch, which goes to each address of --notify in the form in which Alertmanager sends its own, until it is
taken there, and once more, as resolved, when there is a sign of life again.

It belongs on a machine that shares nothing with those it listens to. GET / tells a person how things stand,
GET /metrics a Prometheus, so that the switch is not unwatched itself. Standard library only.
"""

import argparse
import datetime
import http.server
import json
import re
import signal
import sys
import threading
import time
import urllib.request

BODY_BYTES_MAX = 1 << 20
NOTIFY_SECONDS = 10
"""How long one who is notified may take to answer."""

UNITS = {"s": 1, "m": 60, "h": 3600}


def duration(text):
    """Seconds from what is written like 90s, 1.5m or 2h."""
    if not (match := re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)):
        raise argparse.ArgumentTypeError(f"not a time like 90s, 3m or 1h: {text!r}")
    return float(match[1]) * UNITS[match[2]]


def say(line):
    print(datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds"), line, flush=True)


class Notice:
    """An alert on its way to one address, where only the latest state matters."""

    def __init__(self, url):
        self.url = url
        self.taken = "resolved"

    def deliver(self, alert):
        """Posts the alert unless it is known there. Tries again with the next call if that fails."""
        if self.taken == alert["status"]:
            return
        message = {"version": "4", "receiver": "deadman", "status": alert["status"], "alerts": [alert],
                   "groupLabels": {"alertname": "DeadMansSwitch"}, "commonLabels": alert["labels"],
                   "commonAnnotations": alert["annotations"], "groupKey": f"deadman/{alert['labels']['monitor']}",
                   "externalURL": "", "truncatedAlerts": 0}
        request = urllib.request.Request(self.url, json.dumps(message).encode(), {"Content-Type": "application/json"})
        try:
            urllib.request.urlopen(request, timeout=NOTIFY_SECONDS).close()
        except OSError as error:
            say(f"cannot notify {self.url}: {error}")
            return
        self.taken = alert["status"]
        say(f"{alert['labels']['monitor']}: {alert['status']}, as {self.url} was told")


class Switch:
    """One of those expected."""

    def __init__(self, monitor, urls, now):
        self.monitor = monitor
        self.heard = now
        self.silent_since = None
        self.notices = [Notice(url) for url in urls]

    def look(self, now, silence):
        """Takes in that it is now so late."""
        if now - self.heard < silence:
            status = "resolved"
        else:
            status = "firing"
            if self.silent_since is None:
                self.silent_since = datetime.datetime.now(datetime.timezone.utc)
        if self.silent_since is None:
            return
        alert = {
            "status": status,
            "labels": {"alertname": "DeadMansSwitch", "severity": "page", "monitor": self.monitor},
            "annotations": {
                "summary": f"The Prometheus {self.monitor!r} or its Alertmanager has fallen silent",
                "description": "No alert can be expected from there. Nothing is known of what it watches.",
                "runbook_url": "docs/runbooks.md#deadmansswitch",
            },
            "startsAt": self.silent_since.isoformat(),
            "endsAt": "0001-01-01T00:00:00Z" if status == "firing" else
                      datetime.datetime.now(datetime.timezone.utc).isoformat(),
        }
        for notice in self.notices:
            notice.deliver(alert)
        if status == "resolved" and all(notice.taken == "resolved" for notice in self.notices):
            self.silent_since = None


class Listener(http.server.BaseHTTPRequestHandler):
    """Takes Alertmanager's webhook; tells how things stand."""

    timeout = 10

    def do_POST(self):
        try:
            length = int(self.headers.get("Content-Length", ""))
            if not 0 <= length <= BODY_BYTES_MAX:
                raise ValueError("length")
            alerts = json.loads(self.rfile.read(length))["alerts"]
            alive = {alert["labels"].get("monitor", "") for alert in alerts
                     if alert["status"] == "firing" and alert["labels"]["alertname"] == "Watchdog"}
        except (ValueError, KeyError, TypeError, AttributeError):
            self.reply(400, "not a message of Alertmanager's\n")
            return
        for monitor in alive:
            if switch := self.server.switches.get(monitor):
                switch.heard = time.monotonic()
            else:
                say(f"a sign of life of {monitor!r}, which is not expected")
        self.reply(200, "")

    def do_GET(self):
        now = time.monotonic()
        silent = {name: now - switch.heard for name, switch in self.server.switches.items()}
        if self.path == "/metrics":
            lines = ["# HELP deadman_silent_seconds Time since the last sign of life.",
                     "# TYPE deadman_silent_seconds gauge"]
            lines += [f'deadman_silent_seconds{{expected="{name}"}} {seconds:.3f}' for name, seconds in silent.items()]
        else:
            lines = [f"{name}: {'SILENT' if seconds >= self.server.silence else 'alive'}, heard {seconds:.0f} s ago"
                     for name, seconds in silent.items()]
        self.reply(200, "\n".join(lines) + "\n")

    def reply(self, status, text):
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--listen", default="0.0.0.0:9095", metavar="ADDR:PORT", help="default %(default)s")
    parser.add_argument("--expect", action="append", required=True, metavar="MONITOR",
                        help="the label `monitor` of a Prometheus that has to be heard; may be repeated")
    parser.add_argument("--silence", type=duration, default="3m", metavar="TIME",
                        help="how long it may be silent, default %(default)s")
    parser.add_argument("--notify", action="append", required=True, metavar="URL",
                        help="who is told; may be repeated, best by two ways")
    options = parser.parse_args()
    for name in options.expect:
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
            parser.error(f"a name has letters, digits and _.- only: {name!r}")

    host, _, port = options.listen.rpartition(":")
    server = http.server.ThreadingHTTPServer((host, int(port)), Listener)
    server.silence = options.silence
    start = time.monotonic()
    server.switches = {name: Switch(name, options.notify, start) for name in options.expect}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    say(f"listening on {options.listen} for {' '.join(options.expect)}, silence of {options.silence:g} s is reported")

    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    while not done.wait(min(1.0, options.silence / 10)):
        for switch in server.switches.values():
            switch.look(time.monotonic(), options.silence)
    server.shutdown()


if __name__ == "__main__":
    sys.exit(main())
