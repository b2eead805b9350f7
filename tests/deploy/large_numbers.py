#!/usr/bin/env python3
"""Requests the largest numbers from many clients at once, and fails unless every request gets 200 or 503.

    large_numbers.py [HOST:]PORT

48 clients request three different numbers each, one after the other, on connections of their own.
"""

import collections
import http.client
import sys
import threading

CLIENTS, NUMBERS, LARGEST = 48, 3, 10_000_000
TIMEOUT_S = 60

HOST, _, PORT = sys.argv[1].rpartition(":")
outcomes = collections.Counter()
lock = threading.Lock()


def request(n):
    connection = http.client.HTTPConnection(HOST or "127.0.0.1", int(PORT), timeout=TIMEOUT_S)
    try:
        connection.request("GET", f"/api/fibonacci/{n}")
        response = connection.getresponse()
        response.read()
        return response.status
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        connection.close()


def run(client):
    for number in range(NUMBERS):
        outcome = request(LARGEST - client * NUMBERS - number)
        with lock:
            outcomes[outcome] += 1


threads = [threading.Thread(target=run, args=(client,)) for client in range(CLIENTS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(", ".join(f"{count} x {outcome}" for outcome, count in sorted(outcomes.items(), key=str)))
sys.exit(0 if set(outcomes) <= {200, 503} else 1)
