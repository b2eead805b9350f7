#!/usr/bin/env python3
"""An HTTP server with configurable responses, to test probes.

    faulty_server.py ADDR:PORT [CERTIFICATE]

GET /as/STATUS/BODY gets this status and this (percent-decoded) body, any other path 200 and 6766. Uses TLS if a file with
certificate and key is given.
"""

import http.server
import ssl
import sys
import urllib.parse


class FaultyHandler(http.server.BaseHTTPRequestHandler):
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
server = http.server.ThreadingHTTPServer((host, int(port)), FaultyHandler)
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2])
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
