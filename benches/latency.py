#!/usr/bin/env python3
"""Measures latency at constant rates (benches/peers/open_loop.rs), and prints a table.

    latency.py [--rounds 5] [--seconds 3] [--connections 16] [--frameworks [NAME]...] [--beside 'NAME=COMMAND WITH {port}']...
               [--plot FILE.svg]
    latency.py --workers N | --computing N [--rounds 5] [--seconds 3] [--connections 16]

Each server is pinned to CPU 0 and the generator to CPU 1. wrk finds the rate at which a server is saturated; then
interleaved rounds load each server at shares of its own saturation. Figures are medians of the rounds. The latency of a
request counts from the time at which it was due. Needs wrk and `make load` or its builds.

With --workers only fibsrv is measured: with one worker on CPU 0, and with N on CPUs 0 and 1, where the generator is, too.
With --computing only fibsrv is measured: alone, and while N clients request distinct numbers near the largest without
pause. Both use shares of the saturation of one worker alone.
"""
import argparse, contextlib, http.client, math, pathlib, random, statistics, subprocess, tempfile, threading

import load

OPEN_LOOP = load.TARGET / "release" / "examples" / "open_loop"
SHARES = [0.1, 0.5, 0.8, 0.95]
QUANTILES = ["p50", "p99", "p99.9"]
COLOURS = {"fibsrv": "#c2410c", "nginx": "#15803d", "haproxy": "#1d4ed8", "hyper": "#7c3aed"}


def saturation(server):
    """Returns the requests per second of a closed loop."""
    return load.load(server, "keep-alive, 64 connections", 2, None)["rate"]


def measure(server, rate, args):
    """Returns the quantiles in microseconds at a constant rate, or infinity if the server does not keep up."""
    command = [OPEN_LOOP, server.port, args.connections, int(rate), args.seconds]
    ran = subprocess.run(load.pinned(1, list(map(str, command))), capture_output=True, text=True, timeout=args.seconds + 30)
    if ran.returncode != 0:
        return [math.inf] * len(QUANTILES)
    return [float(value) for value in ran.stdout.split(",")[1:4]]


@contextlib.contextmanager
def computing(port, clients):
    """Has clients request distinct large numbers, until the block ends."""
    stop, numbers = threading.Event(), iter(random.sample(range(9_000_000, 10_000_000), 100_000))

    def request():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        while not stop.is_set():
            connection.request("GET", f"{load.PATH}{next(numbers)}")
            connection.getresponse().read()
        connection.close()

    threads = [threading.Thread(target=request) for _ in range(clients)]
    try:
        for thread in threads:
            thread.start()
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def compare(args):
    """Measures fibsrv alone, and with more workers or beside computations. Yields a name, a share and the quantiles."""
    command = f"{load.BINARY} --listen 127.0.0.1:{{port}}"
    with contextlib.ExitStack() as running:
        one = load.Server("one worker", command)
        running.callback(one.stop)
        other = one
        if args.workers:
            other = load.Server(f"{args.workers} workers", f"{command} --workers {args.workers}", cpus="0-1")
            running.callback(other.stop)
        rate = statistics.median(saturation(one) for _ in range(3))
        print(f"saturation of one worker: {rate:,.0f} requests/s\n")
        for _ in range(args.rounds):
            for share in SHARES:
                yield one.name, share, measure(one, rate * share, args)
                with computing(other.port, args.computing):
                    name = other.name if args.workers else f"beside {args.computing} clients that request large numbers"
                    yield name, share, measure(other, rate * share, args)


def median_cell(rows):
    """Returns the medians of rows of quantiles, as a cell of a table."""
    return " / ".join(f"{statistics.median(column):,.0f}" for column in zip(*rows))


