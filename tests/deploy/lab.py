"""A laboratory on one kernel: machines with cables between them, to start programs in, to kill, freeze and cut off.

    import lab

    lab.enter(seconds=120)                          # from here on in namespaces of our own, for so long at most
    with lab.Lab() as net:
        wire = net.switch("wire")
        web = net.machine("web", (wire, "10.77.0.1/24"))
        client = net.machine("client", (wire, "10.77.0.2/24"))
        server = web.start("/usr/local/bin/fibsrv")             # a Process, whose id is kept
        lab.until("an answer", lambda: client.run("curl", "-fs", "http://10.77.0.1:3000/healthz").returncode == 0)
        server.kill()
        web.cut()

A machine is a network, a mount and a host name namespace, and what runs in it. Its /run is its own, and so is each
folder that `own` gave it: so two machines can have two files /etc/haproxy/haproxy.cfg, and what is tested is the file
that is shipped, at the place where it is read. Everything else of the file system is that of the real machine: write
below /run or into what is owned. Commands begin in /, so their paths are absolute.

What ends all of it, without trust in the test: `enter` starts the script again in a process namespace, in network and
mount namespaces of its own. When the first process of it ends, because the script has ended or by a kill, for a failure,
for the time limit, for a signal, or because who called it died, the kernel kills whatever was started in it, and with
the last process the namespaces are gone. No name, no interface, no route and no file is ever made outside of them, and
no packet can leave: they are connected to nothing.

Needs root and Debian's iproute2 and util-linux. Times are of `time.monotonic()`, as in load_client.py.
"""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

MARK = "FIBSRV_LAB"
"""In the environment of the script that runs inside: the number of seconds it has."""

STOPPING_SECONDS = 5
"""How long what is killed may take to be gone; a test that fails has as much time to tell about it."""

BOOT = 'hostname "$0" && mount -t tmpfs tmpfs /run && ip link set lo up && echo booted && exec sleep infinity'


def enter(seconds, packages="iproute2 util-linux", tools=("ip", "unshare", "nsenter", "setpriv", "hostname")):
    """Returns only inside of the namespaces; outside, it waits for the script there and exits with its status."""
    if MARK in os.environ:
        _be_init()
        _settle(int(os.environ.pop(MARK)))
        return
    if os.geteuid() != 0:
        sys.exit("needs root, to make namespaces")
    need(packages, *tools)
    # The script dies with `unshare`, which dies with this process, however it ends.
    command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--fork",
               "--kill-child", "--mount-proc", sys.executable, *sys.orig_argv[1:]]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    inside = subprocess.Popen(command, env={**os.environ, MARK: str(seconds)})
    try:
        sys.exit(inside.wait(seconds + STOPPING_SECONDS))
    except subprocess.TimeoutExpired:
        sys.exit(f"did not end in {seconds} s, and was killed")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    finally:
        inside.kill()
        inside.wait()


def need(packages, *tools):
    """Ends the script when a tool is missing: a test that cannot run has failed."""
    missing = [tool for tool in tools if not shutil.which(tool)]
    if missing:
        sys.exit(f"not installed: {' '.join(missing)} (Debian: {packages})")


def until(what, condition, seconds=10.0, every=0.02):
    """Waits until `condition()` is true, and returns what it returned; fails with `what` when time is up."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(every)
    return value


def holds(what, condition, seconds, every=0.05):
    """Fails with `what` unless `condition()` is true all the time for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not condition():
            raise AssertionError(f"did not hold for {seconds} s: {what}")
        time.sleep(every)


