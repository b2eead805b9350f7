#!/usr/bin/env python3
"""A client that asks at a steady pace and says what failed, how, and for how long there was no service.

By hand, for a summary:

    load_client.py --seconds 10 --expect 6765 http://127.0.0.1:3000/api/fibonacci/20

In a test, on a machine of lab.py, one client through many disturbances:

    load = load_client.start(client, "https://fibsrv.test/api/fibonacci/20", connect="10.77.0.100",
                             cacert="/run/ca.pem", expect="6765")
    since = time.monotonic()
    proxy.kill()
    print(load.during(since, seconds=5))        # 250 requests, 31 failed (31 refused), 1.43 s without service

Requests begin on time, whether or not earlier ones were answered: so an outage is not measured by fewer requests.
Each has a connection of its own, or with `--kept` one of so many that are kept between requests; such a client is not
lenient: a kept connection that is closed under a request is a failure, and it asks only once. `benches/load.py`
measures speed; this client is slow, and measures absence.

With `--number NAME` each request tells in its query who asks and which of its requests it is: so it can be looked for in a log.

Time without service is the longest time between two good answers, whatever was asked: it is never less than the
pace. Times are of `time.monotonic()`, which is one clock for all processes of a machine.
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
    """One request: its number, when it began and ended, and `ok` or the class of its failure."""

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
    """What the requests that began between two moments came to, and the longest gap between good answers."""

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
        answers = sorted(r.ended for r in records if r.outcome == OK and self.since <= r.ended <= self.until)
        moments = [self.since, *answers, self.until]
        self.gap = max(after - before for before, after in zip(moments, moments[1:]))

    def classes(self):
        return ", ".join(f"{count} {outcome}" for outcome, count in self.failures.most_common())

    def __str__(self):
        failures = f" ({self.classes()})" if self.failed else ""
        return (f"{self.requests} requests, {self.failed} failed{failures}, {self.gap:.2f} s without service, "
                f"slowest answer {self.slowest:.2f} s")


class Load:
    """A client that runs on a machine of lab.py; made by `start`."""

    def __init__(self, process, timeout):
        self.process, self.timeout = process, timeout

    def records(self):
        lines = self.process.log().split("\n")[:-1]  # the last one may be half written
        return [Record.parse(line) for line in lines]

    def during(self, since, seconds=None):
        """The summary from a moment on for so long, or until now; waits until all its requests have ended."""
        until = since + seconds if seconds is not None else time.monotonic()
        time.sleep(max(0.0, until + self.timeout + 0.1 - time.monotonic()))
        return Summary(self.records(), since, until)

    def answered_since(self, moment):
        """Whether there has been a good answer to a question asked after a moment; for `lab.until`."""
        return any(record.outcome == OK and record.began > moment for record in self.records())

    def stop(self):
        """Ends the client in order, and returns the summary of all it did."""
        status = self.process.stop(self.timeout + 5)
        if status != 0:
            raise OSError(f"the load client ended with {status}: {self.process.log()[-500:]}")
        return Summary(self.records())


def start(machine, url, *, every=0.02, timeout=2.0, seconds=120, kept=0, expect=None, cacert=None, connect=None,
          number=None):
    """Starts this file on a machine, and returns when it has had its first answer, good or bad."""
    command = [sys.executable, pathlib.Path(__file__).resolve(), "--records", "--every", every, "--timeout", timeout,
               "--seconds", seconds, "--kept", kept]
    flags = {"--expect": expect, "--cacert": cacert, "--connect": connect, "--number": number}
    for flag, value in flags.items():
        command += [flag, value] if value is not None else []
    load = Load(machine.start(*command, url), timeout)
    end = time.monotonic() + timeout + 10
    while not load.records():
        if time.monotonic() > end or not load.process.running():
            raise OSError(f"the load client does not start: {load.process.log()[-500:]}")
        time.sleep(0.02)
    return load


class Target:
    """What is asked, where, and what the answer has to be."""

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

    async def ask(self, connection, number, close):
        """One request; the outcome, and whether the connection may be asked again."""
        reader, writer = connection
        writer.write(self.head(number) + (b"Connection: close\r\n\r\n" if close else b"\r\n"))
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status, _, fields = head.partition("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in fields.split("\r\n") if ": " in line)
        length = fields.get("content-length")
        body = await (reader.readexactly(int(length)) if length else reader.read())
        kept = length is not None and fields.get("connection") != "close"
        if (code := status.split(" ")[1]) != "200":
            return f"status {code}", kept
        return (OK if self.expect is None or body == self.expect else "wrong answer"), kept


class Client:
    """Asks a target at its pace until it is stopped."""

    def __init__(self, target, options, tell):
        self.target, self.options, self.tell = target, options, tell
        self.stopped = asyncio.Event()
        self.numbers = itertools.count()

    async def run(self):
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopped.set)
        loop.call_later(self.options.seconds, self.stopped.set)
        await (self._keep() if self.options.kept else self._open_each())

    async def _open_each(self):
        """A connection for each request, whatever has become of those before."""
        running = set()
        async for _ in self._beats(self.options.every):
            task = asyncio.create_task(self._once())
            running.add(task)
            task.add_done_callback(running.discard)
        if running:
            await asyncio.wait(running)

    async def _keep(self):
        """Kept connections, each with its share of the requests."""
        kept, every = self.options.kept, self.options.every
        await asyncio.gather(*(self._hold(delay=n * every, every=kept * every) for n in range(kept)))

    async def _hold(self, delay, every):
        connection = None
        await asyncio.sleep(delay)
        async for _ in self._beats(every):
            if connection and connection[0].at_eof():  # closed while nothing was asked: nobody's loss
                connection = self._drop(connection)
            connection = await self._record(connection)
        self._drop(connection)

    async def _beats(self, every):
        begin, beat = time.monotonic(), 0
        while not self.stopped.is_set():
            yield beat
            beat = max(beat + 1, int((time.monotonic() - begin) / every))
            try:
                await asyncio.wait_for(self.stopped.wait(), max(0.0, begin + beat * every - time.monotonic()))
            except asyncio.TimeoutError:
                pass

    async def _once(self):
        self._drop(await self._record(None))

    async def _record(self, connection):
        """One request told; the connection if it may be used again."""
        number, began, known = next(self.numbers), time.monotonic(), [connection]

        async def exchange():
            if known[0] is None:
                known[0] = await self.target.open()
            return await self.target.ask(known[0], number, close=not self.options.kept)

        kept = False
        try:
            outcome, kept = await asyncio.wait_for(exchange(), self.options.timeout)
        except (OSError, EOFError, ValueError, IndexError, asyncio.TimeoutError, asyncio.LimitOverrunError) as error:
            outcome = failure(error)
        self.tell(Record(number, began, time.monotonic(), outcome))
        return known[0] if kept else self._drop(known[0])

    @staticmethod
    def _drop(connection):
        """Lets go of a connection at once: no TLS farewell that a dead peer would not answer."""
        if connection:
            connection[1].transport.abort()


def failure(error):
    """The class of a failure. A time-out has one class, wherever the time went."""
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
    options.add_argument("--connect", metavar="ADDRESS", help="where to connect, if not to the name in the URL")
    options.add_argument("--cacert", metavar="FILE", help="the authority that must have signed the certificate")
    options.add_argument("--expect", metavar="TEXT", help="what a good answer consists of")
    options.add_argument("--every", type=float, default=0.02, metavar="SECONDS", help="the pace (0.02)")
    options.add_argument("--timeout", type=float, default=2.0, metavar="SECONDS", help="for one request, in all (2)")
    options.add_argument("--seconds", type=float, default=10.0, help="when to end at the latest (10)")
    options.add_argument("--kept", type=int, default=0, metavar="COUNT", help="connections kept between requests (0)")
    options.add_argument("--number", metavar="NAME", help="ask with ?source=NAME&line=NUMBER")
    options.add_argument("--records", action="store_true", help="print a line for each request as it ends")
    options = options.parse_args()
    records = []
    tell = (lambda record: print(record, flush=True)) if options.records else records.append
    target = Target(options.url, options.connect, options.cacert, options.expect, options.number)
    asyncio.run(Client(target, options, tell).run())
    if not options.records:
        print(Summary(records))
        sys.exit(1 if not records or Summary(records).failed else 0)


if __name__ == "__main__":
    main()
