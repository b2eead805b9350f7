#!/usr/bin/env python3
"""Sends requests at a constant rate and reports failures and the longest outage.

On the command line, with a summary:

    load_client.py --seconds 10 --expect 6765 http://127.0.0.1:3000/api/fibonacci/20

In a test, on a machine of netns.py:

    load = load_client.start(client, "https://fibsrv.test/api/fibonacci/20", connect="10.77.0.100",
                             cacert="/run/ca.pem", expect="6765")
    since = time.monotonic()
    proxy.kill()
    print(load.during(since, seconds=5))        # 250 requests, 31 failed (31 refused), 1.43 s without service

Requests start on schedule even if earlier ones are pending, so an outage does not reduce the number of requests. Each request
uses a new connection, or with `--keep-alive` one of a fixed number of connections. Failed requests are not retried: a
keep-alive connection that is closed during a request is a failure. For throughput use `benches/load.py`.

With `--number NAME` the query of each request contains NAME and a sequence number, so that it can be found in a log.

The outage is the longest time between two good responses; it is never shorter than the request interval. Times are in
`time.monotonic()`, which is shared by all processes of a machine.
"""

import argparse
import asyncio
import collections
import dataclasses
import errno
import itertools
import pathlib
import signal
import ssl
import sys
import time
import urllib.parse

OK = "ok"
UNREACHABLE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.ENONET)


@dataclasses.dataclass
class Record:
    """One request: its number, start, end, and `ok` or the class of its failure."""

    number: int
    began: float
    ended: float
    outcome: str

    def __str__(self):
        return f"{self.number} {self.began:.6f} {self.ended:.6f} {self.outcome}"

    @classmethod
    def parse(cls, line):
        number, began, ended, outcome = line.split(" ", 3)
        return cls(int(number), float(began), float(ended), outcome)


class Summary:
    """Outcomes of the requests started in a time window, and the longest gap between good responses."""

    def __init__(self, records, since=None, until=None):
        began = [record.began for record in records]
        self.since = since if since is not None else min(began, default=0)
        self.until = until if until is not None else max((record.ended for record in records), default=0)
        within = [record for record in records if self.since <= record.began < self.until]
        self.requests = len(within)
        self.failures = collections.Counter(record.outcome for record in within if record.outcome != OK)
        self.failed = sum(self.failures.values())
        self.answered = [record.number for record in within if record.outcome == OK]
        self.slowest = max((record.ended - record.began for record in within if record.outcome == OK), default=0)
        successes = sorted(r.ended for r in records if r.outcome == OK and self.since <= r.ended <= self.until)
        moments = [self.since, *successes, self.until]
        self.gap = max(after - before for before, after in zip(moments, moments[1:]))

    def classes(self):
        return ", ".join(f"{count} {outcome}" for outcome, count in self.failures.most_common())

    def __str__(self):
        failures = f" ({self.classes()})" if self.failed else ""
        return (f"{self.requests} requests, {self.failed} failed{failures}, {self.gap:.2f} s without service, "
                f"slowest response {self.slowest:.2f} s")


class Load:
    """A client on a machine of netns.py; created by `start`."""

    def __init__(self, process, timeout):
        self.process, self.timeout = process, timeout

    def records(self):
        lines = self.process.log().split("\n")[:-1]  # the last one may be incomplete
        return [Record.parse(line) for line in lines]

    def during(self, since, seconds=None):
        """Returns the summary of a time window (default: until now) after all its requests have ended."""
        until = since + seconds if seconds is not None else time.monotonic()
        time.sleep(max(0.0, until + self.timeout + 0.1 - time.monotonic()))
        return Summary(self.records(), since, until)

    def answered_since(self, moment):
        """Returns whether a request that started after `moment` succeeded; for `netns.until`."""
        return any(record.outcome == OK and record.began > moment for record in self.records())

    def stop(self):
        """Stops the client and returns the summary of all requests."""
        status = self.process.stop(self.timeout + 5)
        if status != 0:
            raise OSError(f"the load client ended with {status}: {self.process.log()[-500:]}")
        return Summary(self.records())


def start(machine, url, *, every=0.02, timeout=2.0, seconds=120, keep_alive=0, expect=None, cacert=None, connect=None,
          number=None):
    """Starts this file on a machine and returns after its first response, good or bad."""
    command = [sys.executable, pathlib.Path(__file__).resolve(), "--records", "--every", every, "--timeout", timeout,
               "--seconds", seconds, "--keep-alive", keep_alive]
    flags = {"--expect": expect, "--cacert": cacert, "--connect": connect, "--number": number}
    for flag, value in flags.items():
        command += [flag, value] if value is not None else []
    load = Load(machine.start(*command, url), timeout)
    end = time.monotonic() + timeout + 10
    while not load.records():
        if time.monotonic() > end or not load.process.running():
            raise OSError(f"the load client failed to start: {load.process.log()[-500:]}")
        time.sleep(0.02)
    return load


