"""The front pair in the laboratory: the files of deploy/haproxy and deploy/keepalived as they are shipped.

Two proxies with a foot in each of two networks, workers in the inner one, clients in the outer one:

    client 10.77.0.101  ── outside ─┬─ proxy1 10.77.0.11 ─┬─ inside ── worker1 10.77.1.21
                                    └─ proxy2 10.77.0.12 ─┘         ── worker2, worker3
            floating address 10.77.0.10

The addresses are those of the shipped files. Needs Debian's haproxy, keepalived, curl and openssl.
"""

import pathlib
import signal
import sys

import lab
import load_client
import pki

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = ROOT / "bin" / "fibsrv"
DEPLOY = ROOT / "deploy"
FLOATING = "10.77.0.10"
NAME = "fibsrv.test"
URL = f"https://{NAME}/api/fibonacci/20"
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
"""What /dev/log is to haproxy, which looks for it below its own root. Started before it."""


class Front:
    """All of it, up and serving when made."""

    def __init__(self, net, workers=3, kind=None):
        lab.need("haproxy keepalived curl openssl", *TOOLS)
        if not BINARY.exists():
            sys.exit(f"{BINARY} is needed: make build")
        self.net = net
        self.outside, self.inside = net.switch("outside"), net.switch("inside")
        self.authority = pki.Authority(net.folder)
        self.workers = [(kind or Worker)(self, number) for number in range(1, workers + 1)]
        certificate = self.authority.issue(NAME)
        self.proxies = [Proxy(self, number, certificate) for number in (1, 2)]
        self.client = self.new_client("client", 101)
        for proxy in self.proxies:
            proxy.start()
        self.settled()

    def new_client(self, name, number):
        """A machine outside that trusts the authority, by /run/ca.pem."""
        client = self.net.machine(name, (self.outside, f"10.77.0.{number}/24"))
        client.write("/run/ca.pem", self.authority.certificate)
        return client

    def load(self, machine=None, url=URL, **options):
        """A load client for F(20) at the floating address."""
        return load_client.start(machine or self.client, url, connect=FLOATING, cacert="/run/ca.pem", expect="6765",
                                 **options)

    def curl(self, *arguments, path="/api/fibonacci/20", machine=None, trust=True, **options):
        """curl's output at the floating address, by name."""
        command = ["curl", "-sS", "-m", "10", "--connect-to", f"{NAME}:443:{FLOATING}:443", *arguments]
        command += ["--cacert", "/run/ca.pem"] if trust else []
        return (machine or self.client).run(*command, f"https://{NAME}{path}", **options)

    def certify(self, certificate):
        """Has both proxies serve another certificate."""
        for proxy in self.proxies:
            proxy.certify(certificate)
            proxy.reload()

    def serves(self, certificate, name=NAME):
        """Whether who connects is shown this certificate, and no other."""
        shown = self.client.must(
            "sh", "-c", f"openssl s_client -connect {FLOATING}:443 -servername {name} </dev/null 2>/dev/null"
            " | openssl x509 -noout -fingerprint")
        return shown == self.client.must("openssl", "x509", "-noout", "-fingerprint", input=certificate)

    def holders(self):
        """The proxies that have the floating address; one, when all is well."""
        return [proxy for proxy in self.proxies if FLOATING in proxy.machine.addresses()]

    def active(self):
        holders = self.holders()
        if len(holders) != 1:
            raise AssertionError(f"the floating address is on {len(holders)} machines")
        return holders[0]

    def settled(self):
        """Waits until both proxies could have the address and one has it, and returns that one."""

        def well():
            holders = self.holders()
            return holders[0] if len(holders) == 1 and all(proxy.fit() for proxy in self.proxies) else None

        return lab.until("one proxy has the floating address, the other could take it", well, seconds=30, every=0.1)


class Worker:
    """A machine with one fibsrv."""

    flags = ()

    def __init__(self, front, number):
        self.machine = front.net.machine(f"worker{number}", (front.inside, f"10.77.1.{20 + number}/24"))
        self.start()

    def start(self):
        self.process = self.machine.start(BINARY, "--drain-delay", "2s", *self.flags)

    def up(self, proxy):
        """Whether a proxy has found it well."""
        metrics = proxy.machine.must("curl", "-s", "-m", "2", "http://127.0.0.1:8404/metrics?scope=server")
        return f'haproxy_server_status{{proxy="workers",server="{self.machine.name}",state="UP"}} 1' in metrics


