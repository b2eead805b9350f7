"""Causes every response that the description lists, and validates it against the description.

Arguments: a URL of a server with --max-n 100000000 and --max-computations 1, one of a server that is draining, and of a server with
--admin-listen the public URL and that of the admin address.
"""

import http.client
import sys
import threading
import time
import urllib.parse

import schemathesis
from schemathesis.checks import not_a_server_error

LARGE = "99999999"
NUMBER = "/api/fibonacci/{n}"
QUERY = "/api/fibonacci"
PREFLIGHT = {"Origin": "http://a", "Access-Control-Request-Method": "GET"}
FILES = ("/", "/openapi.json", "/robots.txt", "/favicon.ico")
OTHERS = ("/healthz", "/readyz", "/metrics")
METHODS = ("get", "head", "options")


def get(url, path):
    """The connection and the response to a request."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=30)
    connection.request("GET", path)
    return connection


def await_computation(url):
    for _ in range(1000):
        metrics = get(url, "/metrics").getresponse().read().decode()
        if "\nfibsrv_compute_queue_length 1\n" in metrics:
            return
        time.sleep(0.01)
    sys.exit("openapi: no computation has begun")


def cases(url, draining, public, admin):
    """The requests: server, method, path, n, fields, expected status."""
    for method in ("get", "head"):
        yield url, method, NUMBER, "20", {}, 200
        yield url, method, NUMBER, "20", {"If-None-Match": '"20"'}, 304
        yield url, method, NUMBER, "20", {"If-Match": '"21"'}, 412
        yield url, method, NUMBER, "x", {}, 400
        yield url, method, NUMBER, "100000001", {}, 422
        yield url, method, QUERY, "20", {}, 303
        yield url, method, QUERY, "x", {}, 400
        yield url, method, QUERY, "100000001", {}, 422
        for path in FILES:
            yield url, method, path, None, {}, 200
            yield url, method, path, None, {"If-None-Match": "*"}, 304
            yield url, method, path, None, {"If-Match": '"0"'}, 412
        for path in OTHERS:
            yield url, method, path, None, {}, 200
        yield draining, method, "/readyz", None, {}, 503
    for path in (NUMBER, QUERY, *FILES, *OTHERS):
        for fields in ({}, PREFLIGHT):
            yield url, "options", path, "20", fields, 204
    for method in METHODS:
        for path in (NUMBER, QUERY, *FILES):
            yield admin, method, path, "20", {}, 404
        for path in OTHERS:
            yield public, method, path, None, {}, 404
    for accept in ("application/json", "application/problem+json"):
        yield url, "get", NUMBER, "20", {"Accept": accept}, 200
        yield url, "get", NUMBER, "x", {"Accept": accept}, 400
        yield url, "get", NUMBER, "100000001", {"Accept": accept}, 422
        yield url, "get", "/robots.txt", None, {"Accept": accept, "If-Match": '"0"'}, 412
        yield draining, "get", "/readyz", None, {"Accept": accept}, 503
        yield admin, "get", NUMBER, "20", {"Accept": accept}, 404
        for path in (NUMBER, QUERY, *FILES, *OTHERS):
            # Described with GET, because other methods have no operation.
            for method in ("post", "put", "delete", "patch", "trace"):
                yield url, method, path, "20", {"Accept": accept}, 405
    yield url, "get", NUMBER, "20", {"Accept": "application/json", "If-None-Match": '"20-json"'}, 304
    yield url, "get", NUMBER, "100", {"Range": "bytes=5-9"}, 206
    yield url, "get", NUMBER, "100", {"Range": "bytes=-3", "If-Range": '"100"'}, 206
    yield url, "get", NUMBER, "100", {"Range": "bytes=5-9", "If-Range": '"20"'}, 200
    yield url, "get", NUMBER, "100", {"Range": "bytes=21-"}, 416
    yield url, "get", NUMBER, "30000", {"Accept-Encoding": "gzip"}, 200
    yield url, "head", NUMBER, "30000", {"Accept-Encoding": "gzip"}, 200
    yield url, "get", NUMBER, "30000", {"Accept-Encoding": "gzip", "If-None-Match": '"30000-gzip"'}, 304
    yield url, "get", "/metrics", None, {"Accept": "application/openmetrics-text"}, 200
    large = get(url, f"/api/fibonacci/{LARGE}")
    await_computation(url)
    yield url, "get", NUMBER, "1000000", {}, 503
    large.close()


def check_origins(path, status, response):
    """Responses for operators are not for scripts of other origins, whatever the description allows."""
    if path in OTHERS and status != 404 and "Access-Control-Allow-Origin" in response.headers:
        sys.exit(f"openapi: {path}: {status} may be read by other origins")


def main(url, draining, public, admin):
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    described = {
        (method, path, status)
        for path, item in schema.raw_schema["paths"].items()
        for method in METHODS
        for status in item.get(method, {}).get("responses", {})
    }
    seen = set()
    for server, method, path, n, fields, status in cases(url, draining, public, admin):
        described_with = method if method in METHODS else "get"
        operation = schema[path][described_with]
        case = operation.Case(
            method=method.upper(), path_parameters={"n": n} if "{n}" in path else {},
            query={"n": n} if path == QUERY else {}, headers=fields)
        response = case.call(base_url=server, allow_redirects=False)
        request = f"{method.upper()} {path} with n={n}, {fields}"
        if response.status_code != status:
            sys.exit(f"openapi: {request}: {response.status_code}, not {status}")
        case.validate_response(response, excluded_checks=[not_a_server_error])
        check_origins(path, status, response)
        seen.add((described_with, path, str(status)))
    for method, path, status in sorted(described ^ seen):
        print(f"openapi: {method.upper()} {path}: {status} is described or tested only", file=sys.stderr)
    if described != seen:
        sys.exit(1)
    print(f"openapi: {len(seen)} responses are as described")


if __name__ == "__main__":
    main(*sys.argv[1:])
