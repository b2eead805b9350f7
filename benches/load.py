#!/usr/bin/env python3
"""Load the server with wrk beside others and print a table: `make load` calls this.

Starts bin/fibsrv on a free port of the loopback interface, alone on processor 0, and wrk on processor 1
(where there are two), one scenario after the other in interleaved rounds. The figure to trust on a small
machine is the processor time per request, from the kernel's accounting: the rate may be wrk's own limit.

    load.py [--rounds 5] [--seconds 2] [--only WORD]... [--alone] [--beside 'NAME=COMMAND WITH {port}']...

Beside it run, in the same rounds: `limit` (benches/peers/limit.rs), which does the least that an event loop can; nginx
and haproxy with a constant answer, where they are installed; fibsrv with an access log into a file, and with
--defer-accept where that matters; and what --beside says. Ratios are medians of the rounds' ratios to `limit`, or to fibsrv with --alone.
"""
import argparse, contextlib, os, pathlib, re, shlex, shutil, socket, statistics, subprocess, sys, tempfile, time, urllib.request

BINARY = pathlib.Path(__file__).resolve().parent.parent / "bin" / "fibsrv"
TICK = os.sysconf("SC_CLK_TCK")
PEERS = pathlib.Path(__file__).resolve().parent / "peers"
LIMIT = BINARY.parent.parent / "target" / "release" / "examples" / "limit"
PATH = "/api/fibonacci/"
BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-US,en;q=0.5",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Cookie": "session=0123456789abcdef0123456789abcdef",
}
SCENARIOS = {  # name: (connections, requests per write, fields)
    "keep-alive, 64 connections": (64, 1, {}),
    "keep-alive, 256 connections": (256, 1, {}),
    "pipelined by 16": (64, 16, {}),
    "a connection per request": (64, 1, {"Connection": "close"}),
    "a browser's fields": (64, 1, BROWSER),
    "F(1000)": (64, 1, {}),
}
NUMBERS = {"F(1000)": 1000}
PIPELINE = """
init = function(args)
  local one = {}
  for i = 1, tonumber(args[1]) do one[i] = wrk.format("GET", wrk.path) end
  batch = table.concat(one)
end
request = function() return batch end
"""
UNITS = {"us": 1, "ms": 1e3, "s": 1e6}


def pinned(processor, command):
    """The command on a processor of its own, if there is one."""
    if os.cpu_count() < 2 or not shutil.which("taskset"):
        return command
    return ["taskset", "-c", str(processor), *command]


