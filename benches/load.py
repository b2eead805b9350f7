#!/usr/bin/env python3
"""Loads the server and others with wrk and prints a table; `make load` calls it.

Starts bin/fibsrv on a free port of the loopback interface, pinned to CPU 0, and wrk on CPU 1 (if there are two), one
scenario after the other in interleaved rounds. On a small machine compare the CPU time per request, from the kernel's
accounting: the rate may be limited by wrk.

    load.py [--rounds 5] [--seconds 2] [--only WORD]... [--alone] [--frameworks [NAME]...] [--beside 'NAME=COMMAND WITH {port}']...

The same rounds measure for comparison: `limit` (benches/peers/limit.rs), the minimum that an event loop can do, with short
responses and with responses as long as those of fibsrv; nginx and
haproxy with a constant response, if they are installed; fibsrv with an access log in a file, and with --defer-accept in
the scenario where it matters; the servers of benches/peers/frameworks, which --frameworks builds first (in minutes); and
those of --beside. Ratios are medians of the rounds' ratios to `limit`, or to fibsrv with --alone. The versions of all
programs, and each round with --raw FILE, are part of the output.
"""
import argparse, contextlib, json, os, pathlib, re, shlex, shutil, socket, statistics, subprocess, sys, tempfile, time, urllib.request

BINARY = pathlib.Path(__file__).resolve().parent.parent / "bin" / "fibsrv"
TICK = os.sysconf("SC_CLK_TCK")
PEERS = pathlib.Path(__file__).resolve().parent / "peers"
TARGET = BINARY.parent.parent / "target"
LENGTH = 336  # bytes of the response with F(20)
LIMIT = TARGET / "release" / "examples" / "limit"
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
    "browser headers": (64, 1, BROWSER),
    "F(1000)": (64, 1, {}),
    "JSON": (64, 1, {"Accept": "application/json"}),
    "a range of F(1000)": (64, 1, {"Range": "bytes=0-99"}),
}
NUMBERS = {"F(1000)": 1000, "a range of F(1000)": 1000}
FRAMEWORKS = ["may_minihttp", "hyper", "actix", "ntex", "axum"]
PIPELINE = """
init = function(args)
  local one = {}
  for i = 1, tonumber(args[1]) do one[i] = wrk.format("GET", wrk.path) end
  batch = table.concat(one)
end
request = function() return batch end
"""
UNITS = {"us": 1, "ms": 1e3, "s": 1e6}


def pinned(cpus, command):
    """Pins the command to CPUs, a number or a range, if there is more than one."""
    if os.cpu_count() < 2 or not shutil.which("taskset"):
        return command
    return ["taskset", "-c", str(cpus), *command]