class Target:
    """URL, address and expected response."""

    def __init__(self, url, connect=None, cacert=None, expect=None, number=None):
        parts = urllib.parse.urlsplit(url)
        secure = parts.scheme == "https"
        self.host = connect or parts.hostname
        self.port = parts.port or (443 if secure else 80)
        self.name = parts.hostname if secure else None
        self.context = ssl.create_default_context(cafile=cacert) if secure else None
        self.expect = expect.encode() if expect is not None else None
        self.path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self.source = f"{'&' if parts.query else '?'}source={number}&line=" if number is not None else None
        self.fields = f"Host: {parts.netloc}\r\nUser-Agent: load_client\r\n"

    def head(self, number):
        path = self.path if self.source is None else f"{self.path}{self.source}{number}"
        return f"GET {path} HTTP/1.1\r\n{self.fields}".encode()

    async def open(self):
        return await asyncio.open_connection(self.host, self.port, ssl=self.context, server_hostname=self.name)

    async def request(self, connection, number, close):
        """Sends a request; returns the outcome and whether the connection can be reused."""
        reader, writer = connection
        writer.write(self.head(number) + (b"Connection: close\r\n\r\n" if close else b"\r\n"))
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status, _, fields = head.partition("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in fields.split("\r\n") if ": " in line)
        length = fields.get("content-length")
        body = await (reader.readexactly(int(length)) if length else reader.read())
        reusable = length is not None and fields.get("connection") != "close"
        if (code := status.split(" ")[1]) != "200":
            return f"status {code}", reusable
        return (OK if self.expect is None or body == self.expect else "wrong body"), reusable


class Client:
    """Sends requests at a constant rate until stopped."""

    def __init__(self, target, options, record):
        self.target, self.options, self.record = target, options, record
        self.stopped = asyncio.Event()
        self.numbers = itertools.count()

    async def run(self):
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopped.set)
        loop.call_later(self.options.seconds, self.stopped.set)
        await (self._keep() if self.options.keep_alive else self._open_each())

    async def _open_each(self):
        """Opens a connection for each request, independent of earlier ones."""
        running = set()
        async for _ in self._ticks(self.options.every):
            task = asyncio.create_task(self._once())
            running.add(task)
            task.add_done_callback(running.discard)
        if running:
            await asyncio.wait(running)

    async def _keep(self):
        """Uses a fixed number of keep-alive connections round robin."""
        count, every = self.options.keep_alive, self.options.every
        await asyncio.gather(*(self._hold(delay=n * every, every=count * every) for n in range(count)))

    async def _hold(self, delay, every):
        connection = None
        await asyncio.sleep(delay)
        async for _ in self._ticks(every):
            if connection and connection[0].at_eof():  # closed while idle, which is no failure
                connection = self._drop(connection)
            connection = await self._record(connection)
        self._drop(connection)

    async def _ticks(self, every):
        begin, tick = time.monotonic(), 0
        while not self.stopped.is_set():
            yield tick
            tick = max(tick + 1, int((time.monotonic() - begin) / every))
            try:
                await asyncio.wait_for(self.stopped.wait(), max(0.0, begin + tick * every - time.monotonic()))
            except asyncio.TimeoutError:
                pass

    async def _once(self):
        self._drop(await self._record(None))

    async def _record(self, connection):
        """Sends and records a request; returns the connection if it can be reused."""
        number, began, known = next(self.numbers), time.monotonic(), [connection]

        async def exchange():
            if known[0] is None:
                known[0] = await self.target.open()
            return await self.target.request(known[0], number, close=not self.options.keep_alive)

        reusable = False
        try:
            outcome, reusable = await asyncio.wait_for(exchange(), self.options.timeout)
        except (OSError, EOFError, ValueError, IndexError, asyncio.TimeoutError, asyncio.LimitOverrunError) as error:
            outcome = failure(error)
        self.record(Record(number, began, time.monotonic(), outcome))
        return known[0] if reusable else self._drop(known[0])

    @staticmethod
    def _drop(connection):
        """Closes a connection without TLS close_notify, to which a dead server would not respond."""
        if connection:
            connection[1].transport.abort()


def failure(error):
    """Returns the class of a failure. All timeouts have one class."""
    if isinstance(error, (asyncio.TimeoutError, TimeoutError)):
        return "timed out"
    if isinstance(error, ssl.SSLError):
        return "tls"
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, ConnectionError):
        return "reset"
    if isinstance(error, EOFError):
        return "closed"
    if isinstance(error, OSError):
        return "unreachable" if error.errno in UNREACHABLE else "system"
    return "not http"


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("url")
    options.add_argument("--connect", metavar="ADDRESS", help="address to connect to instead of the URL's host")
    options.add_argument("--cacert", metavar="FILE", help="CA certificate")
    options.add_argument("--expect", metavar="TEXT", help="expected body")
    options.add_argument("--every", type=float, default=0.02, metavar="SECONDS", help="request interval (0.02)")
    options.add_argument("--timeout", type=float, default=2.0, metavar="SECONDS", help="time limit of a request (2)")
    options.add_argument("--seconds", type=float, default=10.0, help="duration (10)")
    options.add_argument("--keep-alive", type=int, default=0, metavar="COUNT", help="number of keep-alive connections; 0: a new one per request (0)")
    options.add_argument("--number", metavar="NAME", help="add ?source=NAME&line=NUMBER to the URL")
    options.add_argument("--records", action="store_true", help="print a line for each request")
    options = options.parse_args()
    records = []
    record = (lambda record: print(record, flush=True)) if options.records else records.append
    target = Target(options.url, options.connect, options.cacert, options.expect, options.number)
    asyncio.run(Client(target, options, record).run())
    if not options.records:
        print(Summary(records))
        sys.exit(1 if not records or Summary(records).failed else 0)


if __name__ == "__main__":
    main()
