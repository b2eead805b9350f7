"""The proxy pair on a test network, with the shipped files of deploy/haproxy and deploy/keepalived.

Two proxies are connected to a public and an internal network, workers to the internal one, clients to the public one:

    client 10.77.0.101  ── public ──┬─ proxy1 10.77.0.11 ─┬─ internal ── worker1 10.77.1.21
                                    └─ proxy2 10.77.0.12 ─┘          ── worker2, worker3
            floating addresses 10.77.0.10, fd00:77::10

The addresses are those of the shipped files. Needs Debian's haproxy, keepalived, curl and openssl.
"""

import pathlib
import signal
import sys

import netns
import load_client
import pki

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = ROOT / "bin" / "fibsrv"
DEPLOY = ROOT / "deploy"
FLOATING = "10.77.0.10"
FLOATING6 = "fd00:77::10"
NAME = "fibsrv.test"
URL = f"https://{NAME}/api/fibonacci/20"
TEXTFILES = "/var/lib/prometheus/node-exporter"
TOOLS = ("haproxy", "keepalived", "curl", "openssl")

SYSLOG = """
import os, socket, sys
path = "/var/lib/haproxy/dev/log"
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.bind(path)
os.chmod(path, 0o666)
while True:
    print(log.recv(65536).decode(errors="replace").strip(), flush=True)
"""
"""Receives /dev/log of haproxy, below its chroot. Must start before haproxy."""


class Front:
    """The complete setup; serving once constructed."""

    def __init__(self, net, workers=3, kind=None, proxy=None):
        netns.need("haproxy keepalived curl openssl", *TOOLS)
        if not BINARY.exists():
            sys.exit(f"{BINARY} is missing: run make build")
        self.net = net
        self.public, self.internal = net.switch("public"), net.switch("internal")
        self.authority = pki.Authority(net.directory)
        self.workers = [(kind or Worker)(self, number) for number in range(1, workers + 1)]
        certificate = self.authority.issue(NAME)
        self.proxies = [(proxy or Proxy)(self, number, certificate) for number in (1, 2)]
        self.client = self.new_client("client", 101)
        for proxy in self.proxies:
            proxy.start()
        self.wait_ready()

    def new_client(self, name, number):
        """Adds a machine to the public network, with the CA in /run/ca.pem."""
        client = self.net.machine(name, (self.public, f"10.77.0.{number}/24"))
        client.write("/run/ca.pem", self.authority.certificate)
        return client

    def load(self, machine=None, url=URL, **options):
        """Starts a load client for F(20) at the floating address."""
        return load_client.start(machine or self.client, url, connect=FLOATING, cacert="/run/ca.pem", expect="6765",
                                 **options)

    def curl(self, *arguments, path="/api/fibonacci/20", machine=None, trust=True, **options):
        """Runs curl against the floating address, by name."""
        command = ["curl", "-sS", "-m", "10", "--connect-to", f"{NAME}:443:{FLOATING}:443", *arguments]
        command += ["--cacert", "/run/ca.pem"] if trust else []
        return (machine or self.client).run(*command, f"https://{NAME}{path}", **options)

    def install_certificate(self, certificate):
        """Installs another certificate on both proxies and reloads them."""
        for proxy in self.proxies:
            proxy.install_certificate(certificate)
            proxy.reload()

    def serves(self, certificate, name=NAME):
        """Returns whether the floating address serves exactly this certificate."""
        shown = self.client.must(
            "sh", "-c", f"openssl s_client -connect {FLOATING}:443 -servername {name} </dev/null 2>/dev/null"
            " | openssl x509 -noout -fingerprint")
        return shown == self.client.must("openssl", "x509", "-noout", "-fingerprint", input=certificate)

    def holders(self):
        """Returns the proxies with the floating address; normally one."""
        return [proxy for proxy in self.proxies if FLOATING in proxy.machine.addresses()]

    def holders6(self):
        """Returns the proxies with the floating IPv6 address."""
        command = ("ip", "-6", "-oneline", "address", "show", "to", FLOATING6)
        return [proxy for proxy in self.proxies if proxy.machine.must(*command)]

    def active(self):
        holders = self.holders()
        if len(holders) != 1:
            raise AssertionError(f"the floating address is on {len(holders)} machines")
        return holders[0]

    def wait_ready(self):
        """Waits until both proxies are eligible and one has the address; returns that one."""

        def ready():
            holders = self.holders()
            return holders[0] if len(holders) == 1 and all(proxy.eligible() for proxy in self.proxies) else None

        return netns.until("one proxy has the floating address, the other is eligible", ready, seconds=30, every=0.1)


def start_node_exporter(machine):
    """Starts the node exporter with the textfile collector only, as the machine shares /proc with the host."""
    return machine.start("prometheus-node-exporter", "--collector.disable-defaults", "--collector.textfile",
                         f"--collector.textfile.directory={TEXTFILES}", "--web.listen-address=:9100")


class Worker:
    """A machine with a fibsrv process."""

    flags = ()
    binary = BINARY

    def __init__(self, front, number):
        self.machine = front.net.machine(f"worker{number}", (front.internal, f"10.77.1.{20 + number}/24"))
        self.start()

    def start(self):
        self.process = self.machine.start(self.binary, "--admin-listen", "9464", "--drain-delay", "2s", *self.flags)

    def up(self, proxy):
        """Returns whether a proxy reports it as up."""
        metrics = proxy.machine.must("curl", "-s", "-m", "2", "http://127.0.0.1:8404/metrics?scope=server")
        return f'haproxy_server_status{{proxy="workers",server="{self.machine.name}",state="UP"}} 1' in metrics


