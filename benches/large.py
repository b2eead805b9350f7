#!/usr/bin/env python3
"""Correctness and latency of large numbers, and their effect on other requests.

Starts bin/fibsrv on a free port of the loopback interface, requests numbers of every size and checks each
response against an oracle that shares no code with the server. Loads the table with wrk, alone and while four
clients request distinct numbers near the largest without pause. Then requests numbers of the table at a constant
rate (benches/peers/open_loop.rs), alone, beside one such client and beside four, in turns.

    large.py [--max-n 10000000] [--requests 2000] [--seconds 5] [--rounds 5] [--rate 5000] [--seed N] [--server BINARY]
"""
import argparse, contextlib, decimal, http.client, math, pathlib, random, re, socket, statistics, subprocess, sys, threading, time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = ROOT / "bin" / "fibsrv"
OPEN_LOOP = ROOT / "target" / "release" / "examples" / "open_loop"
# A wrong number has the right residues with a probability of 2^-93.
PRIMES = (2**31 - 1, 2**31 - 19, 2**31 - 61)
GROUP = 18


def fibonacci(n, modulus):
    """Returns F(n) modulo `modulus`, by doubling."""
    a, b = 0, 1
    for bit in bin(n)[2:]:
        a, b = a * (2 * b - a) % modulus, (a * a + b * b) % modulus
        if bit == "1":
            a, b = b, (a + b) % modulus
    return a


def length(n):
    """Returns the number of digits of F(n), by Binet's formula."""
    if n < 2:
        return 1
    with decimal.localcontext(prec=40):
        five = decimal.Decimal(5).sqrt()
        return int(n * ((1 + five) / 2).log10() - five.log10()) + 1


def is_right(n, digits):
    if not digits.isdigit() or len(digits) != length(n):
        return False
    first = len(digits) % GROUP
    groups = [int(digits[at : at + GROUP]) for at in range(first, len(digits), GROUP)]
    for prime in PRIMES:
        weight, residue = 10**GROUP % prime, int(digits[:first] or b"0") % prime
        for group in groups:
            residue = (residue * weight + group) % prime
        if residue != fibonacci(n, prime):
            return False
    return True


