#!/usr/bin/env python3
"""Traces the server with strace, and compares its system calls with those in docs/tour.md.

usage: tour.py [--update] [PROGRAM]

With --update the tables of the page are written. Only calls on sockets, polls and processes count; descriptors, process
ids and times are replaced by names, and each process has a table of its own, so a trace does not depend on the machine.
"""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "tour.md"
PORT = 39000 + os.getpid() % 1000
HOST = "127.0.84.1"
CALLS = ("accept4,getsockopt,recvfrom,sendto,writev,epoll_wait,epoll_ctl,close,shutdown,clone,clone3,execve,exit_group,wait4,"
         "listen,sendmsg,recvmsg,read,write,setpriority,sched_setattr")
# A busy machine delays a step beyond the pause between two: then the pauses are longer.
PAUSES_S = (0.2, 0.6, 2.0)

# What a descriptor is, by what strace shows of it.
KINDS = [
    (r"<TCP(?:v6)?:\[[^>]*->[^>]*\]>", "connection"),
    (r"<TCP(?:v6)?:\[[^>]*\]>", "listener"),
    (r"<anon_inode:\[eventpoll\]>", "epoll"),
    (r"<anon_inode:\[eventfd\]>", "waker"),
    (r"<anon_inode:\[signalfd\]>", "signals"),
    (r"<UNIX:\[\d+->\d+[^>]*\]>", "channel"),
    (r"<pipe:\[\d+\]>", "pipe"),
]

# For each table: pattern of a call, file below src, function, what the call is for. The first match counts.
REQUEST = [
    (r"getsockopt", "server/accept.rs", "accept_waiting", "how many connections wait in the accept queue"),
    (r"accept4.*= connection", "server/accept.rs", "accept_from", "takes the connection from the accept queue"),
    (r"recvfrom.*= 0$", "server/connection/mod.rs", "read", "end of stream: the client has closed"),
    (r"recvfrom", "server/connection/mod.rs", "read", "reads a request; it does not fill the buffer, so the socket is empty"),
    (r"sendto", "server/connection/mod.rs", "write", "writes the response: head and digits in one call"),
    (r"writev", "server/connection/mod.rs", "write", "writes the head and the shared digits, without a copy"),
    (r"epoll_ctl.*ADD, connection", "server/accept.rs", "register", "registers it, edge-triggered, once and for both directions"),
    (r"epoll_wait.*= EPOLLOUT$", "server/mod.rs", "wait", "reports only that the socket is writable: no turn"),
    (r"epoll_wait", "server/mod.rs", "wait", "waits for events"),
    (r"clone", "server/compute.rs", "start", "starts the compute thread, with the first large number"),
    (r"setpriority|sched_setattr", "server/compute.rs", "lower_priority", "small requests come first"),
    (r"write\(waker", "server/compute.rs", "run", "wakes the loop: a number is computed"),
    (r"close\(connection", "server/mod.rs", "remove_connection", "closes the socket, which deregisters it"),
]
UPGRADE = [
    (r"epoll_wait", "supervisor/mod.rs", "wait", "waits for events"),
    (r"read\(signals", "sys/signals.rs", "read", "a signal: SIGHUP, or the exit of a child"),
    (r"clone3", "supervisor/execute.rs", "spawn_rehearsal", "starts the program on disk as a rehearsal"),
    (r"clone", "supervisor/mod.rs", "start", "forks a worker of the new version"),
    (r"wait4", "supervisor/stop.rs", "reap", "reaps an exited child"),
    (r"read\(pipe.*= 0$", "supervisor/upgrade.rs", "read_available", "end of its output"),
    (r"read\(pipe", "supervisor/upgrade.rs", "read_available", "what the rehearsal has reported"),
    (r"execve", "supervisor/execute.rs", "execute_with", "becomes the new version, with the same process id and descriptors"),
    (r"listen\(listener", "start/mod.rs", "inherit", "adopts the listener, which never closed"),
    (r"read\(channel", "group/channel.rs", "take_reports", "the new worker is ready"),
    (r"sendmsg\(channel.*listener", "supervisor/sockets.rs", "announce", "sends the listener: others watch it from now on"),
    (r"sendmsg\(channel", "supervisor/stop.rs", "stop_all", "the worker of the previous version is to stop"),
]
REHEARSAL = [
    (r"execve", "supervisor/execute.rs", "spawn_rehearsal", "the program on disk"),
    (r"listen\(listener", "start/mod.rs", "rehearse", "adopts a copy of the listener"),
    (r"clone", "start/mod.rs", "rehearse", "shows that it can fork"),
    (r"wait4", "start/mod.rs", "rehearse", "and that the child exits"),
    (r"write\(pipe", "start/mod.rs", "rehearse", "reports success"),
    (r"exit_group", "start/mod.rs", "rehearse", "nothing else has changed"),
]
OLD_WORKER = [
    (r"epoll_wait", "server/mod.rs", "wait", "waits for events"),
    (r"recvmsg\(channel.*listener", "group/protocol.rs", "handle", "the listener of the new worker"),
    (r"recvmsg", "group/protocol.rs", "handle", "a request to stop: replaced"),
    (r"epoll_ctl.*DEL", "server/listeners.rs", "deregister", "stops accepting; the new worker accepts already"),
    (r"getsockopt", "server/accept.rs", "accept_waiting", "how many connections wait in the accept queue"),
    (r"accept4", "server/shutdown.rs", "drain_backlog", "no connection is left in the queue"),
    (r"listen\(listener", "sys/listener.rs", "listen", "options of a listener that it has received"),
    (r"sendmsg", "server/listeners.rs", "release", "the listener has no owner any more"),
    (r"exit_group", "start/mod.rs", "run", "no connection is left"),
]


