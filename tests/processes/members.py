"""The processes on a port: independent ones and supervisors with their workers.

A member has its own directory with its executable, which can be replaced by a broken one. Everything is below /run of the
namespaces of `netns.enter`, which disappear with the test.
"""

import ctypes
import os
import pathlib
import signal
import socket
import subprocess
import time

import netns
from clients import Accepted

WORKERS = 2
"""Workers of a supervisor."""

GETFD = 438
"""The number of pidfd_getfd(2), which is the same on all architectures."""

BROKEN = {
    "missing": None,
    "empty": "",
    "no program": "not a program\n",
    "failing": "#!/bin/sh\nexit 1\n",
    "failing after the check": '#!/bin/sh\ncase " $* " in *" --check "*) exit 0;; esac\nexit 1\n',
    "hanging in the check": "#!/bin/sh\nexec sleep 1000\n",
    "hanging after the check": '#!/bin/sh\ncase " $* " in *" --check "*) exit 0;; esac\nexec sleep 1000\n',
}
"""Executables that do not serve."""

libc = ctypes.CDLL(None, use_errno=True)


def stat(pid):
    """Returns the fields of /proc/PID/stat after the name, or none if there is no such process."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def is_alive(pid):
    fields = stat(pid)
    return fields is not None and fields[0] not in "ZX"


def age(pid):
    """Returns the seconds since the start of a process."""
    fields = stat(pid)
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def handles_hangup(pid):
    """Returns whether a process has replaced the default action of SIGHUP, which would end it."""
    try:
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return False
    sets = [int(line.split()[1], 16) for line in lines if line.startswith(("SigBlk:", "SigIgn:", "SigCgt:"))]
    return any(mask >> signal.SIGHUP - 1 & 1 for mask in sets)


def children(pid):
    try:
        return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def is_worker(pid):
    """Returns whether a child of a supervisor is a worker, and not an executable that is being checked."""
    try:
        executable = os.readlink(f"/proc/{pid}/exe")
        command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return "fibsrv" in executable and b"--check" not in command and is_alive(pid)


def clients_of(pid):
    """Returns the addresses of the clients whose connections a process has accepted."""
    found = set()
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return found
    try:
        descriptors = [int(name) for name in os.listdir(f"/proc/{pid}/fd")]
    except (FileNotFoundError, ProcessLookupError):
        descriptors = []
    for descriptor in descriptors:
        copy = libc.syscall(GETFD, process, descriptor, 0)
        if copy >= 0:
            found |= client_of(copy)
    os.close(process)
    return found


def client_of(descriptor):
    """Closes a descriptor; returns the address of the client if it is an accepted connection."""
    try:
        connection = socket.socket(fileno=descriptor)
    except OSError:
        os.close(descriptor)
        return set()
    with connection:
        try:
            return {connection.getpeername()} if connection.family == socket.AF_INET else set()
        except OSError:
            return set()


def stop(pid):
    """Stops a process with SIGSTOP; returns the connections that it has accepted, or none if it has exited."""
    netns.signal_all([pid], signal.SIGSTOP)
    end = time.monotonic() + 10
    while is_alive(pid):
        if stat(pid)[0] == "T":
            return Accepted(pid, time.monotonic(), frozenset(clients_of(pid)))
        if time.monotonic() > end:
            raise TimeoutError(f"process {pid} does not stop")
        time.sleep(0.001)
    return None


class Member:
    """A process that was started by the test, with its workers if it is a supervisor."""

    def __init__(self, number, directory, address, workers, flags):
        self.number, self.workers = number, workers
        self.directory = directory / str(number)
        self.directory.mkdir()
        self.path, self.log_path = self.directory / "fibsrv", self.directory / "log"
        self.good = directory / "fibsrv"
        self.is_broken = self.is_leaving = False
        self.resumed = time.monotonic()
        self.acquainted = set()
        self.mend()
        command = [self.path, "--listen", f"{address[0]}:{address[1]}", *flags]
        command += ["--workers", str(workers)] if workers else []
        with self.log_path.open("wb") as log:
            self.popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                                          start_new_session=True)
        self.pid = self.popen.pid

    def __str__(self):
        return f"{'supervisor' if self.workers else 'process'} {self.number} (pid {self.pid})"

    def replace(self, link_to=None, content=None):
        """Replaces the executable."""
        new = self.directory / "new"
        if link_to:
            os.link(link_to, new)
        else:
            new.write_text(content)
            new.chmod(0o755)
        new.rename(self.path)

    def mend(self):
        self.replace(link_to=self.good)
        self.is_broken = False

    def break_executable(self, kind):
        if BROKEN[kind] is None:
            self.path.unlink(missing_ok=True)
        else:
            self.replace(content=BROKEN[kind])
        self.is_broken = True

    def is_running(self):
        return self.popen.poll() is None

    def is_ready(self):
        return "listening on " in self.log()

    def serving(self):
        """Returns the processes that may accept connections."""
        if not self.is_running() or not self.is_ready():
            return []
        return [pid for pid in children(self.pid) if is_worker(pid)] if self.workers else [self.pid]

    def log(self):
        return self.log_path.read_text(errors="replace")
