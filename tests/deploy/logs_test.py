#!/usr/bin/env python3
"""Logs elsewhere: does each line of the access log arrive, in order and parsed, whatever becomes of the receiver?

Two machines: `web` with three servers, whose lines go three ways (into a file of their own, into a real
systemd-journald, and into files as Docker writes them, with rotation), and an rsyslog that ships all of them; `logs` with
the rsyslog that receives. Both are Debian's, with the files of deploy/rsyslog/ at the places where they belong. A client
asks each server numbered questions all the time, and in the end each number is looked for on `logs`.

Needs root and Debian's rsyslog, rsyslog-relp, systemd, logrotate, openssl, curl and prometheus (for promtool).
`make logs_test` calls this.
"""

import contextlib
import gzip
import json
import pathlib
import re
import signal
import statistics
import sys
import time

import figures
import lab
import pki
import rsyslog
import rules

ROOT = pathlib.Path(__file__).resolve().parents[2]

WEB, LOGS = "10.77.0.1", "10.77.0.2"
NAMES = f"{WEB} web.example\n{LOGS} logs.example\n"
PORTS = {"file": 3001, "journal": 3002, "containers": 3003}
QUEUE_METRICS = "/var/lib/prometheus/node-exporter/fibsrv-logs.prom"
EVERY_S = 0.005
"""Between two questions of each client: 600 lines a second in all."""

LOST_WITH_BOTH = 129
"""If the shipper ends while there is no receiver: the window of RELP, and the line it was about to send."""

SENDERS = ["shipper.conf", "file.conf", "journal.conf", "containers.conf", "queue-metrics.conf"]
VARIANTS = {
    "web": [SENDERS, *([shipper, source] for shipper in ("shipper.conf", "shipper-tls.conf") for source in SENDERS[1:])],
    "logs": [["receiver.conf", "listen.conf"], ["receiver.conf", "listen-tls.conf"]],
}

JOURNALD = "[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\nForwardToSyslog=no\nRateLimitIntervalSec=0\n"

FIELDS = {"time": str, "peer": str, "port": int, "method": str, "target": str, "version": str, "status": int, "bytes": int,
          "referer": type(None), "user_agent": type(None), "forwarded_for": type(None), "duration_us": int,
          "host": str, "program": str}


