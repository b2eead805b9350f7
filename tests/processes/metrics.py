"""What the processes on a port report about themselves and each other."""

import http.client

from members import clients_of

SHARED, WORKERS = "fibsrv_metrics_shared", "fibsrv_workers"
TOTAL = 'fibsrv_requests_total{handler="fibonacci",method="GET",code="200"}'
ERRORS = (OSError, http.client.HTTPException)


def scrape(address, timeout=10.0):
    """Returns the samples that any of the processes reports."""
    connection = http.client.HTTPConnection(*address, timeout=timeout)
    try:
        return samples(connection)
    finally:
        connection.close()


def scrape_each(address, pids, connections=16):
    """Returns what some of these processes report: whether metrics are shared, and the number of workers."""
    scrapes, found = [], {}
    try:
        for _ in range(connections):
            scrapes.append(http.client.HTTPConnection(*address, timeout=10))
            scrapes[-1].connect()
        for connection in scrapes:
            client, reported = connection.sock.getsockname(), samples(connection)
            found[client] = (reported[SHARED], reported[WORKERS])
        return {pid: found[client] for pid in pids for client in clients_of(pid) if client in found}
    finally:
        for connection in scrapes:
            connection.close()


def samples(connection):
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
