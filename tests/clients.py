#!/usr/bin/env python3
"""Sends requests with Python's http.client, and recorded requests of browsers, to the server on the given port.

http.client is an independent strict parser of responses and keeps its connection alive. The requests of browsers are in
tests/fixtures, with LF as line ends.
"""

import concurrent.futures
import gzip
import http.client
import pathlib
import socket
import sys

PORT = int(sys.argv[1])
TIMEOUT_S = 20
FIXTURES = pathlib.Path(__file__).parent / "fixtures"
MIB = 1024 * 1024


def check(name, found, expected):
    if found != expected:
        sys.exit(f"clients.py: {name}: {found!r}, not {expected!r}")


def connect():
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=TIMEOUT_S)
    connection.connect()
    return connection


def send(connection, method, target, **more):
    connection.request(method, target, **more)
    response = connection.getresponse()
    return response.status, response.read()


def keep_alive():
    connection = connect()
    used = connection.sock
    for n, digits in ((0, b"0"), (20, b"6765"), (90, b"2880067194370816120")):
        check(f"F({n})", send(connection, "GET", f"/api/fibonacci/{n}"), (200, digits))
    check("HEAD", send(connection, "HEAD", "/api/fibonacci/20"), (200, b""))
    check("after HEAD", send(connection, "GET", "/healthz"), (200, b"ok"))
    # The largest body allowed with Content-Length, then chunks.
    check("a large body", send(connection, "PUT", "/healthz", body=b"x" * MIB)[0], 405)
    pieces = (b"y" * 10_000 for _ in range(100))
    check("chunks", send(connection, "PUT", "/healthz", body=pieces, encode_chunked=True)[0], 405)
    check("after bodies", send(connection, "GET", "/readyz"), (200, b"ready"))
    check("the same connection", connection.sock, used)


def compressed():
    """Several clients want one number that has not been computed; some of them want it compressed."""

    def get(coding):
        connection = connect()
        connection.request("GET", "/api/fibonacci/1234567", headers={"Accept-Encoding": coding})
        response = connection.getresponse()
        content = response.read()
        if coding == "gzip":
            check("the length", int(response.headers["Content-Length"]), len(content))
            content = gzip.decompress(content)
        return response.headers["Content-Encoding"], response.headers["ETag"], content

    codings = ["gzip", "identity"] * 4
    with concurrent.futures.ThreadPoolExecutor(len(codings)) as executor:
        found = list(executor.map(get, codings))
    for coding, (sent, tag, content) in zip(codings, found, strict=True):
        suffix, name = ("-gzip", "gzip") if coding == "gzip" else ("", None)
        check("coding and tag", (sent, tag), (name, f'"1234567{suffix}"'))
        check("the digits", content == found[1][2] and len(content) == 258_009, True)


def rejected_upload():
    # http.client reads no response before it has sent all of the body.
    check("413", send(connect(), "PUT", "/healthz", body=b"x" * 20 * MIB)[0], 413)


def other_versions():
    for version, status in ((9, 505), (20, 505), (30, 505), (10, 200)):
        connection = connect()
        connection._http_vsn_str = f"HTTP/{version // 10}.{version % 10}"
        connection.request("GET", "/healthz")
        response = connection.getresponse()
        response.read()
        check(f"version {version}", (response.status, response.will_close), (status, True))


def raw(name, head, expected):
    """Sends a request twice on one connection."""
    with socket.create_connection(("127.0.0.1", PORT), TIMEOUT_S) as stream:
        for position in ("first", "second"):
            stream.sendall(head)
            response = http.client.HTTPResponse(stream)
            response.begin()
            check(f"{name}, {position}", (response.status, response.read()), expected)
            check(f"{name} is kept alive", response.will_close, False)


def browsers():
    for name in ("firefox", "chrome"):
        head = (FIXTURES / f"{name}.txt").read_bytes().replace(b"\n", b"\r\n")
        raw(name, head, (200, b"6765"))
        revalidation = b'If-None-Match: "20"\r\n\r\n'
        raw(name, head.removesuffix(b"\r\n") + revalidation, (304, b""))


def many_header_fields():
    cookie = "; ".join(f"name{n}={'v' * 60}" for n in range(30))
    fields = [f"X-Field-{n}: value {n}\r\n" for n in range(48)]
    lines = ["GET /api/fibonacci/20 HTTP/1.1\r\n", "Host: a\r\n", f"Cookie: {cookie}\r\n", *fields]
    raw("fifty fields", "".join([*lines, "\r\n"]).encode(), (200, b"6765"))


keep_alive()
rejected_upload()
other_versions()
browsers()
many_header_fields()
