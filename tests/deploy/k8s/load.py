"""Clients that notice: some keep their connections, some open one for each request.

Arguments: host, port, kept connections, fresh ones at a time, requests per second of each, smallest
and largest n, and the most seconds. It ends at SIGTERM, or after those seconds, and prints a line
of JSON. Nothing is asked twice. Lost is what had no complete right answer: refused, reset, closed,
late, another status, other digits.
"""

import asyncio
import json
import math
import random
import signal
import sys
import time

HOST, PORT = sys.argv[1:3]
KEPT, FRESH, RATE, FIRST, LAST, SECONDS = (int(word) for word in sys.argv[3:])
# Far more than any answer takes, as the machine may be busy with other things.
PATIENCE = 20

PHI = (1 + math.sqrt(5)) / 2


def fibonacci(n, modulus):
    """F(n) and F(n + 1) modulo something, by doubling."""
    if n == 0:
        return 0, 1
    a, b = fibonacci(n // 2, modulus)
    c, d = a * (2 * b - a) % modulus, (a * a + b * b) % modulus
    return (d, (c + d) % modulus) if n % 2 else (c, d)


def is_right(n, digits):
    """By length and last digits, which no truncated or foreign answer has."""
    if n < 50:
        return digits == str(fibonacci(n, 10**20)[0]).encode()
    length = math.floor(n * math.log10(PHI) - math.log10(5) / 2) + 1
    return len(digits) == length and int(digits[-9:]) == fibonacci(n, 10**9)[0]


class Load:
    """What the clients have seen."""

    def __init__(self):
        self.stopped = asyncio.Event()
        self.answered = 0
        self.connections = 0
        self.lost = {}
        self.slowest = 0.0

    async def connect(self):
        self.connections += 1
        return await asyncio.open_connection(HOST, int(PORT), limit=4 << 20)

    async def ask(self, stream, last):
        """One request, and whether the connection may be used again."""
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

    async def client(self, kept):
        stream = None
        while not self.stopped.is_set():
            began = time.monotonic()
            again = False
            try:
                async with asyncio.timeout(PATIENCE):
                    stream = stream or await self.connect()
                    again = await self.ask(stream, not kept)
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
    await asyncio.gather(*(load.client(place < KEPT) for place in range(KEPT + FRESH)))
    result = {
        "answered": load.answered,
        "lost": sum(load.lost.values()),
        "connections": load.connections,
        "seconds": round(time.monotonic() - began, 1),
        "slowest_ms": round(1000 * load.slowest),
    }
    print(json.dumps({**result, **({"why": load.lost} if load.lost else {})}))


asyncio.run(main())
