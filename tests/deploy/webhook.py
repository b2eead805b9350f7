#!/usr/bin/env python3
"""Receives Alertmanager webhooks and prints a JSON line for each alert of each message.

    webhook.py ADDR:PORT

`at` is the arrival time in `time.monotonic()`; `path` identifies the receiver.
"""

import http.server
import json
import sys
import time


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        at = time.monotonic()
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for alert in message["alerts"]:
            fields = ("status", "labels", "annotations", "startsAt")
            print(json.dumps({"at": at, "path": self.path, **{name: alert[name] for name in fields}}), flush=True)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


host, _, port = sys.argv[1].rpartition(":")
http.server.ThreadingHTTPServer((host, int(port)), Receiver).serve_forever()
