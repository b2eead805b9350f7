"""Load generator that counts lost requests, with keep-alive and fresh connections.

Arguments: host, port, keep-alive connections, concurrent fresh connections, requests per second of
each, smallest and largest n, and the time limit in seconds. Stops at SIGTERM or the time limit, and
prints a line of JSON. Requests are not retried. A request is lost without a complete and correct
response: refused, reset, closed, timed out, wrong status, wrong digits.
"""

import asyncio
import json
import math
import random
import signal
import sys
import time

HOST, PORT = sys.argv[1:3]
KEEP_ALIVE, FRESH, RATE, FIRST, LAST, SECONDS = (int(word) for word in sys.argv[3:])
# Much longer than any response takes, as the host may be busy.
REQUEST_TIMEOUT = 20

PHI = (1 + math.sqrt(5)) / 2


def fibonacci(n, modulus):
    """Returns F(n) and F(n + 1) modulo `modulus`, by fast doubling."""
    if n == 0:
        return 0, 1
    a, b = fibonacci(n // 2, modulus)
    c, d = a * (2 * b - a) % modulus, (a * a + b * b) % modulus
    return (d, (c + d) % modulus) if n % 2 else (c, d)


def is_right(n, digits):
    """Checks length and last digits."""
    if n < 50:
        return digits == str(fibonacci(n, 10**20)[0]).encode()
    length = math.floor(n * math.log10(PHI) - math.log10(5) / 2) + 1
    return len(digits) == length and int(digits[-9:]) == fibonacci(n, 10**9)[0]


class Load:
    """Clients and their statistics."""

    def __init__(self):
        self.stopped = asyncio.Event()
        self.answered = 0
        self.connections = 0
        self.lost = {}
        self.slowest = 0.0

    async def connect(self):
        self.connections += 1
        return await asyncio.open_connection(HOST, int(PORT), limit=4 << 20)

    async def request(self, stream, last):
        """Sends a request; returns whether the connection can be reused."""
        reader, writer = stream
        n = random.randint(FIRST, LAST)
        head = f"GET /api/fibonacci/{n} HTTP/1.1\r\nHost: {HOST}\r\n"
        writer.write((head + ("Connection: close\r\n\r\n" if last else "\r\n")).encode())
        status, *fields = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        if status.split(" ")[1] != "200":
            raise ValueError(status)
        fields = dict(field.split(": ", 1) for field in fields if field)
        digits = await reader.readexactly(int(fields["content-length"]))
        if not is_right(n, digits):
            raise ValueError("wrong digits")
        return fields.get("connection") != "close"

    async def client(self, keep_alive):
        stream = None
        while not self.stopped.is_set():
            began = time.monotonic()
            again = False
            try:
                async with asyncio.timeout(REQUEST_TIMEOUT):
                    stream = stream or await self.connect()
                    again = await self.request(stream, not keep_alive)
                self.answered += 1
                self.slowest = max(self.slowest, time.monotonic() - began)
            except (OSError, EOFError, ValueError, TimeoutError) as error:
                name = f"{type(error).__name__}: {error}"
                self.lost[name] = self.lost.get(name, 0) + 1
            if not again and stream:
                stream[1].close()
                stream = None
            pause = began + 1 / RATE - time.monotonic()
            if pause > 0:
                await asyncio.sleep(pause)
        if stream:
            stream[1].close()


async def main():
    load = Load()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, load.stopped.set)
    loop.call_later(SECONDS, load.stopped.set)
    began = time.monotonic()
    await asyncio.gather(*(load.client(index < KEEP_ALIVE) for index in range(KEEP_ALIVE + FRESH)))
    result = {
        "answered": load.answered,
        "lost": sum(load.lost.values()),
        "connections": load.connections,
        "seconds": round(time.monotonic() - began, 1),
        "slowest_ms": round(1000 * load.slowest),
    }
    print(json.dumps({**result, **({"why": load.lost} if load.lost else {})}))


asyncio.run(main())