class Way:
    """The two machines, and how a line gets from one to the other."""

    def __init__(self, net):
        wire = net.switch("wire")
        self.authority = pki.Authority(net.folder)
        self.web = net.machine("web", (wire, f"{WEB}/24"))
        self.logs = net.machine("logs", (wire, f"{LOGS}/24"))
        for machine in (self.web, self.logs):
            machine.know(NAMES)
            rsyslog.prepare(machine)
        self.web.must("mkdir", "-p", QUEUE_METRICS.rpartition("/")[0])
        self.web.write("/usr/local/sbin/fibsrv-queue-metrics", rsyslog.SHIPPED / "queue-metrics.py", mode=0o755)
        self.clients = {}

    def certify(self, machine, file, name):
        """Gives a machine the certificate of the authority, and one of its own by this name."""
        both = self.authority.issue(name, usage="serverAuth,clientAuth")
        machine.write("/etc/rsyslog.d/tls/ca.crt", self.authority.certificate)
        machine.write(f"/etc/rsyslog.d/tls/{file}.crt", both[both.index("-----BEGIN CERTIFICATE"):])
        machine.write(f"/etc/rsyslog.d/tls/{file}.key", both, mode=0o600)

    def start_receiver(self):
        self.receiver = rsyslog.start(self.logs)

    def start_shipper(self):
        self.shipper = rsyslog.start(self.web)

    def start_journal(self):
        """As on any machine, the journal is there before there is anybody to read it."""
        self.web.own("/etc/systemd")
        self.web.write("/etc/systemd/journald.conf", JOURNALD)
        self.web.start("/lib/systemd/systemd-journald")
        lab.until("the journal listens", self.web.path("/run/systemd/journal/stdout").exists)
        lab.until("there is a journal", lambda: list(self.web.path("/run/log/journal").glob("*/system.journal")))

    def start_servers(self):
        self.web.must("mkdir", "-p", "/var/log/fibsrv", "/var/lib/docker/containers")

        def server(source, *before, after=()):
            command = [ROOT / "bin/fibsrv", "--listen", f"127.0.0.1:{PORTS[source]}", "--access-log", "json"]
            return self.web.start(*before, *command, *after)

        server("file", after=["--access-log-file", "/var/log/fibsrv/access.log"])
        server("journal", "systemd-cat", "--identifier=fibsrv")
        self.engine = server("containers", sys.executable, ROOT / "tests/deploy/json_file.py", "/var/lib/docker/containers")
        for port in PORTS.values():
            lab.until("a server serves", lambda port=port: self.get(port, "/healthz"))

    def get(self, port, path, *words):
        return self.web.run("curl", "-sS", "--max-time", "5", *words, f"http://127.0.0.1:{port}{path}").stdout

    def start_clients(self, run, sources=tuple(PORTS)):
        """A client for each server; the numbers of this run are told apart by its name."""
        self.clients = {f"{run}-{source}": self.web.start(sys.executable, ROOT / "tests/deploy/ask.py", PORTS[source],
                                                          f"{run}-{source}", EVERY_S) for source in sources}

    def asked(self, client):
        """What a client has asked and been answered so far: number, when asked, when answered."""
        lines = self.clients[client].log().split("\n")[:-1]
        return [(int(number), float(began), float(ended)) for number, began, ended in map(str.split, lines)]

    def answers(self):
        return sum(len(self.asked(client)) for client in self.clients)

    def go_on(self, seconds):
        """Lets so much time go by, in which the clients have to be answered."""
        before = self.answers()
        time.sleep(seconds)
        assert self.answers() > before, "the servers do not answer"

    def stop_clients(self):
        for client, process in self.clients.items():
            assert process.stop() == 0, f"{client}: {process.log()[-300:]}"

    def kept(self, file="access.jsonl"):
        """The lines on the machine that keeps them, as they stand in its files, the older file first."""
        paths = sorted(self.logs.path("/var/log/fibsrv").glob(file + "*"), reverse=True)
        contents = [gzip.open(path).read() if path.suffix == ".gz" else path.read_bytes() for path in paths]
        return b"".join(contents).decode().split("\n")[:-1]

    def events(self):
        return "".join(line + "\n" for line in self.kept("events.log"))

    def arrived(self):
        return rsyslog.arrived(self.kept())

    def settled(self, seconds=40):
        """Waits until all that has been asked has arrived; if that is not to be, the table tells."""
        wanted = {client: len(self.asked(client)) for client in self.clients}

        def all_there():
            found = self.arrived()
            return all(len(set(found[client])) >= count for client, count in wanted.items())

        with contextlib.suppress(TimeoutError):
            lab.until("all lines arrive", all_there, seconds, every=0.2)

    def queued(self):
        """Lines that wait, as the node exporter would find them."""
        text = self.web.path(QUEUE_METRICS).read_text()
        return int(re.search(r"^fibsrv_log_queue_lines (\d+)$", text, re.MULTILINE)[1])

    def waiting_bytes(self):
        return sum(path.stat().st_size for path in self.web.path("/var/spool/rsyslog").glob("fibsrv.0*"))


def quantile(values, part):
    return statistics.quantiles(values, n=1000, method="inclusive")[round(part * 1000) - 1]


def check_files(way, table):
    """Each variant together with Debian's own configuration."""
    way.certify(way.logs, "logs", "logs.example")
    way.certify(way.web, "host", "host.example")
    checked = 0
    for machine in (way.web, way.logs):
        for files in VARIANTS[machine.name]:
            rsyslog.configure(machine, *files)
            machine.must("rsyslogd", "-N1", "-f", "/etc/rsyslog.conf")
            checked += 1
    rules.check(rsyslog.SHIPPED)
    table.row("variants accepted by rsyslogd -N1", checked, exactly=sum(map(len, VARIANTS.values())))


def check_lines(way, table, title, lost_at_most=0, ordered=True):
    """Lost, out of order, twice."""
    found = way.arrived()
    lost = disorder = twice = total = 0
    for client in way.clients:
        asked = [number for number, _, _ in way.asked(client)]
        seen = list(dict.fromkeys(found[client]))
        missing = sorted(set(asked) - set(seen))
        if missing:
            print(f"{client}: {len(missing)} lost, of {len(asked)}: {missing[0]} to {missing[-1]}", file=sys.stderr)
        total += len(asked)
        lost += len(missing)
        disorder += sum(later < earlier for earlier, later in zip(seen, seen[1:]))
        twice += len(found[client]) - len(seen)
    if lost_at_most:
        table.row(f"{title}: lost, of {total}", lost, at_most=lost_at_most)
    else:
        table.row(f"{title}: lost, of {total}", lost, exactly=0)
    if ordered:
        table.row(f"{title}: out of order", disorder, exactly=0)
    table.row(f"{title}: came twice", twice)