class Server:
    """A server that this script starts and stops."""

    def __init__(self, name, command, file=None, folder=None, only="", cpus=0):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.name, self.only = name, only
        if file:
            text = (PEERS / file).read_text().replace("PORT", str(self.port)).replace("FOLDER", folder)
            pathlib.Path(folder, file).write_text(text)
        words = [word.replace("{port}", str(self.port)) for word in shlex.split(command)]
        self.process = subprocess.Popen(pinned(cpus, words), stdout=subprocess.DEVNULL)
        for _ in range(100):
            try:
                response = urllib.request.urlopen(f"http://127.0.0.1:{self.port}{PATH}20", timeout=2).read()
                if response != b"6765":
                    sys.exit(f"{name}: F(20) is {response[:60]!r}")
                return
            except OSError:
                if self.process.poll() is not None:
                    sys.exit(f"{name}: exited at start with status {self.process.returncode}")
                time.sleep(0.05)
        sys.exit(f"{name}: no response on port {self.port}")

    def cpu_seconds(self):
        """Returns the CPU time of the process and its children in user space and in total. The kernel measures the total
        and estimates the share of user space."""
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
    """Runs wrk once; returns its figures and the CPU time of the server."""
    connections, depth, fields = SCENARIOS[scenario]
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    for name, value in fields.items():
        command += ["-H", f"{name}: {value}"]
    if depth > 1:
        command += ["-s", script]
    command += [f"http://127.0.0.1:{server.port}{PATH}{NUMBERS.get(scenario, 20)}"] + (["--", str(depth)] if depth > 1 else [])
    before = server.cpu_seconds()
    out = subprocess.run(pinned(1, command), capture_output=True, text=True, timeout=seconds + 30).stdout
    user, total = (end - start for end, start in zip(server.cpu_seconds(), before))
    requests = max(int(re.search(r"(\d+) requests in", out)[1]), 1)
    errors = re.search(r"(Socket errors|Non-2xx).*", out)
    if errors and depth == 1:
        print(f"{server.name}, {scenario}: {errors[0]}", file=sys.stderr)

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
    options.add_argument("--only", action="append", default=[], metavar="WORD", help="only scenarios with this in their names")
    options.add_argument("--alone", action="store_true", help="no other servers than those of --beside")
    options.add_argument("--frameworks", nargs="*", choices=FRAMEWORKS, metavar="NAME", help=", ".join(FRAMEWORKS) + "; all without a name")
    options.add_argument("--raw", metavar="FILE", help="append the figures of each round as JSON lines")
    options.add_argument("--beside", action="append", default=[], metavar="NAME=COMMAND")
    args = options.parse_args()
    if not shutil.which("wrk"):
        sys.exit("wrk is missing: `apt-get install wrk`")
    if not BINARY.exists():
        sys.exit(f"{BINARY} is missing: `make build`")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as running:
        pathlib.Path(folder, "pipeline.lua").write_text(PIPELINE)
        servers = start(args, folder, running)
        print("; ".join(versions(servers)), end="\n\n")
        first = servers[0].name
        print(f"| scenario | server | requests/s | p50 µs | p99 µs | CPU µs/request | user space | CPU ÷ {first} | in all rounds |")
        print("|---|---|---:|---:|---:|---:|---:|---:|---:|", flush=True)
        for scenario in SCENARIOS:
            if args.only and not any(word in scenario for word in args.only):
                continue
            selected = [server for server in servers if server.only in scenario]
            runs = {server.name: [] for server in selected}
            for _ in range(args.rounds):
                for server in selected:
                    runs[server.name].append(load(server, scenario, args.seconds, f"{folder}/pipeline.lua"))
            if args.raw:
                with open(args.raw, "a") as raw:
                    for name, rows in runs.items():
                        raw.write(json.dumps({"scenario": scenario, "server": name, "rounds": rows}) + "\n")
            for name, rows in runs.items():
                medians = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
                ratios = sorted(a["total"] / max(b["total"], 1e-9) for a, b in zip(rows, runs[first]))
                print(f"| {scenario} | {name} | {medians['rate']:,.0f} | {medians['p50']:.0f} | {medians['p99']:.0f} | "
                      f"{medians['total']:.2f} | {medians['user']:.2f} | {statistics.median(ratios):.2f} | "
                      f"{ratios[0]:.2f} to {ratios[-1]:.2f} |", flush=True)


def start(args, folder, running):
    """Starts all servers; the first is the one that ratios refer to."""
    ours = f"{shlex.quote(str(BINARY))} --listen 127.0.0.1:{{port}}"
    commands = [("fibsrv", ours, None)]
    deferred = "fibsrv, --defer-accept 1s"
    if not args.alone:
        limit = f"{shlex.quote(str(LIMIT))} {{port}}"
        commands = [("limit", limit, None), (f"limit, {LENGTH} bytes", f"{limit} {LENGTH}", None), *commands,
                  ("fibsrv, access log", f"{ours} --access-log combined --access-log-file {folder}/access.log", None),
                  (deferred, f"{ours} --defer-accept 1s", None)]
        for program, command, file in [("nginx", f"nginx -p {folder} -c {folder}/nginx.conf", "nginx.conf"),
                                       ("haproxy", f"haproxy -db -f {folder}/haproxy.cfg", "haproxy.cfg")]:
            if shutil.which(program):
                commands.append((program, command, file))
            else:
                print(f"{program} is not installed and is skipped", file=sys.stderr)
    if args.frameworks is not None:
        build = ["cargo", "build", "--release", "--locked", "--target-dir", TARGET / "frameworks"]
        subprocess.run(build, cwd=PEERS / "frameworks", check=True)
        programs = TARGET / "frameworks" / "release"
        commands += [(name, f"{shlex.quote(str(programs / name))} {{port}}", None) for name in args.frameworks or FRAMEWORKS]
    commands += [(*beside.split("=", 1), None) for beside in args.beside]
    servers = []
    for name, command, file in commands:
        only = "a connection per request" if name == deferred else ""
        servers.append(Server(name, command, file, folder, only))
        running.callback(servers[-1].stop)
    return servers


def versions(servers):
    """Returns the version of each program, of the kernel and of wrk."""
    def first_line(*command):
        ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return ran.stdout.splitlines()[0] if ran.stdout else " ".join(command)

    found = [f"Linux {os.uname().release}", first_line("wrk", "-v").split(" [")[0], first_line(BINARY, "--version")]
    locked = (PEERS / "frameworks" / "Cargo.lock").read_text()
    names = [server.name for server in servers]
    for name in names:
        package = re.search(rf'name = "{name}(?:-web)?"\nversion = "(.+)"', locked)
        if name in FRAMEWORKS and package:
            found.append(f"{name} {package[1]}")
    return found + [first_line(name, "-v") for name in ("nginx", "haproxy") if name in names]


if __name__ == "__main__":
    main()
