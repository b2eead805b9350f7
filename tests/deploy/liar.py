#!/usr/bin/env python3
"""An HTTP server that answers what it is told to, for probes to be tested on.

    liar.py ADDR:PORT

GET /as/STATUS/BODY is answered with this status and this (percent-decoded) body, anything else with 200 and 6766.
"""

import http.server
import sys
import urllib.parse


class Liar(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        words = self.path.split("/", 3)
        status, body = (int(words[2]), urllib.parse.unquote(words[3])) if words[1] == "as" else (200, "6766")
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


host, _, port = sys.argv[1].rpartition(":")
http.server.ThreadingHTTPServer((host, int(port)), Liar).serve_forever()
