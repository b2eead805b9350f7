#!/usr/bin/env python3
"""Sends numbered requests, so that a test can find each of them in a log.

    numbered_requests.py PORT NAME INTERVAL

Requests /api/fibonacci/20?source=NAME&line=NUMBER on the loopback interface over one connection, so that responses are
ordered; every INTERVAL seconds, or as soon as the previous response arrives. Prints a line for each response: number, start
and end in `time.monotonic()`. SIGTERM stops it with status 0.
"""

import http.client
import signal
import sys
import time

port, name, interval = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
stopped = False


def stop(*_):
    global stopped
    stopped = True


signal.signal(signal.SIGTERM, stop)
connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
start, number = time.monotonic(), 0
while not stopped:
    time.sleep(max(0.0, start + number * interval - time.monotonic()))
    began = time.monotonic()
    connection.request("GET", f"/api/fibonacci/20?source={name}&line={number}")
    body = connection.getresponse().read()
    if body != b"6765":
        sys.exit(f"request {number}: {body!r}")
    print(number, f"{began:.6f} {time.monotonic():.6f}", flush=True)
    number += 1