class Mismatch(Exception):
    """The trace has a call without a rule."""


def simplify(line):
    """Returns a call with names instead of numbers, or None if it does not count."""
    call = re.match(r"(\w+)\((.*)\)\s+= (.*)$", line)
    if not call:
        return None
    name, arguments, result = call.groups()
    arguments = re.sub(r'^"[^"]*", \[.*', "program", arguments) if name == "execve" else arguments
    for pattern, kind in KINDS:
        arguments, result = (re.sub(r"\d+" + pattern, kind, text) for text in (arguments, result))
    first = arguments.split(",")[0]
    named = first in {kind for _, kind in KINDS}
    if not named and name not in ("clone", "clone3", "execve", "exit_group", "wait4", "setpriority", "sched_setattr"):
        return None
    result = re.sub(r"^-1 (\w+) .*", r"\1", result)
    if name == "epoll_wait":
        events = re.findall(r"events=([A-Z|]+)", arguments)
        return f"epoll_wait(epoll) = {', '.join(events)}" if events else None
    if name == "epoll_ctl":
        operation, target, events = re.match(
            r"epoll, EPOLL_CTL_(\w+), (\S+?),? (?:NULL|\{events=([A-Z|]+).*)", arguments).groups()
        if target not in ("connection", "listener"):
            return None
        return f"epoll_ctl(epoll, {operation}, {target}{', ' + events if events else ''})"
    if name == "accept4":
        return f"accept4(listener, SOCK_CLOEXEC|SOCK_NONBLOCK) = {result}" if first == "listener" else None
    if name == "getsockopt":
        return "getsockopt(listener, TCP_INFO)" if "TCP_INFO" in arguments else None
    if name in ("sendmsg", "recvmsg"):
        data = re.search(r'iov_base="([^"]*)"', arguments)
        passed = ", listener" if "SCM_RIGHTS" in arguments and "listener" in arguments else ""
        return f'{name}(channel, "{data[1]}"{passed})' if data else None
    if name == "wait4":
        return "wait4() = exit status 0" if "WEXITSTATUS(s) == 0" in arguments else None
    if name in ("clone", "clone3"):
        flags = "|".join(re.findall(r"CLONE_(?:VM|VFORK|THREAD|FILES)\b", arguments))
        return f"{name}({flags or 'SIGCHLD'})"
    if name in ("setpriority", "sched_setattr"):
        return f"{name}()"
    if name in ("execve", "exit_group"):
        return f"{name}({arguments})"
    if result == "EAGAIN" or first == "epoll" or (first == "channel" and '"!"' in arguments):
        return None  # nothing to read, an epoll instance closed, a heartbeat
    if name == "close" and first != "connection":
        return None
    if name == "read" and first == "signals":
        return "read(signals)"
    arguments = re.sub(r", MSG_NOSIGNAL, NULL, 0$|, 0, NULL, NULL$", "", arguments)
    arguments = re.sub(r"iov_base=|iov_len=", "", arguments).replace('"...', '…"')
    return f"{name}({arguments}) = {result}"


