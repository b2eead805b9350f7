#!/usr/bin/env python3
"""Random actions on the processes of a port, next to clients that check every response.

    chaos.py [--seed N] [--actions N] [--without NAME,...] [--server PATH] [--keep-logs DIRECTORY]

Independent processes and supervisors are started, stopped, continued, killed, terminated and upgraded, also to executables
that do not serve; the disk of the access log is filled; the lock of the shared memory is held; names of processes that
do not respond are bound. A request may fail only if a killed process had accepted its connection, and may be late only
while a stopped process holds its connection. Some process always serves; a process that no other one has been able to
reach is not ended or stopped, because nothing else holds its listeners. After the last action, all processes report within 3 s that their
metrics are shared, and how many workers there are. No response is missing in the total.

Prints the seed, and on failure all actions. The same seed gives the same choices as far as the timing of the processes
allows. Needs root and Debian's iproute2 and util-linux; everything runs in namespaces that end with the program.
"""

import argparse
import fcntl
import os
import pathlib
import random
import signal
import socket
import struct
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "deploy"))

import metrics  # noqa: E402
import netns  # noqa: E402
from clients import NOTED_S, Clients  # noqa: E402
from members import BROKEN, WORKERS, Member, age, children, handles_hangup, is_alive, stop  # noqa: E402

HOST = "127.0.77.10"
PAUSE_MAX_S = 0.2
SETTLE_S = 3.0
MEMBERS_MAX = 5
STOPPED_MAX = 2
STOPPED_S = 4.0
"""Longest time for which a process remains stopped."""
YOUNG_S = 1.0
"""A process that is younger is not relied on. Members that have run side by side for so long have exchanged listeners."""
DISK = pathlib.Path("/run/disk")
DISK_SIZE = "4m"
ACCESS_LOG = DISK / "access.log"
FLAGS = ["--table-max-n", "1000", "--drain-grace", "1s", "--drain-timeout", "2s", "--access-log", "combined",
         "--access-log-file", ACCESS_LOG]
OFD_SETLK = 37  # F_OFD_SETLK, which the module fcntl lacks in older versions

WEIGHTS = {"kill": 4, "stop": 4, "resume": 4, "terminate": 3, "hang_up": 4, "start": 5, "break_executable": 3, "mend": 2,
           "fill_disk": 1, "free_disk": 2, "lock": 1, "unlock": 2, "bind_name": 1, "release_name": 2}