class Proxy:
    """A machine with haproxy and keepalived."""

    def __init__(self, front, number, certificate):
        self.front = front
        self.machine = front.net.machine(f"proxy{number}", (front.public, f"10.77.0.{10 + number}/24"),
                                         (front.internal, f"10.77.1.{10 + number}/24"))
        for directory in ("/etc/haproxy", "/etc/keepalived", "/var/lib"):
            self.machine.mount_tmpfs(directory)
        self.machine.path("/var/lib/haproxy/dev").mkdir(parents=True)
        self.install(number, certificate)
        self.check()

    def __str__(self):
        return self.machine.name

    def install(self, number, certificate):
        """Installs the shipped files."""
        self.machine.path(TEXTFILES).mkdir(parents=True)
        for file in ("fibsrv-vrrp.prom", "fibsrv-vrrp-check.prom"):
            self.machine.must("install", "-o", "nobody", "-m", "644", "/dev/null", f"{TEXTFILES}/{file}")
        self.machine.write("/etc/haproxy/haproxy.cfg", DEPLOY / "haproxy" / "haproxy.cfg")
        self.machine.write("/etc/keepalived/keepalived.conf", DEPLOY / "keepalived" / "keepalived.conf")
        self.machine.write("/etc/keepalived/node.conf", DEPLOY / "keepalived" / f"node-{number}.conf")
        for script in ("check-proxy", "notify-state"):
            self.machine.write(f"/etc/keepalived/{script}", DEPLOY / "keepalived" / script, mode=0o755)
        self.install_certificate(certificate)

    def check(self):
        """Validates the configuration of haproxy and keepalived."""
        result = self.machine.run("haproxy", "-c", "-f", "/etc/haproxy/haproxy.cfg")
        if result.returncode != 0 or "WARNING" in result.stdout + result.stderr:
            raise AssertionError(f"haproxy.cfg: {result.stdout}{result.stderr}")
        # The configuration test of keepalived 2.2.7 aborts with a script_user other than root.
        text = (DEPLOY / "keepalived" / "keepalived.conf").read_text()
        self.machine.write("/etc/keepalived/checked.conf", text.replace("script_user nobody nogroup", "script_user root"))
        result = self.machine.run("keepalived", "--config-test=/run/config-test", "--use-file=/etc/keepalived/checked.conf")
        if result.returncode != 0:
            raise AssertionError(f"keepalived.conf: {self.machine.path('/run/config-test').read_text()}")

    def install_certificate(self, certificate):
        """Installs a certificate, which haproxy loads at its next start or reload."""
        self.machine.write("/etc/haproxy/certs/fibsrv.pem", certificate, mode=0o600)

    def start(self):
        self.machine.path("/run/haproxy").mkdir(exist_ok=True)
        self.machine.path("/var/lib/haproxy/dev/log").unlink(missing_ok=True)
        self.syslog = self.machine.start(sys.executable, "-c", SYSLOG)
        netns.until("syslog", lambda: self.machine.path("/var/lib/haproxy/dev/log").exists())
        self.start_haproxy()
        self.start_keepalived()

    def start_haproxy(self):
        self.haproxy = self.machine.start("haproxy", "-W", "-f", "/etc/haproxy/haproxy.cfg")

    def start_keepalived(self):
        self.keepalived = self.machine.start("keepalived", "--dont-fork", "--log-console")

    def haproxy_pids(self):
        """Returns the PIDs of the haproxy master and all its workers."""
        return self.of_program("haproxy")

    def of_program(self, name):
        found = []
        for pid in self.machine.pids():
            try:
                if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == name:
                    found.append(pid)
            except OSError:
                pass  # has exited
        return found

    def signal_haproxy(self, number):
        netns.signal_all(self.haproxy_pids(), number)

    def reload(self):
        """Does what `systemctl reload haproxy` does; returns once a new worker serves."""
        before = set(self.haproxy_pids())
        self.haproxy.signal(signal.SIGUSR2)
        netns.until("a new worker of haproxy", lambda: set(self.haproxy_pids()) - before and self.alive())

    def status(self, path):
        """Returns the status code of a path on the internal frontend, requested locally."""
        done = self.machine.run("curl", "-s", "-o", "/dev/null", "-m", "1", "-w", "%{http_code}",
                                f"http://127.0.0.1:8404{path}")
        return done.stdout

    def alive(self):
        return self.status("/alive") == "200"

    def eligible(self):
        """Returns whether its keepalived considers it eligible for the address."""
        return self.keepalived.running() and self.alive() and self.status("/workers") == "200" and self.state() != "FAULT"

    def state(self):
        """Returns the last VRRP state in keepalived's log."""
        words = [line.rpartition("Entering ")[2].split()[0] for line in self.keepalived.log().splitlines()
                 if "(front) Entering " in line]
        return words[-1] if words else "INIT"

    def freeze(self):
        """Freezes the machine: processes stop and packets are dropped, but no link goes down."""
        for cable in (0, 1):
            self.machine.disconnect(cable, silently=True)
        self.machine.freeze()

    def thaw(self):
        self.machine.thaw()
        self.reconnect()

    def reconnect(self):
        """Reconnects both cables."""
        for cable in (0, 1):
            self.machine.reconnect(cable)

    def power_on(self):
        self.machine.power_on()
        self.start()
