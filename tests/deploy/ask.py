#!/usr/bin/env python3
"""A client that numbers its requests, for a test that looks for each of them in a log.

    ask.py PORT NAME EVERY

Asks /api/fibonacci/20?source=NAME&line=NUMBER on the loopback interface, over one connection, so that the order of the
numbers is the order of the answers; on time, each EVERY seconds, or as soon as the last is answered. For each answer a
line on stdout: the number, when it was asked and when answered, of `time.monotonic()`. Ends in order by SIGTERM.
"""

import http.client
import signal
import sys
import time

port, name, every = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
ended = False


def end(*_):
    global ended
    ended = True


signal.signal(signal.SIGTERM, end)
connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
start, number = time.monotonic(), 0
while not ended:
    time.sleep(max(0.0, start + number * every - time.monotonic()))
    began = time.monotonic()
    connection.request("GET", f"/api/fibonacci/20?source={name}&line={number}")
    answer = connection.getresponse().read()
    if answer != b"6765":
        sys.exit(f"request {number}: {answer!r}")
    print(number, f"{began:.6f} {time.monotonic():.6f}", flush=True)
    number += 1