class Chaos:
    """The processes, and what has been done to them. Each action returns its description, or none if it is impossible."""

    def __init__(self, seed, server, without):
        self.rng = random.Random(seed)
        self.weights = {name: weight for name, weight in WEIGHTS.items() if name not in without}
        self.began = time.monotonic()
        self.actions, self.members, self.accepted, self.problems = [], [], [], []
        self.stopped, self.locked, self.name, self.started = {}, None, None, 0
        self.directory = pathlib.Path("/run/members")
        self.directory.mkdir()
        (self.directory / "fibsrv").write_bytes(server.read_bytes())
        (self.directory / "fibsrv").chmod(0o755)
        DISK.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_SIZE}", "tmpfs", DISK], check=True)
        # Bound and not listening: it reserves the port and receives nothing.
        self.port = socket.socket()
        self.port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.port.bind((HOST, 0))
        self.address = self.port.getsockname()
        for workers in (0, 0, WORKERS):
            self.start_member(workers)
            netns.until("the members serve", self.members[-1].is_ready)

    def note(self, text):
        self.actions.append(f"{time.monotonic():.3f} {text}")

    def act(self):
        """Performs one random action."""
        self.observe()
        names, weights = list(self.weights), list(self.weights.values())
        while True:
            name = self.rng.choices(names, weights)[0]
            if done := getattr(self, name)():
                return self.note(f"{name.replace('_', ' ')}: {done}")

    def observe(self):
        """Continues what has been stopped for too long, and detects exits."""
        for pid, accepted in list(self.stopped.items()):
            if not is_alive(pid):
                # Its supervisor has replaced it.
                self.note(f"stopped process {pid} has exited")
                accepted.until, accepted.is_killed = time.monotonic(), True
                del self.stopped[pid]
            elif time.monotonic() - accepted.since > STOPPED_S:
                self.note(f"resume: {self.resume_process(pid)}")
        self.acquaint()
        for member in [member for member in self.members if not member.is_running()]:
            self.members.remove(member)
            status = member.popen.returncode
            self.note(f"{member} exited with {status}")
            if not member.is_leaving or status not in (0, -signal.SIGKILL):
                self.problems.append(f"{member} exited with {status}: {member.log()[-1500:]}")

    # Choices

    def staying(self):
        return [member for member in self.members if not member.is_leaving]

    def can_lose(self, lost, victims):
        """Returns whether a process that serves remains without these, which belong to `lost`, and holds its listeners."""
        remaining = [member for member in self.staying() if lost.pid not in victims or member.number in lost.acquainted]
        return any(pid not in victims and pid not in self.stopped and age(pid) > YOUNG_S
                   for member in remaining for pid in member.serving())

    def acquaint(self):
        """Notes which members have been able to reach each other."""
        present = [member for member in self.staying()
                   if member.is_ready() and member.pid not in self.stopped
                   and time.monotonic() - member.resumed > YOUNG_S]
        for member in present:
            member.acquainted.update(other.number for other in present if other is not member)

    def pick(self, choices):
        return self.rng.choice(choices) if choices else None

    def pick_process(self):
        """Returns a process, and all processes that end with it."""
        member = self.pick(self.members)
        workers = children(member.pid)
        if not workers or self.rng.random() < 0.3:
            return member, member.pid, [member.pid, *workers]
        pid = self.rng.choice(workers)
        return member, pid, [pid]

    # Actions

    def kill(self):
        member, pid, victims = self.pick_process()
        if not self.can_lose(member, victims):
            return None
        accepted = self.stopped.pop(pid, None) or stop(pid)
        if accepted is None:
            return None
        accepted.is_killed = True
        self.accepted.append(accepted)
        member.is_leaving |= pid == member.pid
        netns.signal_all([pid], signal.SIGKILL)
        if pid == member.pid:
            member.popen.wait(10)
            for worker in victims:
                # Its stopped workers cannot leave.
                if worker in self.stopped:
                    self.resume_process(worker)
        return f"{pid} of {member}"

    def stop(self):
        member, pid, victims = self.pick_process()
        if len(self.stopped) >= STOPPED_MAX or pid in self.stopped or not self.can_lose(member, [pid]):
            return None
        accepted = stop(pid)
        if accepted is None:
            return None
        self.stopped[pid] = accepted
        self.accepted.append(accepted)
        return f"{pid} of {member}"

    def resume(self):
        pid = self.pick(list(self.stopped))
        return self.resume_process(pid) if pid else None

    def resume_process(self, pid):
        accepted = self.stopped.pop(pid)
        accepted.is_killed = not is_alive(pid)
        netns.signal_all([pid], signal.SIGCONT)
        accepted.until = time.monotonic()
        for member in self.members:
            if member.pid == pid:
                member.resumed = accepted.until
        return str(pid)

    def terminate(self):
        member = self.pick(self.staying())
        if not member or not self.can_lose(member, [member.pid, *children(member.pid)]):
            return None
        if not member.is_ready():
            return None
        member.is_leaving = True
        # As a service manager does that signals all processes of a service.
        as_group = member.workers and self.rng.random() < 0.5
        netns.signal_all([member.pid, *(children(member.pid) if as_group else [])], signal.SIGTERM)
        return f"{member}{' and its workers' if as_group else ''}"

    def hang_up(self):
        member = self.pick(self.staying())
        if not member or not handles_hangup(member.pid):
            return None
        netns.signal_all([member.pid], signal.SIGHUP)
        return str(member)

    def start(self):
        if len(self.members) >= MEMBERS_MAX:
            return None
        return str(self.start_member(self.rng.choice([0, WORKERS])))

    def start_member(self, workers):
        member = Member(self.started, self.directory, self.address, workers, FLAGS)
        self.started += 1
        self.members.append(member)
        return member

    def break_executable(self):
        member = self.pick([member for member in self.staying() if member.workers and not member.is_broken])
        if not member or not handles_hangup(member.pid):
            return None
        kind = self.rng.choice(list(BROKEN))
        member.break_executable(kind)
        netns.signal_all([member.pid], signal.SIGHUP)
        return f"{kind}, and SIGHUP: {member}"

    def mend(self):
        member = self.pick([member for member in self.members if member.is_broken])
        if not member:
            return None
        member.mend()
        return str(member)

    def fill_disk(self):
        try:
            with (DISK / "ballast").open("ab", buffering=0) as ballast:
                while True:
                    ballast.write(bytes(65536))
        except OSError as error:
            return str(error)

    def free_disk(self):
        if not (DISK / "ballast").exists():
            return None
        (DISK / "ballast").unlink()
        os.truncate(ACCESS_LOG, 0)
        return "done"

    def lock(self):
        """Locks the byte of the shared memory with which processes enter and leave it one at a time."""
        member = self.pick([member for member in self.members if not member.workers and member.is_ready()])
        if self.locked or not member:
            return None
        try:
            for entry in pathlib.Path(f"/proc/{member.pid}/fd").iterdir():
                if os.readlink(entry).startswith("/memfd:fibsrv"):
                    memory = entry.open("r+b", buffering=0)
                    fcntl.fcntl(memory, OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0))
                    self.locked = memory
                    return f"memory of {member}"
        except (FileNotFoundError, ProcessLookupError, BlockingIOError):
            pass
        return None

    def unlock(self):
        if not self.locked:
            return None
        self.locked.close()
        self.locked = None
        return "done"

    def bind_name(self):
        """Listens at the name of a process on the port that never responds."""
        if self.name:
            return None
        self.name = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        number = self.rng.choice([1, time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000, 2**63])
        self.name.bind(f"\0fibsrv.{self.address[0]}:{self.address[1]}.{number:x}")
        self.name.listen(1)
        return f"{number:x}"

    def release_name(self):
        if not self.name:
            return None
        self.name.close()
        self.name = None
        return "done"

    # The end

    def restore(self):
        """Undoes all that can be undone."""
        for pid in list(self.stopped):
            self.note(f"resume: {self.resume_process(pid)}")
        self.unlock()
        self.release_name()
        self.free_disk()
        for member in self.members:
            member.mend()
        self.note("the last action")

    def check_metrics(self):
        """Waits until each process has reported shared metrics and the right number of workers."""
        end, seen = time.monotonic() + SETTLE_S, {}
        while True:
            self.observe()
            members = self.staying()
            pids = [pid for member in members for pid in member.serving()]
            expected = ("1", str(sum(member.workers or 1 for member in members)))
            try:
                seen.update(metrics.scrape_each(self.address, pids))
            except metrics.ERRORS as error:
                self.problems.append(f"scrape at {time.monotonic():.3f}: {error!r}")
            if len(pids) == int(expected[1]) and all(seen.get(pid) == expected for pid in pids):
                return self.note("metrics are right in every process")
            if time.monotonic() > end:
                found = {pid: seen.get(pid, "never seen") for pid in pids}
                return self.problems.append(f"after {SETTLE_S} s: {found}, not {expected} in each; {self.states()}")

    def states(self):
        return [(str(member), member.is_leaving, children(member.pid)) for member in self.members]

    def is_disturbed(self):
        """Returns whether processes on the port may be unable to reach each other."""
        return bool(self.stopped or self.locked or self.name)

    def check_total(self, clients):
        """No response is missing in the total of a process whose metrics are shared, and it is not above the requests."""
        received = clients.responses
        try:
            samples = metrics.scrape(self.address)
        except metrics.ERRORS as error:
            return self.problems.append(f"no total at {time.monotonic():.3f}: {error!r}")
        total = float(samples.get(metrics.TOTAL, 0))
        if samples[metrics.SHARED] == "1" and not received <= total <= clients.sent:
            self.note(text := f"{total:.0f} counted, {received} received, {clients.sent} sent")
            self.problems.append(text)
        return None

    def finish(self):
        """Terminates all members, which must exit with success."""
        for member in self.staying():
            member.is_leaving = True
            netns.signal_all([member.pid], signal.SIGTERM)
        try:
            netns.until("all have exited", lambda: self.observe() or not self.members)
        except TimeoutError as error:
            self.problems.append(f"{error}: {self.states()}")


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seed", type=int, default=random.randrange(10**6))
    options.add_argument("--actions", type=int, default=300)
    options.add_argument("--without", default="", metavar="NAME,...", help=f"actions to leave out: {', '.join(WEIGHTS)}")
    options.add_argument("--server", type=pathlib.Path, default=ROOT / "bin" / "fibsrv")
    options.add_argument("--keep-logs", type=pathlib.Path, metavar="DIRECTORY", help="copy the logs there")
    options = options.parse_args()
    netns.enter(seconds=60 + options.actions)
    if not options.server.exists():
        sys.exit(f"{options.server} is missing: run make build")
    print(f"chaos: seed {options.seed}", flush=True)
    chaos = Chaos(options.seed, options.server, options.without.split(","))
    clients = Clients(chaos.address, options.seed)
    clients.start()
    try:
        for _ in range(options.actions):
            chaos.act()
            if not (chaos.problems or chaos.is_disturbed()):
                chaos.check_total(clients)
            if chaos.rng.random() < 0.8:
                time.sleep(chaos.rng.uniform(0, PAUSE_MAX_S))
        chaos.restore()
        chaos.check_metrics()
    except BaseException:
        print("\n".join(chaos.actions))
        raise
    finally:
        clients.stop()
    chaos.check_total(clients)
    chaos.finish()
    report(chaos, clients, options)


def report(chaos, clients, options):
    unexcused, late = clients.unexcused(chaos.accepted), clients.late(chaos.accepted)
    excused = sum(not failure.is_late for failure in clients.failures) - sum(not failure.is_late for failure in unexcused)
    slowest = max([NOTED_S, *(failure.wait(chaos.accepted) for failure in late)])
    print(f"{options.actions} actions in {time.monotonic() - chaos.began:.0f} s: {clients.responses} responses, slowest "
          f"{slowest * 1000:.0f} ms, {excused} failures excused, {len(unexcused)} not excused")
    history = [*chaos.actions, *map(str, late), *map(str, unexcused[:20]), *chaos.problems]
    if options.keep_logs:
        options.keep_logs.mkdir(parents=True, exist_ok=True)
        (options.keep_logs / "actions").write_text("\n".join(history) + "\n")
        for log in chaos.directory.glob("*/log"):
            (options.keep_logs / f"{log.parent.name}.log").write_bytes(log.read_bytes())
    if unexcused or chaos.problems:
        print("\n".join(history))
        sys.exit(f"chaos: failed with seed {options.seed}")


if __name__ == "__main__":
    main()