class Proxy:
    """A machine with haproxy and keepalived."""

    def __init__(self, front, number, certificate):
        self.front = front
        self.machine = front.net.machine(f"proxy{number}", (front.outside, f"10.77.0.{10 + number}/24"),
                                         (front.inside, f"10.77.1.{10 + number}/24"))
        for folder in ("/etc/haproxy", "/etc/keepalived", "/var/lib/haproxy"):
            self.machine.own(folder)
        self.machine.path("/var/lib/haproxy/dev").mkdir()
        self.machine.write("/etc/haproxy/haproxy.cfg", DEPLOY / "haproxy" / "haproxy.cfg")
        self.machine.write("/etc/keepalived/keepalived.conf", DEPLOY / "keepalived" / "keepalived.conf")
        self.machine.write("/etc/keepalived/node.conf", DEPLOY / "keepalived" / f"node-{number}.conf")
        self.machine.write("/etc/keepalived/check-proxy", DEPLOY / "keepalived" / "check-proxy", mode=0o755)
        self.certify(certificate)
        self.check()

    def __str__(self):
        return self.machine.name

    def check(self):
        """What both programs say of their files before they are started."""
        said = self.machine.run("haproxy", "-c", "-f", "/etc/haproxy/haproxy.cfg")
        if said.returncode != 0 or "WARNING" in said.stdout + said.stderr:
            raise AssertionError(f"haproxy.cfg: {said.stdout}{said.stderr}")
        # keepalived 2.2.7 ends itself in a check of a file with another user for scripts than root.
        text = (DEPLOY / "keepalived" / "keepalived.conf").read_text()
        self.machine.write("/etc/keepalived/checked.conf", text.replace("script_user nobody nogroup", "script_user root"))
        said = self.machine.run("keepalived", "--config-test=/run/said", "--use-file=/etc/keepalived/checked.conf")
        if said.returncode != 0:
            raise AssertionError(f"keepalived.conf: {self.machine.path('/run/said').read_text()}")

    def certify(self, certificate):
        """Puts a certificate where haproxy finds it at its next start or reload."""
        self.machine.write("/etc/haproxy/certs/fibsrv.pem", certificate, mode=0o600)

    def start(self):
        self.machine.path("/run/haproxy").mkdir(exist_ok=True)
        self.machine.path("/var/lib/haproxy/dev/log").unlink(missing_ok=True)
        self.syslog = self.machine.start(sys.executable, "-c", SYSLOG)
        lab.until("syslog", lambda: self.machine.path("/var/lib/haproxy/dev/log").exists())
        self.start_haproxy()
        self.start_keepalived()

    def start_haproxy(self):
        self.haproxy = self.machine.start("haproxy", "-W", "-f", "/etc/haproxy/haproxy.cfg")

    def start_keepalived(self):
        self.keepalived = self.machine.start("keepalived", "--dont-fork", "--log-console")

    def haproxy_pids(self):
        """The master and its workers, old ones too."""
        return self.of_program("haproxy")

    def of_program(self, name):
        found = []
        for pid in self.machine.pids():
            try:
                if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == name:
                    found.append(pid)
            except OSError:
                pass  # has ended meanwhile
        return found

    def signal_haproxy(self, number):
        lab.signal_all(self.haproxy_pids(), number)

    def reload(self):
        """What `systemctl reload haproxy` does; returns when a new worker serves and the old one is on its way out."""
        before = set(self.haproxy_pids())
        self.haproxy.signal(signal.SIGUSR2)
        lab.until("a new worker of haproxy", lambda: set(self.haproxy_pids()) - before and self.alive())

    def ask(self, path):
        """The status of an answer of the inner frontend, asked on the machine itself."""
        done = self.machine.run("curl", "-s", "-o", "/dev/null", "-m", "1", "-w", "%{http_code}",
                                f"http://127.0.0.1:8404{path}")
        return done.stdout

    def alive(self):
        return self.ask("/alive") == "200"

    def fit(self):
        """Whether it could have the address, as its keepalived sees it."""
        return self.keepalived.running() and self.alive() and self.ask("/workers") == "200" and self.state() != "FAULT"

    def state(self):
        """The last state that its keepalived told."""
        words = [line.rpartition("Entering ")[2].split()[0] for line in self.keepalived.log().splitlines()
                 if "(front) Entering " in line]
        return words[-1] if words else "INIT"

    def freeze(self):
        """The machine stands still: nothing runs, nothing answers, and no link goes down."""
        for cable in (0, 1):
            self.machine.cut(cable, silently=True)
        self.machine.freeze()

    def thaw(self):
        self.machine.thaw()
        self.mend()

    def mend(self):
        """Puts both cables back, whichever was cut."""
        for cable in (0, 1):
            self.machine.mend(cable)

    def power_on(self):
        self.machine.power_on()
        self.start()