def calls_of(path):
    return [call for line in path.read_text().splitlines() if (call := simplify(line))]


class Server:
    """A server under strace, with a file of calls for each process and thread."""

    def __init__(self, program, folder, *flags):
        self.prefix = folder / "trace"
        self.log = open(folder / "log", "w+", encoding="utf-8")
        self.tracer = subprocess.Popen(
            ["strace", "-ff", "-yy", "-o", self.prefix, "-e", f"trace={CALLS}", "-e", "signal=none", program,
             "--listen", f"{HOST}:{PORT}", *flags], stdout=self.log, stderr=subprocess.STDOUT)
        self.await_log("listening on", 1)
        self.pid = int(re.search(r"pid=(\d+)", self.text())[1])

    def text(self):
        self.log.seek(0)
        return self.log.read()

    def await_log(self, text, count):
        for _ in range(3000):
            if self.text().count(text) >= count:
                return
            if self.tracer.poll() is not None:
                break
            time.sleep(0.01)
        raise RuntimeError(f"no {text!r} in: {self.text()}")

    def file(self, pid):
        return self.prefix.with_name(f"trace.{pid}")

    def pids(self):
        return sorted(int(path.suffix[1:]) for path in self.prefix.parent.glob("trace.*"))

    def stop(self):
        if self.tracer.poll() is None:
            os.kill(self.pid, signal.SIGTERM)
            self.tracer.wait(30)