class Server:
    """A server that this script starts and stops."""

    def __init__(self, binary, largest):
        self.largest = largest
        self.numbers = iter(range(largest, 0, -1))
        # Room for some numbers near the largest, and for those of every size.
        cache = max(64 << 20, 10 * length(largest))
        command = [binary, "--listen", "127.0.0.1:0", "--max-n", str(largest), "--cache-size", str(cache)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.port = int(line.rsplit(":", 1)[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(10)

    def get(self, n, connection=None):
        """Returns status, content, and the times to the first and the last byte in milliseconds."""
        connection = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        start = time.perf_counter()
        connection.request("GET", f"/api/fibonacci/{n}")
        response = connection.getresponse()
        first = time.perf_counter() - start
        body = response.read()
        return response.status, body, 1e3 * first, 1e3 * (time.perf_counter() - start)

    def peak_mib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024


def mixed(server, requests, rng):
    """Requests numbers of every size on a few connections and checks each; returns the wrong n."""
    numbers = [min(server.largest, int(10 ** rng.uniform(0, math.log10(server.largest) + 0.001)) - 1) for _ in range(requests)]
    numbers += [0, 1, server.largest, server.largest - 1]
    rng.shuffle(numbers)
    wrong, lock = [], threading.Lock()

    def request_all():
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        while True:
            with lock:
                if not numbers:
                    return
                n = numbers.pop()
            status, digits, _, _ = server.get(n, connection)
            if status != 200 or not is_right(n, digits):
                with lock:
                    wrong.append((n, status))

    threads = [threading.Thread(target=request_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wrong


def wrk(server, seconds):
    """Returns requests per second, the 99th percentile in milliseconds, and errors."""
    command = ["wrk", "-t1", "-c64", f"-d{seconds}s", "--latency"]
    url = f"http://127.0.0.1:{server.port}/api/fibonacci/20"
    text = subprocess.run([*command, url], check=True, capture_output=True, text=True).stdout
    value, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", text).groups()
    p99 = float(value) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit]
    errors = re.findall(r"(?:Socket errors|Non-2xx).*", text)
    return float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1]), p99, errors


def open_loop(server, seconds, rate):
    """Returns median and 99th percentile of the latency at a constant rate, in milliseconds."""
    command = [OPEN_LOOP, str(server.port), "32", str(rate), str(seconds)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    _, p50, p99, *_ = (float(figure) for figure in text.split(","))
    return p50 / 1e3, p99 / 1e3


@contextlib.contextmanager
def large_clients(server, count):
    """Clients that request distinct numbers near the largest without pause; yields their statuses."""
    stop, statuses = threading.Event(), []

    def request_large():
        # A plain socket, so that this process uses little of the CPUs.
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as link:
            while not stop.is_set():
                n = next(server.numbers)
                link.sendall(b"GET /api/fibonacci/%d HTTP/1.1\r\nHost: a\r\n\r\n" % n)
                head = link.recv(1 << 20)
                statuses.append(int(head.split(b" ", 2)[1]))
                left = head.index(b"\r\n\r\n") + 4 - len(head)
                left += int(re.search(rb"Content-Length: (\d+)", head)[1])
                while left > 0:
                    left -= len(link.recv(1 << 20))

    threads = [threading.Thread(target=request_large) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def latency(server, options):
    """Prints the latency of the table at a constant rate, beside so many clients with large numbers, in turns."""
    figures = {0: [], 1: [], 4: []}
    served = dict.fromkeys(figures, 0)
    rejected = dict.fromkeys(figures, 0)
    for _ in range(options.rounds):
        for count, results in figures.items():
            with large_clients(server, count) as statuses:
                results.append(open_loop(server, options.seconds, options.rate))
            served[count] += len(statuses)
            rejected[count] += sum(status != 200 for status in statuses)
    for count, results in figures.items():
        p50, p99 = (statistics.median(column) for column in zip(*results))
        print(f"table at {options.rate}/s beside {count} clients near the largest: p50 {p50:.2f} ms, p99 {p99:.2f} ms "
              f"(medians of {options.rounds} rounds); {served[count]} large responses, {rejected[count]} rejected")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--max-n", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rate", type=int, default=5000)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    parser.add_argument("--server", default=str(BINARY))
    options = parser.parse_args()
    wrong = []
    with Server(options.server, options.max_n) as server:
        first = [server.get(server.largest - n)[2] for n in range(5)]
        cached = [server.get(server.largest)[2] for _ in range(21)]
        print(f"first byte of F({server.largest:,}), 5 distinct: {statistics.median(first):.1f} ms (median), "
              f"{max(first):.1f} ms (longest); cached: {statistics.median(cached):.2f} ms, {max(cached):.2f} ms")
        print(f"peak memory {server.peak_mib():.1f} MiB")
    with Server(options.server, options.max_n) as server:
        rate, p99, errors = wrk(server, options.seconds)
        with large_clients(server, 4) as statuses:
            beside, beside_p99, beside_errors = wrk(server, options.seconds)
        print(f"table alone: {rate:.0f}/s, p99 {p99:.2f} ms; beside 4 clients near the largest: "
              f"{beside:.0f}/s ({beside / rate:.0%}), p99 {beside_p99:.2f} ms; "
              f"{len(statuses)} large responses, {sum(status != 200 for status in statuses)} rejected; "
              f"errors: {errors + beside_errors or 'none'}")
        latency(server, options)
    with Server(options.server, options.max_n) as server:
        wrong = mixed(server, options.requests, random.Random(options.seed))
        print(f"{options.requests + 4} numbers from 0 to the largest, seed {options.seed}: {len(wrong)} wrong; "
              f"peak memory {server.peak_mib():.1f} MiB")
    for n, status in wrong[:10]:
        print(f"    F({n}): status {status}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
