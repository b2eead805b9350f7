#!/usr/bin/env python3
"""What Python's HTTP client and the bytes of browsers get from the server whose port is the argument.

Python's client reads strictly and keeps its connection, which makes it a second opinion on ours. The browsers'
requests are in tests/fixtures, with lines ended as in any text file.
"""

import http.client
import pathlib
import socket
import sys

PORT = int(sys.argv[1])
PATIENCE_S = 20
FIXTURES = pathlib.Path(__file__).parent / "fixtures"
MIB = 1024 * 1024


def check(what, seen, expected):
    if seen != expected:
        sys.exit(f"clients.py: {what}: {seen!r}, not {expected!r}")


def connect():
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=PATIENCE_S)
    connection.connect()
    return connection


def ask(connection, method, target, **more):
    connection.request(method, target, **more)
    response = connection.getresponse()
    return response.status, response.read()


def kept_connection():
    connection = connect()
    used = connection.sock
    for n, digits in ((0, b"0"), (20, b"6765"), (90, b"2880067194370816120")):
        check(f"F({n})", ask(connection, "GET", f"/api/fibonacci/{n}"), (200, digits))
    check("HEAD", ask(connection, "HEAD", "/api/fibonacci/20"), (200, b""))
    check("behind HEAD", ask(connection, "GET", "/healthz"), (200, b"ok"))
    # As large as a body may be: known length, then chunks of a length of their own.
    check("a large body", ask(connection, "PUT", "/healthz", body=b"x" * MIB)[0], 405)
    pieces = (b"y" * 10_000 for _ in range(100))
    check("chunks", ask(connection, "PUT", "/healthz", body=pieces, encode_chunked=True)[0], 405)
    check("behind bodies", ask(connection, "GET", "/readyz"), (200, b"ready"))
    check("the connection is the first one", connection.sock, used)


def other_versions():
    for version, status in ((9, 505), (20, 505), (30, 505), (10, 200)):
        connection = connect()
        connection._http_vsn_str = f"HTTP/{version // 10}.{version % 10}"
        connection.request("GET", "/healthz")
        response = connection.getresponse()
        response.read()
        check(f"version {version}", (response.status, response.will_close), (status, True))


def raw(name, head, expected):
    """Sends a head twice on one connection."""
    with socket.create_connection(("127.0.0.1", PORT), PATIENCE_S) as stream:
        for turn in ("first", "second"):
            stream.sendall(head)
            response = http.client.HTTPResponse(stream)
            response.begin()
            check(f"{name}, {turn}", (response.status, response.read()), expected)
            check(f"{name} keeps its connection", response.will_close, False)


def browsers():
    for name in ("firefox", "chrome"):
        head = (FIXTURES / f"{name}.txt").read_bytes().replace(b"\n", b"\r\n")
        raw(name, head, (200, b"6765"))
        revalidation = b'If-None-Match: "20"\r\n\r\n'
        raw(name, head.removesuffix(b"\r\n") + revalidation, (304, b""))


def many_fields():
    cookie = "; ".join(f"name{n}={'v' * 60}" for n in range(30))
    fields = [f"X-Field-{n}: value {n}\r\n" for n in range(48)]
    lines = ["GET /api/fibonacci/20 HTTP/1.1\r\n", "Host: a\r\n", f"Cookie: {cookie}\r\n", *fields]
    raw("fifty fields", "".join([*lines, "\r\n"]).encode(), (200, b"6765"))


kept_connection()
other_versions()
browsers()
many_fields()