def receive(client):
    """Receives one response."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += client.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(re.search(rb"Content-Length: (\d+)", head)[1])
    while len(body) < length:
        body += client.recv(65536)
    return body


def trace_requests(program, folder, pause_s, targets):
    """Returns the calls of the loop and of the compute thread for these requests on one connection."""
    server = Server(program, folder)
    try:
        time.sleep(pause_s)
        before = len(calls_of(server.file(server.pid)))
        # While the server is stopped, the kernel accepts the connection and the request: both wait for it.
        os.kill(server.pid, signal.SIGSTOP)
        client = socket.create_connection((HOST, PORT))
        for target in targets:
            client.sendall(f"GET {target} HTTP/1.1\r\nHost: fibsrv\r\n\r\n".encode())
            os.kill(server.pid, signal.SIGCONT)
            assert receive(client)
            time.sleep(pause_s)
        client.close()
        time.sleep(pause_s)
        loop = calls_of(server.file(server.pid))[before:]
        threads = [calls_of(server.file(pid)) for pid in server.pids() if pid != server.pid]
        return loop, threads[0] if threads else []
    finally:
        server.stop()


def trace_upgrade(program, folder, pause_s):
    """Returns the calls of supervisor, rehearsal and old worker during an upgrade."""
    server = Server(program, folder, "--workers", "1")
    try:
        time.sleep(pause_s)
        supervisor = server.file(server.pid)
        old = next(pid for pid in server.pids() if pid != server.pid)
        before = {pid: len(calls_of(server.file(pid))) for pid in (server.pid, old)}
        os.kill(server.pid, signal.SIGHUP)
        server.await_log("of the previous version exited", 1)
        time.sleep(pause_s)
        rehearsal = next(pid for pid in server.pids() if "execve" in server.file(pid).read_text() and pid != server.pid)
        return (calls_of(supervisor)[before[server.pid]:], calls_of(server.file(rehearsal)),
                calls_of(server.file(old))[before[old]:])
    finally:
        server.stop()


def table(calls, rules):
    rows = ["", "| system call | made by | for |", "|---|---|---|"]
    for call in calls:
        rule = next((rule for rule in rules if re.search(rule[0], call)), None)
        if rule is None:
            raise Mismatch(f"no rule for {call}")
        _, file, function, purpose = rule
        if not re.search(rf"\bfn {function}\b", (ROOT / "src" / file).read_text()):
            raise SystemExit(f"tour: no function {function} in src/{file}")
        shown = call.replace("|", "\\|")
        rows.append(f"| `{shown}` | `{function}` in `{file}` | {purpose} |")
    return "\n".join(rows) + "\n\n"


def trace(program, pause_s):
    """Returns all tables by name."""
    with tempfile.TemporaryDirectory() as folder:
        folders = [pathlib.Path(folder) / name for name in "abc"]
        for one in folders:
            one.mkdir()
        request, _ = trace_requests(program, folders[0], pause_s, ["/api/fibonacci/20", "/api/fibonacci/21"])
        large, thread = trace_requests(program, folders[1], pause_s, ["/api/fibonacci/100000"])
        supervisor, rehearsal, old = trace_upgrade(program, folders[2], pause_s)
    return {
        "request": table(request, REQUEST),
        "large number, event loop": table(large, REQUEST),
        "large number, compute thread": table(thread, REQUEST),
        "upgrade, supervisor": table(supervisor, UPGRADE),
        "upgrade, rehearsal": table(rehearsal, REHEARSAL),
        "upgrade, previous worker": table(old, OLD_WORKER),
    }


def difference(page, tables):
    """Returns the names of the tables that differ from those of the page, apart from lengths."""
    page = without_lengths(page)
    return [name for name, text in tables.items() if without_lengths(f"{begin(name)}{text}{END}") not in page]


def without_lengths(text):
    """A field more or less in a response changes no sequence of calls."""
    return re.sub(r"\b\d+\b(?! in )", "N", text)


def begin(name):
    return f"<!-- {name}: written by make tour -->\n"


END = "<!-- end -->\n"


def update(page, tables):
    for name, text in tables.items():
        before, _, rest = page.partition(begin(name))
        if not rest:
            raise SystemExit(f"tour: docs/tour.md has no part {name}")
        page = before + begin(name) + text + END + rest.partition(END)[2]
    PAGE.write_text(page)


def main(arguments):
    is_update = "--update" in arguments
    programs = [argument for argument in arguments if not argument.startswith("--")]
    program = programs[0] if programs else ROOT / "bin" / "fibsrv"
    problems, tables = [], {}
    for pause_s in PAUSES_S:
        try:
            tables = trace(program, pause_s)
        except Mismatch as mismatch:
            problems = [str(mismatch)]
            continue
        if is_update:
            return update(PAGE.read_text(), tables)
        problems = difference(PAGE.read_text(), tables)
        if not problems:
            rows = sum(line.startswith("| `") for text in tables.values() for line in text.splitlines())
            return print(f"tour: passed, {rows} system calls as documented")
    for problem in problems:
        print(f"tour: differs: {problem}", tables.get(problem, ""), sep="\n", file=sys.stderr)
    raise SystemExit("tour: docs/tour.md is out of date; run make tour and read what has changed")


if __name__ == "__main__":
    main(sys.argv[1:])