def other_lines(way, table):
    """What is no JSON is kept as text; what is not ours stays where it is."""
    for program in ("haproxy", "sshd"):
        way.web.must("systemd-cat", f"--identifier={program}", "echo", "a line of another program")
    lab.until("a line of the front", lambda: " web haproxy a line of another program\n" in way.events())
    assert "sshd" not in way.events(), way.events()
    started = re.findall(r"^20\d\d-\S+T\S+ web fibsrv .*listening on", way.events(), re.MULTILINE)
    table.row("events of servers that arrived as text", len(started), exactly=2)


def strange_requests(way, table):
    """Requests by which a client would like to be more than a text in a field."""
    quotes, nothing = '"' * 1000, "\x01\x7f\u00e9"
    for source, port in PORTS.items():
        way.get(port, f"/api/fibonacci/20?strange={source}-1", "-A", f'{quotes}}}, "status": 599', "-e", nothing)
        way.get(port, f"/api/fibonacci/20?strange={source}-2", "-X", "BREW")
        way.get(port, f"/api/fibonacci/20?strange={source}-{'x' * 3000}")
    def strange():
        return [entry for entry in map(json.loads, way.kept()) if "?strange=" in (entry["target"] or "")]

    lab.until("strange lines arrive", lambda: len(strange()) >= 9)
    table.row("strange requests that became objects", len(strange()), exactly=9)
    errors = [json.loads(line) for line in way.kept("errors.jsonl")]
    assert {entry["status"] for entry in errors} == {501}, errors
    table.row("of them by status in a file of their own", len(errors), exactly=3)
    table.row("objects that were taken for text", way.events().count("{"), exactly=0)


def check_fields(way, table):
    """That what arrived is objects, with the fields of the access log and their types."""
    wrong = []
    entries = [json.loads(line) for line in way.kept()]
    entries = [entry for entry in entries if "source=" in (entry["target"] or "")]
    for entry in entries:
        types = {name: type(value) for name, value in entry.items()}
        said = (entry["status"], entry["method"], entry["host"], entry["program"])
        if types != FIELDS or said != (200, "GET", "web", "fibsrv"):
            wrong.append(entry)
    assert not wrong, wrong[:3]
    table.row(f"objects with other fields or types, of {len(entries)}", len(wrong), exactly=0)