def signal_all(pids, number):
    """Sends a signal to processes of a machine, some of which may have ended meanwhile."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


class Lab:
    """All machines and switches of a test, and a folder that disappears with them."""

    def __init__(self):
        self.machines = {}
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="lab-", dir="/run"))

    def __enter__(self):
        return self

    def __exit__(self, kind, _error, _trace):
        if kind is not None and kind is not SystemExit:
            self.tell()
        for machine in self.machines.values():
            machine._end()

    def machine(self, name, *cables):
        """A new machine; each cable is a switch and an address with its prefix, for eth0, eth1 and so on."""
        self.machines[name] = machine = Machine(self, name)
        for switch, address in cables:
            machine._plug(switch, address)
        return machine

    def switch(self, name):
        """A network that machines can be plugged into: a machine with nothing but a bridge in it."""
        self.machines[name] = switch = Machine(self, name)
        switch.must("ip", "link", "add", "bridge", "type", "bridge")
        switch.must("ip", "link", "set", "bridge", "up")
        return switch

    def tell(self, lines=15):
        """Prints the end of what each process wrote, to find out why a test failed."""
        for machine in self.machines.values():
            for process in machine.processes:
                print(f"--- {machine.name}, {process}", file=sys.stderr)
                print("\n".join(process.log().splitlines()[-lines:]), file=sys.stderr)


class Machine:
    """Made by `Lab.machine`. Its first process does nothing but hold its namespaces: see `BOOT`."""

    def __init__(self, lab, name):
        self.lab, self.name = lab, name
        self.processes = []
        self.cables = []
        self.silenced = set()
        command = ["unshare", "--net", "--mount", "--uts", "sh", "-c", BOOT, name]
        self.holder = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        if self.holder.stdout.readline() != "booted\n":
            raise OSError(f"no namespaces for {name}")
        self._network = os.readlink(f"/proc/{self.holder.pid}/ns/net")

    # Files

    def own(self, folder):
        """Gives the machine an empty folder of its own in place of one that there is."""
        self.must("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder)
        return self.path(folder)

    def path(self, inside):
        """The machine's file, as a path for this script. (Not through a link with an absolute target, as /var/run.)"""
        return pathlib.Path(f"/proc/{self.holder.pid}/root{inside}")

    def write(self, inside, content, mode=0o644, owner=None):
        """Writes text, bytes or a copy of the file that a `Path` names; replaces what is there in one step."""
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, pathlib.Path):
            content = content.read_bytes()
        new = path.with_name(path.name + ".new")
        new.write_bytes(content.encode() if isinstance(content, str) else content)
        new.chmod(mode)
        if owner:
            shutil.chown(new, owner, owner)
        new.rename(path)

    def know(self, names):
        """Has the machine know these names, in the form of /etc/hosts, and no others."""
        self.write("/run/hosts", f"127.0.0.1 localhost\n{names}")
        self.must("mount", "--bind", "/run/hosts", "/etc/hosts")

    # Processes

    def start(self, *command, env=None):
        """Starts a command and returns the `Process`; what it writes goes to a log of its own."""
        process = Process(self, command, env)
        self.processes.append(process)
        return process

    def run(self, *command, seconds=10, input=None, env=None):
        """Runs a command to its end, and returns what `subprocess.run` does, with its output as text."""
        environment = {**os.environ, **env} if env else None
        source = {"input": input} if input is not None else {"stdin": subprocess.DEVNULL}
        return subprocess.run(self._inside(command), capture_output=True, text=True, timeout=seconds,
                              env=environment, **source)

    def must(self, *command, **options):
        """The output of a command that has to succeed."""
        done = self.run(*command, **options)
        if done.returncode != 0:
            raise OSError(f"{self.name}: {' '.join(command)}: status {done.returncode}: {done.stderr or done.stdout}")
        return done.stdout

    def pids(self):
        """Whatever runs on the machine, whoever started it."""
        found = []
        for entry in os.listdir("/proc"):
            try:
                if entry.isdigit() and os.readlink(f"/proc/{entry}/ns/net") == self._network:
                    found.append(int(entry))
            except OSError:
                pass  # has ended meanwhile
        return [pid for pid in found if pid != self.holder.pid]

    def signal(self, number):
        """Sends a signal to all processes of the machine."""
        signal_all(self.pids(), number)

    def freeze(self):
        """Stops all processes where they are. The kernel goes on, and accepts connections in their name: with `cut`
        it is the machine that stands still."""
        self.signal(signal.SIGSTOP)

    def thaw(self):
        self.signal(signal.SIGCONT)

    # Network

    def addresses(self):
        """The IPv4 addresses that the machine has now."""
        lines = self.must("ip", "-4", "-oneline", "address", "show").splitlines()
        return [line.split()[3].partition("/")[0] for line in lines]

    def cut(self, cable=0, silently=False):
        """Pulls a cable. Silently: what goes through it is lost, but neither end is told that the link is down."""
        switch, port, _ = self.cables[cable]
        if silently:
            self.silenced.add(cable)
            switch.must("bridge", "link", "set", "dev", port, "state", "0")
        else:
            switch.must("ip", "link", "set", port, "down")

    def mend(self, cable=0):
        """Puts a cable back that was cut, in either way."""
        switch, port, _ = self.cables[cable]
        if cable in self.silenced:
            self.silenced.remove(cable)
            switch.must("bridge", "link", "set", "dev", port, "state", "3")
        else:
            switch.must("ip", "link", "set", port, "up")

    def power_off(self):
        """All at once and without a word: its cables are dead before its processes are."""
        for cable in range(len(self.cables)):
            self.cut(cable)
        self._kill()

    def power_on(self):
        """Cables, the addresses that it had at first, and an empty /run; programs are for the test to start."""
        self.must("sh", "-c", "rm -rf /run/*")
        for cable, (_, _, address) in enumerate(self.cables):
            self.must("ip", "address", "flush", "dev", f"eth{cable}")
            self.must("ip", "address", "add", address, "dev", f"eth{cable}")
            self.mend(cable)

    # Between the lab and its machines

    def _inside(self, command):
        return ["nsenter", "--target", str(self.holder.pid), "--net", "--mount", "--uts", "--", *map(str, command)]

    def _plug(self, switch, address):
        ours, port = f"eth{len(self.cables)}", f"{self.name}{len(self.cables)}"
        if len(port) > 15:
            raise ValueError(f"{port}: an interface's name has 15 characters at most")
        self.cables.append((switch, port, address))
        self.must("ip", "link", "add", ours, "type", "veth", "peer", "name", port, "netns", str(switch.holder.pid))
        switch.must("ip", "link", "set", port, "master", "bridge", "up")
        self.must("ip", "address", "add", address, "dev", ours)
        self.must("ip", "link", "set", ours, "up")

    def _kill(self):
        def gone():
            self.signal(signal.SIGKILL)
            for process in self.processes:
                process.popen.poll()
            return not self.pids()

        until(f"{self.name} is dead", gone, STOPPING_SECONDS)

    def _end(self):
        self._kill()
        self.holder.kill()
        self.holder.wait()
        self.holder.stdout.close()


