#!/usr/bin/env python3
"""Clients that mean harm by being slow: they open many connections, send a byte a second, and never come to an end.

    slow_clients.py --count 400 --kind head --sources 10.77.0.111,10.77.0.112 10.77.0.10

prints, as JSON, what became of them: how many were turned away before they could say anything, how many were answered,
with which status, how many were closed without a word, how many were still open at the end, and how long the one that
was borne for longest was.

Kinds: `head` (a request whose head does not end), `body` (one whose announced content does not), `silent` (TLS, and
then nothing), `handshake` (a TCP connection on which no TLS begins).
"""

import argparse
import asyncio
import collections
import json
import socket
import ssl
import time

BEGINNING = {
    "head": b"GET /api/fibonacci/20 HTTP/1.1\r\nHost: fibsrv.test\r\nX-Slow: ",
    "body": b"POST /api/fibonacci/20 HTTP/1.1\r\nHost: fibsrv.test\r\nContent-Length: 1000\r\n\r\n",
    "silent": b"",
    "handshake": b"",
}


async def suffer(kind, host, port, source, end):
    """One connection: what became of it, and how many seconds it was borne."""
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
        return "turned away", time.monotonic() - began
    began = time.monotonic()
    answer = b""
    try:
        writer.write(BEGINNING[kind])
        while not answer and time.monotonic() < end:
            try:
                answer = await asyncio.wait_for(reader.read(200), 1.0)
                if not answer:
                    # Closed before a first byte could pass: a rejected connection looks like this if TLS had been quick.
                    return "closed", time.monotonic() - began
            except asyncio.TimeoutError:
                writer.write(b"x" if kind in ("head", "body") else b"")
    except OSError:
        return "closed", time.monotonic() - began
    finally:
        writer.transport.abort()
    return (f"status {answer.split()[1].decode()}" if answer else "open"), time.monotonic() - began


async def attack(options):
    sources = options.sources.split(",") if options.sources else [None]
    end = time.monotonic() + options.seconds
    outcomes = await asyncio.gather(*(
        suffer(options.kind, options.address, options.port, sources[n % len(sources)], end)
        for n in range(options.count)))
    counts = collections.Counter(outcome for outcome, _ in outcomes)
    return {"counts": counts, "longest": round(max(seconds for _, seconds in outcomes), 2)}


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("address")
    options.add_argument("--port", type=int, default=443)
    options.add_argument("--kind", choices=BEGINNING, default="head")
    options.add_argument("--count", type=int, default=100)
    options.add_argument("--seconds", type=float, default=20.0, help="how long to go on at most (20)")
    options.add_argument("--sources", metavar="ADDRESSES", help="addresses of this machine to connect from, in turn")
    print(json.dumps(asyncio.run(attack(options.parse_args()))))


if __name__ == "__main__":
    main()