def receiver_away(way, table):
    """The receiver frozen, killed while frozen, and back, all under load; the engine's files are rotated meanwhile."""
    title = "receiver frozen, then killed"
    way.start_clients("killed")
    way.go_on(3)
    before = way.queued()
    frozen = time.monotonic()
    way.receiver.freeze()
    way.go_on(1)
    way.engine.signal(signal.SIGHUP)
    way.go_on(1)
    way.receiver.kill()
    way.go_on(2)
    way.engine.signal(signal.SIGHUP)
    way.go_on(1)
    lines = lab.until("statistics of the queue", lambda: (found := way.queued()) > before and found, 5)
    table.row(f"{title}: waiting on disk, as the metrics tell", lines, unit="lines")
    table.row(f"{title}: waiting on disk", way.waiting_bytes() // 1000, unit="kB")
    back = time.monotonic()
    way.start_receiver()
    way.go_on(2)
    way.stop_clients()
    way.settled()
    table.row(f"{title}: all lines there after its return", time.monotonic() - back, at_most=30.0, unit="s")
    lab.until("an empty queue, by its metrics", lambda: way.queued() == 0, 10)
    metrics = way.web.path(QUEUE_METRICS).read_text()
    said = way.web.run("promtool", "check", "metrics", input=metrics)
    assert said.returncode == 0 and not said.stderr, said.stderr
    untold = rules.untold(rsyslog.SHIPPED, "fibsrv_log", metrics)
    assert not untold, untold
    check_lines(way, table, title)
    for when, since, until in (("before", 0, frozen), ("meanwhile", frozen, back)):
        times = [ended - began for client in way.clients for _, began, ended in way.asked(client)
                 if since <= began < until]
        table.row(f"answers of the servers {when}: median", statistics.median(times) * 1000, unit="ms")
        table.row(f"answers of the servers {when}: 99 %", quantile(times, 0.99) * 1000, unit="ms")
        table.row(f"answers of the servers {when}: slowest", max(times) * 1000, at_most=1000.0, unit="ms")


def receiver_restarted(way, table):
    """In order, again and again, as an upgrade does it."""
    way.start_clients("restarts")
    for _ in range(3):
        way.go_on(0.5)
        way.receiver.stop()
        way.start_receiver()
    way.go_on(1)
    way.stop_clients()
    way.settled()
    check_lines(way, table, "receiver restarted 3 times")


def shipper_restarted(way, table):
    """With lines under way, and the receiver there."""
    way.start_clients("shipper")
    for _ in range(3):
        way.go_on(0.5)
        way.shipper.stop()
        way.go_on(0.3)
        way.start_shipper()
    way.go_on(1)
    way.stop_clients()
    way.settled()
    check_lines(way, table, "shipper restarted 3 times")


def both_away(way, table):
    """The shipper ends while there is no receiver. What it has sent and nobody has acknowledged is nowhere on disk."""
    for title, end in (("stopped", lab.Process.stop), ("killed", lab.Process.kill)):
        way.start_clients(f"both-{title}")
        way.go_on(1)
        way.receiver.kill()
        way.go_on(0.5)
        end(way.shipper)
        way.go_on(0.3)
        way.start_shipper()
        way.go_on(0.3)
        way.start_receiver()
        way.go_on(0.5)
        way.stop_clients()
        way.settled(8)
        check_lines(way, table, f"shipper {title} while the receiver is away", lost_at_most=LOST_WITH_BOTH, ordered=False)


def rotation(way, table):
    """What is kept is put away, twice, while lines come."""
    way.logs.own("/etc/logrotate.d")
    way.logs.write("/etc/logrotate.d/fibsrv-logs", rsyslog.SHIPPED / "logrotate.conf")
    way.start_clients("rotation")
    for _ in range(2):
        way.go_on(0.5)
        way.logs.must("logrotate", "--force", "--state", "/run/logrotate", "/etc/logrotate.d/fibsrv-logs")
    way.go_on(0.5)
    way.stop_clients()
    way.settled()
    check_lines(way, table, "kept files rotated twice")


def tls(way, table):
    """Over TLS: nobody sends who has not the right name, and what he has waits until he has it."""
    way.receiver.stop()
    way.shipper.stop()
    rsyslog.configure(way.logs, "receiver.conf", "listen-tls.conf")
    rsyslog.configure(way.web, "shipper-tls.conf", "file.conf")
    way.certify(way.web, "host", "stranger.example")
    way.start_receiver()
    way.start_shipper()
    way.start_clients("stranger", ["file"])
    lab.until("the stranger is refused", lambda: re.search("authentication error.*stranger", way.receiver.log()))
    table.row("TLS: lines taken from a stranger", len(way.arrived()["stranger-file"]), exactly=0)
    way.certify(way.web, "host", "host.example")
    way.shipper.stop()
    way.start_shipper()
    way.stop_clients()
    way.settled(8)
    check_lines(way, table, "TLS, refused until it had the right name", lost_at_most=LOST_WITH_BOTH, ordered=False)
    way.start_clients("tls", ["file"])
    way.go_on(1)
    way.receiver.kill()
    way.go_on(1)
    way.start_receiver()
    way.go_on(1)
    way.stop_clients()
    way.settled()
    check_lines(way, table, "TLS, receiver killed")


def main():
    lab.enter(seconds=165)
    lab.need("rsyslog rsyslog-relp systemd logrotate openssl curl prometheus", "rsyslogd", "systemd-cat", "logrotate",
             "openssl", "curl", "promtool")
    start = time.monotonic()
    with figures.Table("logs_test") as table, lab.Lab() as net:
        way = Way(net)
        check_files(way, table)

        rsyslog.configure(way.logs, "receiver.conf", "listen.conf")
        rsyslog.configure(way.web, *SENDERS)
        way.start_journal()
        way.start_receiver()
        way.start_shipper()
        way.start_servers()
        receiver_away(way, table)
        receiver_restarted(way, table)
        shipper_restarted(way, table)
        rotation(way, table)
        both_away(way, table)
        other_lines(way, table)
        strange_requests(way, table)
        tls(way, table)
        check_fields(way, table)
        table.row("the whole test", time.monotonic() - start, unit="s")
    sys.exit(table.status)


if __name__ == "__main__":
    main()