class Process:
    """Made by `Machine.start`; its id is that of the program itself. Like a service it has a session of its own."""

    def __init__(self, machine, command, env):
        self.machine, self.command = machine, command
        name = f"{machine.name}-{len(machine.processes)}-{pathlib.Path(str(command[0])).name}"
        self.log_path = machine.lab.folder / name
        with self.log_path.open("wb") as log:
            self.popen = subprocess.Popen(machine._inside(command), stdin=subprocess.DEVNULL, stdout=log,
                                          stderr=subprocess.STDOUT, env={**os.environ, **(env or {})},
                                          start_new_session=True)
        self.pid = self.popen.pid
        _prefer(self.pid)

    def __str__(self):
        state = "running" if self.running() else f"ended with {self.popen.returncode}"
        return f"{pathlib.Path(str(self.command[0])).name} ({self.pid}, {state})"

    def log(self):
        """What it wrote so far."""
        return self.log_path.read_text(errors="replace")

    def running(self):
        return self.popen.poll() is None

    def signal(self, number):
        """Sends a signal, unless the process has ended and been waited for: its id may be another's now."""
        self.popen.send_signal(number)

    def kill(self):
        self.signal(signal.SIGKILL)
        return self.wait()

    def freeze(self):
        self.signal(signal.SIGSTOP)

    def thaw(self):
        self.signal(signal.SIGCONT)

    def wait(self, seconds=10.0):
        """Its status, once it has ended."""
        return self.popen.wait(seconds)

    def stop(self, seconds=10.0):
        """Asks it to end, and returns its status; fails if it does not end in time."""
        self.signal(signal.SIGTERM)
        return self.wait(seconds)


def _be_init():
    """Leaves the first process to wait for orphans, as init does, and returns in a child: daemons that look whether
    a process still lives must not meet a dead one that nobody has waited for."""
    if (script := os.fork()) == 0:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        pid, status = os.wait()
        if pid == script:
            os._exit(os.waitstatus_to_exitcode(status) % 256)


def _prefer(pid):
    """Has the scheduler prefer a session to those of whatever else is done on this computer, which the machines of the
    laboratory are not supposed to share."""
    try:
        pathlib.Path(f"/proc/{pid}/autogroup").write_text("-10")
    except OSError:
        pass  # a kernel without such groups; or it has ended


def _settle(seconds):
    """What is done first inside."""
    os.setsid()
    _prefer(os.getpid())

    def over(*_):
        raise TimeoutError(f"the time limit of {seconds} s is over")

    signal.signal(signal.SIGALRM, over)
    signal.alarm(seconds)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
