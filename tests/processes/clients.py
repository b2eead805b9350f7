"""Correct HTTP clients that check every response, and what excuses a failed request.

    clients = Clients(("127.0.0.1", 3000), seed=1)
    clients.start()
    ...
    clients.stop()
    print(clients.unexcused(accepted))         # [] if nothing was lost

Each request is for a random n, so a response that belongs to another request is detected. Half of the clients open a
connection for each request; the others use one connection for many requests, with pauses far shorter than the drain grace.

A failure is excused only by an `Accepted`: the connections that a process had accepted when it was stopped or killed.
"""

import dataclasses
import random
import socket
import sys
import threading
import time

LIMIT_S = 2.0
"""Maximum time from connecting, or from sending a request on an open connection, to the end of the response. Time during
which a stopped process holds the connection does not count."""

NOTED_S = 0.1
"""Requests that take longer are recorded as late, so that the time of a stopped process can be subtracted."""

TIMEOUT_S = 30.0
"""Time limit of a single wait, longer than any process remains stopped."""

PAUSE_MAX_S = 0.02
TABLE_N = 1500
LARGE_N = 30_000
"""Beyond the limit of what is computed in the event loop."""


@dataclasses.dataclass
class Accepted:
    """The connections that a process had accepted when it was stopped, by the address of the client."""

    pid: int
    since: float
    connections: frozenset
    until: float = float("inf")
    is_killed: bool = False

    def delay(self, failure):
        """Returns for how long the process was stopped during the request."""
        return max(0.0, min(self.until, failure.ended) - max(self.since, failure.began))

    def covers(self, failure):
        return failure.address in self.connections and failure.opened <= self.since <= failure.ended


@dataclasses.dataclass
class Failure:
    """A request without the expected response, or with a late one."""

    address: tuple
    opened: float
    began: float
    ended: float
    is_late: bool
    text: str

    def is_excused(self, accepted):
        if any(entry.is_killed and entry.covers(self) for entry in accepted):
            return True
        return self.is_late and self.wait(accepted) <= LIMIT_S

    def wait(self, accepted):
        """Returns how long the request took while no stopped process held the connection."""
        return self.ended - self.began - sum(entry.delay(self) for entry in accepted if entry.covers(self))

    def __str__(self):
        span = f"{self.began:.3f} to {self.ended:.3f}"
        return f"{span}: {self.text} (from {self.address[0]}:{self.address[1]}, opened {self.opened:.3f})"


class Numbers:
    """The expected responses."""

    def __init__(self):
        a, b, self.small = 0, 1, []
        for _ in range(TABLE_N):
            self.small.append(b"%d" % a)
            a, b = b, a + b
        for _ in range(LARGE_N - TABLE_N):
            a, b = b, a + b
        sys.set_int_max_str_digits(0)
        self.large = str(a).encode()

    def pick(self, rng):
        n = rng.randrange(TABLE_N + 5)
        return (n, self.small[n]) if n < TABLE_N else (LARGE_N, self.large)


class Connection:
    """One connection of a client."""

    def __init__(self):
        self.opened = time.monotonic()
        self.socket = socket.socket()
        self.socket.settimeout(TIMEOUT_S)
        self.socket.bind(("127.0.0.1", 0))
        self.address = self.socket.getsockname()
        self.received = b""
        self.responses = 0

    def request(self, n, expected, fields=""):
        """Sends a request and checks the response; returns whether the connection may be used again."""
        self.socket.sendall(f"GET /api/fibonacci/{n} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n".encode())
        while b"\r\n\r\n" not in self.received:
            self.read()
        head, _, self.received = self.received.partition(b"\r\n\r\n")
        status, *lines = head.decode("ascii").split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines)
        length = int(fields["content-length"])
        while len(self.received) < length:
            self.read()
        if status != "HTTP/1.1 200 OK" or self.received != expected:
            raise ValueError(f"F({n}): {status}, {self.received[:40]!r}")
        self.received = b""
        self.responses += 1
        return fields.get("connection") != "close"

    def read(self):
        received = self.socket.recv(65536)
        if not received:
            raise EOFError("closed within a response" if self.received else "closed before a response")
        self.received += received

    def read_end(self):
        """Reads the end of the stream, which must be next."""
        if extra := self.socket.recv(100):
            raise ValueError(f"after the last response: {extra!r}")

    def pause(self, seconds):
        """Waits; returns whether the server has closed the connection meanwhile."""
        self.socket.settimeout(max(seconds, 0.001))
        try:
            if extra := self.socket.recv(100):
                raise ValueError(f"between responses: {extra!r}")
            return True
        except TimeoutError:
            return False
        finally:
            self.socket.settimeout(TIMEOUT_S)

    def close(self):
        self.socket.close()


class Clients:
    """Threads, each of them a client."""

    def __init__(self, target, seed, each=6):
        self.target, self.numbers = target, Numbers()
        self.stopped, self.lock = threading.Event(), threading.Lock()
        self.failures, self.sent, self.responses = [], 0, 0
        kinds = (self.open_each, self.keep_alive)
        self.threads = [threading.Thread(target=self.run, args=(kinds[index % 2], random.Random(f"{seed} {index}")))
                        for index in range(2 * each)]

    def start(self):
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def late(self, accepted):
        """Returns the late responses, the latest last."""
        late = [failure for failure in self.failures if failure.is_late]
        return sorted(late, key=lambda failure: failure.wait(accepted))

    def unexcused(self, accepted):
        return [failure for failure in self.failures if not failure.is_excused(accepted)]

    def run(self, kind, rng):
        while not self.stopped.is_set():
            kind(rng)

    def open_each(self, rng):
        with Request(self) as request:
            request.open()
            request.exchange(rng, "Connection: close\r\n")
            request.connection.read_end()
        self.stopped.wait(rng.uniform(0, PAUSE_MAX_S))

    def keep_alive(self, rng):
        with Request(self) as request:
            request.open()
            is_open = True
            while is_open and not self.stopped.is_set():
                is_open = request.exchange(rng)
                if not is_open:
                    request.connection.read_end()
                elif request.connection.pause(rng.uniform(0, PAUSE_MAX_S)):
                    return


class Request:
    """Records a failure of what is done in its context."""

    def __init__(self, clients):
        self.clients, self.connection, self.began = clients, None, time.monotonic()

    def __enter__(self):
        return self

    def open(self):
        self.connection = Connection()
        self.connection.socket.connect(self.clients.target)

    def exchange(self, rng, fields=""):
        if self.connection.responses:
            self.began = time.monotonic()
        with self.clients.lock:
            self.clients.sent += 1
        is_open = self.connection.request(*self.clients.numbers.pick(rng), fields)
        took = time.monotonic() - self.began
        with self.clients.lock:
            self.clients.responses += 1
        if took > NOTED_S:
            self.fail(f"response {self.connection.responses} after {took:.3f} s", is_late=True)
        return is_open

    def fail(self, text, is_late=False):
        connection = self.connection
        self.clients.failures.append(
            Failure(connection.address, connection.opened, self.began, time.monotonic(), is_late, text))

    def __exit__(self, _kind, error, _trace):
        is_failure = isinstance(error, Exception)
        if is_failure:
            self.fail(f"{type(error).__name__} {error} after {self.connection.responses} responses",
                      is_late=isinstance(error, TimeoutError))
        if self.connection:
            self.connection.close()
        return is_failure
