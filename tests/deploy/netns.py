"""A test network of Linux namespaces: virtual machines with cables between them, whose processes and links can be killed,
frozen and disconnected.

    import netns

    netns.enter(seconds=120)                          # from here on in new namespaces, with a time limit
    with netns.Network() as net:
        wire = net.switch("wire")
        web = net.machine("web", (wire, "10.77.0.1/24"))
        client = net.machine("client", (wire, "10.77.0.2/24"))
        server = web.start("/usr/local/bin/fibsrv")             # a Process, with the PID of the program itself
        netns.until("a response", lambda: client.run("curl", "-fs", "http://10.77.0.1:3000/healthz").returncode == 0)
        server.kill()
        web.disconnect()

A machine is a network, a mount and a UTS namespace with the processes in it. It has its own /run, and its own copy of each
directory passed to `mount_tmpfs`: two machines can have different files /etc/haproxy/haproxy.cfg, and the tests use the
shipped files at their real paths. The rest of the file system is shared with the host: write only below /run or into
mounted directories. Commands start in /, so paths must be absolute.

Cleanup does not depend on the test: `enter` re-executes the script in new PID, network and mount namespaces. When the first
process in them exits (end of the script, failure, time limit, signal, or death of the caller), the kernel kills all
processes in the PID namespace, and the namespaces disappear with the last one. No interface, route or file is created
in the host's namespaces, and no packet can leave: there is no link to the host.

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

MARK = "FIBSRV_NETNS"
"""Environment variable that marks the re-executed script; its value is the time limit in seconds."""

STOPPING_SECONDS = 5
"""Time for killed processes to disappear, and for a failed test to print its logs."""

BOOT = 'hostname "$0" && mount -t tmpfs tmpfs /run && ip link set lo up && echo booted && exec sleep infinity'


def enter(seconds, packages="iproute2 util-linux", tools=("ip", "unshare", "nsenter", "setpriv", "hostname")):
    """Re-executes the script in new namespaces and exits with its status; returns only in the re-executed script."""
    if MARK in os.environ:
        _fork_from_init()
        _set_up(int(os.environ.pop(MARK)))
        return
    if os.geteuid() != 0:
        sys.exit("needs root to create namespaces")
    need(packages, *tools)
    # The script is killed with `unshare`, which is killed with this process.
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
    """Exits when a tool is missing: a test that cannot run has failed."""
    missing = [tool for tool in tools if not shutil.which(tool)]
    if missing:
        sys.exit(f"not installed: {' '.join(missing)} (Debian: {packages})")


def until(what, condition, seconds=10.0, every=0.02):
    """Waits until `condition()` is true and returns its value; raises TimeoutError with `what`."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(every)
    return value


def holds(what, condition, seconds, every=0.05):
    """Fails with `what` unless `condition()` stays true for the given time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not condition():
            raise AssertionError(f"did not hold for {seconds} s: {what}")
        time.sleep(every)


def signal_all(pids, number):
    """Sends a signal to processes; ignores those that have exited."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


class Network:
    """All machines and switches of a test, and a temporary directory."""

    def __init__(self):
        self.machines = {}
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="network-", dir="/run"))

    def __enter__(self):
        return self

    def __exit__(self, kind, _error, _trace):
        if kind is not None and kind is not SystemExit:
            self.dump_logs()
        for machine in self.machines.values():
            machine._end()

    def machine(self, name, *cables):
        """Adds a machine; each cable is a switch and an address with prefix length, for eth0, eth1 and so on."""
        self.machines[name] = machine = Machine(self, name)
        for switch, address in cables:
            machine.plug(switch, address)
        return machine

    def switch(self, name):
        """Adds a switch: a machine that contains only a bridge."""
        self.machines[name] = switch = Machine(self, name)
        switch.must("ip", "link", "add", "bridge", "type", "bridge")
        switch.must("ip", "link", "set", "bridge", "up")
        return switch

    def dump_logs(self, lines=15):
        """Prints the last lines of each process log."""
        for machine in self.machines.values():
            for process in machine.processes:
                print(f"--- {machine.name}, {process}", file=sys.stderr)
                print("\n".join(process.log().splitlines()[-lines:]), file=sys.stderr)