def print_comparison(args):
    """Prints the medians of `compare`."""
    rounds = {}
    for name, share, quantiles in compare(args):
        rounds.setdefault(name, {}).setdefault(share, []).append(quantiles)
    print("| fibsrv |", *(f"{share:.0%} |" for share in SHARES))
    print("|---|" + "---:|" * len(SHARES))
    for name, shares in rounds.items():
        print(f"| {name} | {' | '.join(map(median_cell, shares.values()))} |")
    print(f"\n{' / '.join(QUANTILES)} in µs; medians of {args.rounds} rounds of {args.seconds} s, {args.connections} connections.")


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=int, default=3)
    options.add_argument("--connections", type=int, default=16)
    options.add_argument("--frameworks", nargs="*", choices=load.FRAMEWORKS, metavar="NAME")
    options.add_argument("--beside", action="append", default=[], metavar="NAME=COMMAND")
    options.add_argument("--plot", metavar="FILE")
    options.add_argument("--workers", type=int, default=0)
    options.add_argument("--computing", type=int, default=0)
    args = options.parse_args()
    if args.workers or args.computing:
        print_comparison(args)
        return
    args.alone = False
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as running:
        servers = [server for server in load.start(args, folder, running)
                   if server.name != "limit" and "," not in server.name]
        print("; ".join(load.versions(servers)), end="\n\n")
        rates = {server.name: statistics.median(saturation(server) for _ in range(3)) for server in servers}
        rounds = {(server.name, share): [] for server in servers for share in SHARES}
        for _ in range(args.rounds):
            for share in SHARES:
                for server in servers:
                    rounds[server.name, share].append(measure(server, rates[server.name] * share, args))
        medians = {key: [statistics.median(column) for column in zip(*rows)] for key, rows in rounds.items()}
        print("| server | saturation, requests/s |", *(f"{share:.0%} |" for share in SHARES))
        print("|---|---:|" + "---:|" * len(SHARES))
        for server in servers:
            cells = (median_cell(rounds[server.name, share]) for share in SHARES)
            print(f"| {server.name} | {rates[server.name]:,.0f} | {' | '.join(cells)} |")
        print(f"\n{' / '.join(QUANTILES)} in µs; medians of {args.rounds} rounds of {args.seconds} s, {args.connections} connections.")
        if args.plot:
            pathlib.Path(args.plot).write_text(plot(servers, medians))


def plot(servers, medians):
    """Draws p99.9 against the share of saturation, for each server, as SVG."""
    left, right, top, bottom, width, height = 80, 130, 30, 50, 700, 360
    finite = [values[2] for values in medians.values() if math.isfinite(values[2])]
    low, high = 10 ** math.floor(math.log10(min(finite))), 10 ** math.ceil(math.log10(max(finite)))
    x = lambda share: left + (width - left - right) * share
    y = lambda value: height - bottom - (height - top - bottom) * math.log(value / low) / math.log(high / low)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">',
        "<title>99.9th percentile of latency against the share of each server's own saturation</title>",
        "<style>svg{color:#374151;background:#fff}@media(prefers-color-scheme: dark){svg{color:#d1d5db;background:#111827}}"
        "text{fill:currentColor}.grid{stroke:currentColor;opacity:.2}</style>",
        f'<text x="{left}" y="{top - 12}">p99.9</text>',
    ]
    for exponent in range(round(math.log10(low)), round(math.log10(high)) + 1):
        value, label = 10**exponent, f"{10**exponent:,} µs" if exponent < 3 else f"{10**(exponent - 3):,} ms"
        out.append(f'<line class="grid" x1="{left}" y1="{y(value):.1f}" x2="{width - right}" y2="{y(value):.1f}"/>')
        out.append(f'<text x="{left - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{label}</text>')
    for share in SHARES:
        out.append(f'<text x="{x(share):.1f}" y="{height - bottom + 20}" text-anchor="middle">{share:.0%}</text>')
    out.append(f'<text x="{(left + width - right) / 2}" y="{height - 8}" text-anchor="middle">of the rate at saturation</text>')
    label_y = math.inf
    for server in sorted(servers, key=lambda server: medians[server.name, SHARES[-1]][2]):
        points = [(share, medians[server.name, share][2]) for share in SHARES]
        points = [(share, value) for share, value in points if math.isfinite(value)]
        if points:
            colour = COLOURS.get(server.name, "#6b7280")
            line = " ".join(f"{x(share):.1f},{y(value):.1f}" for share, value in points)
            out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
            out += [f'<circle cx="{x(share):.1f}" cy="{y(value):.1f}" r="3" fill="{colour}"/>' for share, value in points]
            share, value = points[-1]
            label_y = min(y(value) + 4, label_y - 15)  # above the label below
            out.append(f'<text x="{x(share) + 8:.1f}" y="{label_y:.1f}" style="fill:{colour}">{server.name}</text>')
    return "\n".join([*out, "</svg>", ""])


if __name__ == "__main__":
    main()