class Server:
    """A server that this script started, and ends."""

    def __init__(self, name, command, file=None, folder=None, only=""):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.name, self.only = name, only
        if file:
            text = (PEERS / file).read_text().replace("PORT", str(self.port)).replace("FOLDER", folder)
            pathlib.Path(folder, file).write_text(text)
        words = [word.replace("{port}", str(self.port)) for word in shlex.split(command)]
        self.process = subprocess.Popen(pinned(0, words), stdout=subprocess.DEVNULL)
        for _ in range(100):
            try:
                answer = urllib.request.urlopen(f"http://127.0.0.1:{self.port}{PATH}20", timeout=2).read()
                if answer != b"6765":
                    sys.exit(f"{name}: F(20) is not {answer[:60]!r}")
                return
            except OSError:
                if self.process.poll() is not None:
                    sys.exit(f"{name}: ended at start with status {self.process.returncode}")
                time.sleep(0.05)
        sys.exit(f"{name}: no answer on port {self.port}")

    def processor_seconds(self):
        """Time so far in user space, and in all, of the process and its children. The kernel measures the sum and estimates
        how it divides."""
        pids, user, total = [self.process.pid], 0, 0
        for pid in pids:
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            user += int(fields[11])
            for thread in pathlib.Path(f"/proc/{pid}/task").iterdir():
                total += int((thread / "schedstat").read_text().split()[0])
                pids += map(int, (thread / "children").read_text().split())
        return user / TICK, total / 1e9

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def load(server, scenario, seconds, script):
    """One run of wrk: what it says, and what the kernel says about the server meanwhile."""
    connections, depth, fields = SCENARIOS[scenario]
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    for name, value in fields.items():
        command += ["-H", f"{name}: {value}"]
    if depth > 1:
        command += ["-s", script]
    command += [f"http://127.0.0.1:{server.port}{PATH}{NUMBERS.get(scenario, 20)}"] + (["--", str(depth)] if depth > 1 else [])
    before = server.processor_seconds()
    out = subprocess.run(pinned(1, command), capture_output=True, text=True, timeout=seconds + 30).stdout
    user, total = (end - start for end, start in zip(server.processor_seconds(), before))
    requests = max(int(re.search(r"(\d+) requests in", out)[1]), 1)
    trouble = re.search(r"(Socket errors|Non-2xx).*", out)
    if trouble and depth == 1:
        print(f"{server.name}, {scenario}: {trouble[0]}", file=sys.stderr)

    def percentile(which):
        found = re.search(rf"{which}%\s+([\d.]+)(us|ms|s)\b", out)
        return float(found[1]) * UNITS[found[2]] if found else float("nan")

    return {
        "rate": float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]),
        "p50": percentile(50),
        "p99": percentile(99),
        "total": total / requests * 1e6,
        "user": user / requests * 1e6,
    }


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=int, default=2)
    options.add_argument("--only", action="append", default=[], metavar="WORD", help="scenarios with this in their names")
    options.add_argument("--alone", action="store_true", help="beside nobody but who is named by --beside")
    options.add_argument("--beside", action="append", default=[], metavar="NAME=COMMAND")
    args = options.parse_args()
    if not shutil.which("wrk"):
        sys.exit("wrk is needed: install it, with `apt-get install wrk` for example")
    if not BINARY.exists():
        sys.exit(f"{BINARY} is needed: `make build`")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as running:
        pathlib.Path(folder, "pipeline.lua").write_text(PIPELINE)
        servers = start(args, folder, running)
        first = servers[0].name
        print(f"| scenario | server | requests/s | p50 µs | p99 µs | CPU µs/request | in user space | CPU ÷ {first} |")
        print("|---|---|---:|---:|---:|---:|---:|---:|", flush=True)
        for scenario in SCENARIOS:
            if args.only and not any(word in scenario for word in args.only):
                continue
            meant = [server for server in servers if server.only in scenario]
            runs = {server.name: [] for server in meant}
            for _ in range(args.rounds):
                for server in meant:
                    runs[server.name].append(load(server, scenario, args.seconds, f"{folder}/pipeline.lua"))
            for name, rows in runs.items():
                middle = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
                ratio = statistics.median(a["total"] / max(b["total"], 1e-9) for a, b in zip(rows, runs[first]))
                print(f"| {scenario} | {name} | {middle['rate']:,.0f} | {middle['p50']:.0f} | {middle['p99']:.0f} | "
                      f"{middle['total']:.2f} | {middle['user']:.2f} | {ratio:.2f} |", flush=True)


def start(args, folder, running):
    """All servers, the one that ratios refer to first."""
    ours = f"{shlex.quote(str(BINARY))} --listen 127.0.0.1:{{port}}"
    wanted = [("fibsrv", ours, None)]
    deferred = "fibsrv, --defer-accept 1s"
    if not args.alone:
        wanted = [("limit", f"{shlex.quote(str(LIMIT))} {{port}}", None), *wanted,
                  ("fibsrv, access log", f"{ours} --access-log combined --access-log-file {folder}/access.log", None),
                  (deferred, f"{ours} --defer-accept 1s", None)]
        for program, command, file in [("nginx", f"nginx -p {folder} -c {folder}/nginx.conf", "nginx.conf"),
                                       ("haproxy", f"haproxy -db -f {folder}/haproxy.cfg", "haproxy.cfg")]:
            if shutil.which(program):
                wanted.append((program, command, file))
            else:
                print(f"{program} is not installed, and left out", file=sys.stderr)
    wanted += [(*beside.split("=", 1), None) for beside in args.beside]
    servers = []
    for name, command, file in wanted:
        only = "a connection per request" if name == deferred else ""
        servers.append(Server(name, command, file, folder, only))
        running.callback(servers[-1].stop)
    return servers


if __name__ == "__main__":
    main()
