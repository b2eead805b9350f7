#!/usr/bin/env python3
"""A receiver of Alertmanager's webhook: writes a line of JSON on stdout for each alert in each message.

    webhook.py ADDR:PORT

`at` is when it came, of `time.monotonic()`; `path` says to which receiver it was addressed.
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