class Machine:
    """Created by `Network.machine`. Its first process only keeps the namespaces alive: see `BOOT`."""

    def __init__(self, network, name):
        self.network, self.name = network, name
        self.processes = []
        self.cables = []
        self.silenced = set()
        command = ["unshare", "--net", "--mount", "--uts", "sh", "-c", BOOT, name]
        self.holder = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        if self.holder.stdout.readline() != "booted\n":
            raise OSError(f"no namespaces for {name}")
        self._namespace = os.readlink(f"/proc/{self.holder.pid}/ns/net")

    # Files

    def mount_tmpfs(self, directory):
        """Mounts an empty tmpfs over an existing directory, in this machine only."""
        self.must("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", directory)
        return self.path(directory)

    def path(self, inside):
        """Returns the path of a file of the machine for this script. Absolute symlinks such as /var/run are not supported."""
        return pathlib.Path(f"/proc/{self.holder.pid}/root{inside}")

    def write(self, inside, content, mode=0o644, owner=None):
        """Writes text, bytes or a copy of the file at a `Path`; replaces an existing file atomically."""
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

    def set_hosts(self, names):
        """Replaces /etc/hosts of the machine; `names` has the same format."""
        self.write("/run/hosts", f"127.0.0.1 localhost\n{names}")
        self.must("mount", "--bind", "/run/hosts", "/etc/hosts")

    # Processes

    def start(self, *command, env=None):
        """Starts a command and returns the `Process`, whose output goes to a log file."""
        process = Process(self, command, env)
        self.processes.append(process)
        return process

    def run(self, *command, seconds=10, input=None, env=None):
        """Runs a command and returns the result of `subprocess.run`, with text output."""
        environment = {**os.environ, **env} if env else None
        source = {"input": input} if input is not None else {"stdin": subprocess.DEVNULL}
        return subprocess.run(self._inside(command), capture_output=True, text=True, timeout=seconds,
                              env=environment, **source)

    def must(self, *command, **options):
        """Returns the output of a command; raises OSError if it fails."""
        done = self.run(*command, **options)
        if done.returncode != 0:
            raise OSError(f"{self.name}: {' '.join(command)}: status {done.returncode}: {done.stderr or done.stdout}")
        return done.stdout

    def pids(self):
        """Returns the PIDs of all processes of the machine."""
        found = []
        for entry in os.listdir("/proc"):
            try:
                if entry.isdigit() and os.readlink(f"/proc/{entry}/ns/net") == self._namespace:
                    found.append(int(entry))
            except OSError:
                pass  # has exited
        return [pid for pid in found if pid != self.holder.pid]

    def signal(self, number):
        """Sends a signal to all processes of the machine."""
        signal_all(self.pids(), number)

    def freeze(self):
        """Stops all processes with SIGSTOP. The kernel still accepts connections: combine with `disconnect` to simulate a
        frozen machine."""
        self.signal(signal.SIGSTOP)

    def thaw(self):
        self.signal(signal.SIGCONT)

    # Network

    def addresses(self):
        """Returns the current IPv4 addresses."""
        lines = self.must("ip", "-4", "-oneline", "address", "show").splitlines()
        return [line.split()[3].partition("/")[0] for line in lines]

    def plug(self, switch, address):
        """Adds a cable with an address."""
        ours, port = f"eth{len(self.cables)}", f"{self.name}{len(self.cables)}"
        if len(port) > 15:
            raise ValueError(f"{port}: an interface name has at most 15 characters")
        self.cables.append((switch, port, address))
        self.must("ip", "link", "add", ours, "type", "veth", "peer", "name", port, "netns", str(switch.holder.pid))
        switch.must("ip", "link", "set", port, "master", "bridge", "up")
        self.must("ip", "address", "add", address, "dev", ours)
        self.must("ip", "link", "set", ours, "up")

    def disconnect(self, cable=0, silently=False):
        """Disconnects a cable. With `silently` packets are dropped while the link stays up."""
        switch, port, _ = self.cables[cable]
        if silently:
            self.silenced.add(cable)
            switch.must("bridge", "link", "set", "dev", port, "state", "0")
        else:
            switch.must("ip", "link", "set", port, "down")

    def reconnect(self, cable=0):
        """Reconnects a cable."""
        switch, port, _ = self.cables[cable]
        if cable in self.silenced:
            self.silenced.remove(cable)
            switch.must("bridge", "link", "set", "dev", port, "state", "3")
        else:
            switch.must("ip", "link", "set", port, "up")

    def power_off(self):
        """Disconnects all cables, then kills all processes, so that no FIN or RST is sent."""
        for cable in range(len(self.cables)):
            self.disconnect(cable)
        self._kill()

    def power_on(self):
        """Restores cables and initial addresses, and empties /run; the test starts the programs."""
        self.must("sh", "-c", "rm -rf /run/*")
        for cable, (_, _, address) in enumerate(self.cables):
            self.must("ip", "address", "flush", "dev", f"eth{cable}")
            self.must("ip", "address", "add", address, "dev", f"eth{cable}")
            self.reconnect(cable)

    # Internal

    def _inside(self, command):
        return ["nsenter", "--target", str(self.holder.pid), "--net", "--mount", "--uts", "--", *map(str, command)]

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
    """Created by `Machine.start`. `pid` is the PID of the program itself, which has a session of its own."""

    def __init__(self, machine, command, env):
        self.machine, self.command = machine, command
        name = f"{machine.name}-{len(machine.processes)}-{pathlib.Path(str(command[0])).name}"
        self.log_path = machine.network.directory / name
        with self.log_path.open("wb") as log:
            self.popen = subprocess.Popen(machine._inside(command), stdin=subprocess.DEVNULL, stdout=log,
                                          stderr=subprocess.STDOUT, env={**os.environ, **(env or {})},
                                          start_new_session=True)
        self.pid = self.popen.pid
        _raise_priority(self.pid)

    def __str__(self):
        state = "running" if self.running() else f"ended with {self.popen.returncode}"
        return f"{pathlib.Path(str(self.command[0])).name} ({self.pid}, {state})"

    def log(self):
        """Returns the output so far."""
        return self.log_path.read_text(errors="replace")

    def running(self):
        return self.popen.poll() is None

    def signal(self, number):
        """Sends a signal, unless the process has been reaped."""
        self.popen.send_signal(number)

    def kill(self):
        self.signal(signal.SIGKILL)
        return self.wait()

    def freeze(self):
        self.signal(signal.SIGSTOP)

    def thaw(self):
        self.signal(signal.SIGCONT)

    def wait(self, seconds=10.0):
        """Waits for the process and returns its exit status."""
        return self.popen.wait(seconds)

    def stop(self, seconds=10.0):
        """Sends SIGTERM and returns the exit status; raises TimeoutExpired."""
        self.signal(signal.SIGTERM)
        return self.wait(seconds)


def _fork_from_init():
    """Forks: the parent reaps orphans like init, the child returns. Daemons that check whether a process is alive must not
    find zombies."""
    if (script := os.fork()) == 0:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        pid, status = os.wait()
        if pid == script:
            os._exit(os.waitstatus_to_exitcode(status) % 256)


def _raise_priority(pid):
    """Raises the scheduling priority of a session over other load of the host."""
    try:
        pathlib.Path(f"/proc/{pid}/autogroup").write_text("-10")
    except OSError:
        pass  # no autogroup support, or the process has exited


def _set_up(seconds):
    """Sets up the re-executed script: session, time limit, signals, /run and loopback."""
    os.setsid()
    _raise_priority(os.getpid())

    def over(*_):
        raise TimeoutError(f"time limit of {seconds} s exceeded")

    signal.signal(signal.SIGALRM, over)
    signal.alarm(seconds)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
