#!/usr/bin/env python3
"""Large numbers: are they right, how soon do they come, and what do others notice?

Starts bin/fibsrv on a free port of the loopback interface, asks for numbers of every size and checks each
answer against an oracle that shares nothing with the server; then loads the table with wrk, alone and while
four clients ask for distinct numbers near the largest without pause.

    large.py [--requests 2000] [--seconds 5] [--seed N] [--server BINARY]
"""
import argparse, decimal, http.client, pathlib, random, re, socket, statistics, subprocess, sys, threading, time

BINARY = pathlib.Path(__file__).resolve().parent.parent / "bin" / "fibsrv"
LARGEST = 10_000_000
# A wrong number has the right residues by a chance of 2^-93.
PRIMES = (2**31 - 1, 2**31 - 19, 2**31 - 61)
GROUP = 18


def fibonacci(n, modulus):
    """F(n) modulo `modulus`, by doubling."""
    a, b = 0, 1
    for bit in bin(n)[2:]:
        a, b = a * (2 * b - a) % modulus, (a * a + b * b) % modulus
        if bit == "1":
            a, b = b, (a + b) % modulus
    return a


def length(n):
    """How many digits F(n) has, by Binet's formula."""
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
    """A server that this script started, and ends."""

    def __init__(self, binary):
        self.process = subprocess.Popen(
            [binary, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True
        )
        line = self.process.stdout.readline()
        self.port = int(line.rsplit(":", 1)[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(10)

    def ask(self, n, connection=None):
        """Status and content, and the time to the first byte and to the last in milliseconds."""
        connection = connection or http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        start = time.perf_counter()
        connection.request("GET", f"/api/fibonacci/{n}")
        reply = connection.getresponse()
        first = time.perf_counter() - start
        body = reply.read()
        return reply.status, body, 1e3 * first, 1e3 * (time.perf_counter() - start)

    def peak_mib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024


def mixed(server, requests, dice):
    """Numbers of every size on a few connections, each checked; returns the n that went wrong."""
    numbers = [min(LARGEST, int(10 ** dice.uniform(0, 7.001)) - 1) for _ in range(requests)]
    numbers += [0, 1, LARGEST, LARGEST - 1]
    dice.shuffle(numbers)
    wrong, lock = [], threading.Lock()

    def talk():
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        while True:
            with lock:
                if not numbers:
                    return
                n = numbers.pop()
            status, digits, _, _ = server.ask(n, connection)
            if status != 200 or not is_right(n, digits):
                with lock:
                    wrong.append((n, status))

    threads = [threading.Thread(target=talk) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wrong


def wrk(server, seconds):
    """Requests per second, the 99th percentile in milliseconds, and complaints."""
    command = ["wrk", "-t1", "-c64", f"-d{seconds}s", "--latency"]
    url = f"http://127.0.0.1:{server.port}/api/fibonacci/20"
    text = subprocess.run([*command, url], check=True, capture_output=True, text=True).stdout
    value, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", text).groups()
    p99 = float(value) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit]
    complaints = re.findall(r"(?:Socket errors|Non-2xx).*", text)
    return float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1]), p99, complaints


def beside_large(server, seconds):
    """The same while four clients ask for distinct numbers near the largest; also their answers."""
    stop, answers, numbers = threading.Event(), [], iter(range(LARGEST, 0, -1))

    def ask():
        # A bare socket: this process shall not take more of the processors than it must.
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as link:
            while not stop.is_set():
                n = next(numbers)
                link.sendall(b"GET /api/fibonacci/%d HTTP/1.1\r\nHost: a\r\n\r\n" % n)
                head = link.recv(1 << 20)
                answers.append(int(head.split(b" ", 2)[1]))
                left = head.index(b"\r\n\r\n") + 4 - len(head)
                left += int(re.search(rb"Content-Length: (\d+)", head)[1])
                while left > 0:
                    left -= len(link.recv(1 << 20))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    figures = wrk(server, seconds)
    stop.set()
    for thread in threads:
        thread.join()
    return figures, answers


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    parser.add_argument("--server", default=str(BINARY))
    options = parser.parse_args()
    wrong = []
    with Server(options.server) as server:
        first = [server.ask(LARGEST - n)[2] for n in range(5)]
        kept = [server.ask(LARGEST)[2] for _ in range(21)]
        print(f"first byte of F(10,000,000), 5 distinct: {statistics.median(first):.1f} ms (median), "
              f"{max(first):.1f} ms (longest); kept: {statistics.median(kept):.2f} ms, {max(kept):.2f} ms")
        print(f"peak memory {server.peak_mib():.1f} MiB")
    with Server(options.server) as server:
        rate, p99, complaints = wrk(server, options.seconds)
        (beside, beside_p99, beside_complaints), answers = beside_large(server, options.seconds)
        print(f"table alone: {rate:.0f}/s, p99 {p99:.2f} ms; beside 4 that ask near the largest: "
              f"{beside:.0f}/s ({beside / rate:.0%}), p99 {beside_p99:.2f} ms; "
              f"{len(answers)} large answers, {sum(status != 200 for status in answers)} refused; "
              f"complaints: {complaints + beside_complaints or 'none'}")
    with Server(options.server) as server:
        wrong = mixed(server, options.requests, random.Random(options.seed))
        print(f"{options.requests + 4} numbers from 0 to the largest, seed {options.seed}: {len(wrong)} wrong; "
              f"peak memory {server.peak_mib():.1f} MiB")
    for n, status in wrong[:10]:
        print(f"    F({n}): status {status}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
