#!/usr/bin/env python3
"""Upgrades a supervisor under load between two builds with different metrics, in both directions.

The second build has another handler, another reason to reject a request and another metric, so that the places of
nearly all series differ. Its source is a copy of this one with a line or two inserted. It is built below target/versions,
which takes as long as building the server for the first time.
"""

import http.client
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORK = ROOT / "target" / "versions"
HOST = "127.0.77.9"
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 10
CLIENTS = 4
UPGRADE_S = 20
ANSWERED = 'fibsrv_requests_total{handler="fibonacci",method="GET",code="200"}'
DURATIONS = 'fibsrv_request_duration_seconds_count{handler="fibonacci"}'
# File below src, line to insert behind (as a pattern), what to insert. The first match counts.
CHANGES = [
    ("metrics/labels.rs", r'Metrics = "metrics";\n', '    /// Other.\n    Other = "other";\n'),
    (
        "metrics/families.rs",
        r"\nfamilies! \{\n",
        '    OTHER: Counter, "fibsrv_other", "Other.";\n',
    ),
    (
        "metrics/slot.rs",
        r"self\.add\(families::PROCESS_CPU, \w+\);\n",
        "        self.add(families::OTHER, 1);\n",
    ),
    ("http/request/reject.rs", r"pub enum Reject \{\n", "    /// Other.\n    Other,\n"),
    ("http/request/reject.rs", r"ALL: \[Self; \d+\] = \[\n", "        Self::Other,\n"),
    (
        "http/request/reject.rs",
        r"fn as_str[^{]*\{\n +match self \{\n",
        '            Self::Other => "other",\n',
    ),
    (
        "http/request/reject.rs",
        r"fn status[^{]*\{\n +match self \{\n",
        "            Self::Other => Status::BadRequest,\n",
    ),
    (
        "http/request/reject.rs",
        r"fn text[^{]*\{\n +match self \{\n",
        '            Self::Other => "other\\n",\n',
    ),
]


def build_other():
    """Copies the source, changes its metrics and builds it."""
    source = WORK / "source"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns("target", ".git", "corpus"))
    for name, behind, inserted in CHANGES:
        path = source / "src" / name
        text = path.read_text()
        match = re.search(behind, text) or sys.exit(f"versions.py: {name} has no {behind!r}")
        text = text[: match.end()] + inserted + text[match.end() :]
        path.write_text(re.sub(r"ALL: \[Self; \d+\]", count_rejects, text))
    return build(source, WORK / "target")


def count_rejects(match):
    listed = match.string[match.end() :].split("]", 1)[0]
    return f"ALL: [Self; {listed.count('Self::')}]"


def build(source, target):
    command = ["cargo", "build", "--locked", "--target-dir", target]
    subprocess.run(command, cwd=source, check=True)
    return target / "debug" / "fibsrv"


class Server:
    """A supervisor with two workers, whose executable can be replaced."""

    def __init__(self, binary):
        self.path = WORK / "fibsrv"
        self.lines = []
        self.install(binary)
        command = [self.path, "--listen", f"{HOST}:0", "--workers", "2", "--table-max-n", "100"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        threading.Thread(target=self.read, daemon=True).start()
        address = rf"{re.escape(HOST)}:([1-9]\d*)"
        self.port = int(wait("an address", lambda: re.search(address, "".join(self.lines)))[1])

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line)

    def install(self, binary):
        new = self.path.with_suffix(".new")
        shutil.copy(binary, new)
        new.rename(self.path)

    def get(self, target):
        connection = http.client.HTTPConnection(HOST, self.port, timeout=10)
        connection.request("GET", target)
        body = connection.getresponse().read().decode()
        connection.close()
        return body

    def scrape(self):
        lines = self.get("/metrics").splitlines()
        samples = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in samples}


def wait(what, condition):
    end = time.monotonic() + UPGRADE_S
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    sys.exit(f"versions.py: waited in vain for {what}")


class Client(threading.Thread):
    """Sends requests, each on a new connection, until it is stopped."""

    def __init__(self, server, stop):
        super().__init__()
        self.server, self.stop = server, stop
        self.sent, self.failures = 0, []

    def run(self):
        while not self.stop.is_set():
            try:
                body = self.server.get("/api/fibonacci/20")
                if body != "6765":
                    raise ValueError(body)
                self.sent += 1
            except (OSError, ValueError, http.client.HTTPException) as error:
                self.failures.append(error)


def upgrade(server, binary, has_other, last):
    """Upgrades, and scrapes meanwhile; returns the last samples."""
    server.install(binary)
    server.process.send_signal(signal.SIGHUP)
    samples = last

    def is_complete():
        nonlocal samples
        found = server.scrape()
        for name in (ANSWERED, DURATIONS):
            if found[name] < samples.get(name, 0):
                sys.exit(f"versions.py: {name} fell from {samples[name]} to {found[name]}")
        samples = found
        return ("fibsrv_other_total" in found) == has_other and found["fibsrv_workers"] == 2

    wait("an upgrade", is_complete)
    return samples


def main():
    WORK.mkdir(parents=True, exist_ok=True)
    this, other = build(ROOT, ROOT / "target"), build_other()
    server, stop = Server(this), threading.Event()
    clients = [Client(server, stop) for _ in range(CLIENTS)]
    try:
        for client in clients:
            client.start()
        samples, others = {}, 0
        for count in range(ROUNDS):
            has_other = count % 2 == 0
            samples = upgrade(server, other if has_other else this, has_other, samples)
            if has_other:
                found = samples["fibsrv_other_total"]
                if found <= others:
                    sys.exit(f"versions.py: the other build had counted {others}, now {found}")
                others = found
    finally:
        stop.set()
        for client in clients:
            if client.ident:
                client.join()
    sent = sum(client.sent for client in clients)
    failures = [failure for client in clients for failure in client.failures]
    counted = server.scrape()[ANSWERED]
    server.process.terminate()
    server.process.wait(timeout=UPGRADE_S)
    print(f"{ROUNDS} upgrades: {sent} requests, {len(failures)} failed, {counted:.0f} counted")
    if failures or counted != sent:
        sys.exit(f"versions.py: {failures[:3]}, {''.join(server.lines[-20:])}")


if __name__ == "__main__":
    main()
