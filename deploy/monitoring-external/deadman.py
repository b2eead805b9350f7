#!/usr/bin/env python3
"""Dead man's switch: alerts when a Prometheus or its Alertmanager stops sending heartbeats.

    deadman.py --expect external --expect internal --notify http://pager.example/page

Alertmanager sends the alert Watchdog periodically; its label `monitor` identifies the Prometheus. If no heartbeat of an expected
monitor arrives for the time of --silence, the alert DeadMansSwitch is sent to each --notify URL in Alertmanager's webhook format,
and again as resolved when heartbeats resume. Failed notifications are retried.

Run it on a machine that is independent of the monitored ones. GET / returns the state as text, GET /metrics as Prometheus
metrics. Standard library only.
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
"""Timeout of a notification."""

UNITS = {"s": 1, "m": 60, "h": 3600}


def duration(text):
    """Converts a duration like 90s, 1.5m or 2h to seconds."""
    if not (match := re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)):
        raise argparse.ArgumentTypeError(f"not a duration like 90s, 3m or 1h: {text!r}")
    return float(match[1]) * UNITS[match[2]]


def log(line):
    print(datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds"), line, flush=True)


class Notification:
    """Delivers the latest state of an alert to one URL."""

    def __init__(self, url):
        self.url = url
        self.delivered = "resolved"

    def deliver(self, alert):
        """Sends the alert unless its state was delivered before; the next call retries a failure."""
        if self.delivered == alert["status"]:
            return
        message = {"version": "4", "receiver": "deadman", "status": alert["status"], "alerts": [alert],
                   "groupLabels": {"alertname": "DeadMansSwitch"}, "commonLabels": alert["labels"],
                   "commonAnnotations": alert["annotations"], "groupKey": f"deadman/{alert['labels']['monitor']}",
                   "externalURL": "", "truncatedAlerts": 0}
        request = urllib.request.Request(self.url, json.dumps(message).encode(), {"Content-Type": "application/json"})
        try:
            urllib.request.urlopen(request, timeout=NOTIFY_SECONDS).close()
        except OSError as error:
            log(f"cannot notify {self.url}: {error}")
            return
        self.delivered = alert["status"]
        log(f"{alert['labels']['monitor']}: {alert['status']}; notified {self.url}")


class Monitor:
    """An expected monitor and its notifications."""

    def __init__(self, monitor, urls, now):
        self.name = monitor
        self.last_heartbeat = now
        self.silent_since = None
        self.notifications = [Notification(url) for url in urls]

    def check(self, now, silence):
        """Updates the state and sends pending notifications."""
        if now - self.last_heartbeat < silence:
            status = "resolved"
        else:
            status = "firing"
            if self.silent_since is None:
                self.silent_since = datetime.datetime.now(datetime.timezone.utc)
        if self.silent_since is None:
            return
        alert = {
            "status": status,
            "labels": {"alertname": "DeadMansSwitch", "severity": "page", "monitor": self.name},
            "annotations": {
                "summary": f"The Prometheus {self.name!r} or its Alertmanager is down",
                "description": "No alerts can be expected from there, and the state of its targets is unknown.",
                "runbook_url": "https://git.example.org/fibsrv/blob/main/docs/runbooks.md#deadmansswitch",
            },
            "startsAt": self.silent_since.isoformat(),
            "endsAt": "0001-01-01T00:00:00Z" if status == "firing" else
                      datetime.datetime.now(datetime.timezone.utc).isoformat(),
        }
        for notification in self.notifications:
            notification.deliver(alert)
        if status == "resolved" and all(notification.delivered == "resolved" for notification in self.notifications):
            self.silent_since = None


class Handler(http.server.BaseHTTPRequestHandler):
    """Receives Alertmanager's webhook, and serves the state."""

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
            self.reply(400, "not an Alertmanager webhook\n")
            return
        for name in alive:
            if monitor := self.server.monitors.get(name):
                monitor.last_heartbeat = time.monotonic()
            else:
                log(f"heartbeat of unexpected monitor {name!r}")
        self.reply(200, "")

    def do_GET(self):
        now = time.monotonic()
        silent = {name: now - monitor.last_heartbeat for name, monitor in self.server.monitors.items()}
        if self.path == "/metrics":
            lines = ["# HELP deadman_silent_seconds Time since the last heartbeat.",
                     "# TYPE deadman_silent_seconds gauge"]
            lines += [f'deadman_silent_seconds{{expected="{name}"}} {seconds:.3f}' for name, seconds in silent.items()]
        else:
            lines = [f"{name}: {'SILENT' if seconds >= self.server.silence else 'alive'}, last heartbeat {seconds:.0f} s ago"
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
                        help="label `monitor` of an expected Prometheus; may be repeated")
    parser.add_argument("--silence", type=duration, default="3m", metavar="TIME",
                        help="time without heartbeat before an alert, default %(default)s")
    parser.add_argument("--notify", action="append", required=True, metavar="URL",
                        help="webhook URL to notify; may be repeated")
    options = parser.parse_args()
    for name in options.expect:
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
            parser.error(f"invalid monitor name: {name!r}")

    host, _, port = options.listen.rpartition(":")
    server = http.server.ThreadingHTTPServer((host, int(port)), Handler)
    server.silence = options.silence
    start = time.monotonic()
    server.monitors = {name: Monitor(name, options.notify, start) for name in options.expect}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    log(f"listening on {options.listen} for {' '.join(options.expect)}, alert after {options.silence:g} s")

    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    while not done.wait(min(1.0, options.silence / 10)):
        for monitor in server.monitors.values():
            monitor.check(time.monotonic(), options.silence)
    server.shutdown()


if __name__ == "__main__":
    sys.exit(main())
