#!/usr/bin/env python3
"""Log forwarding: every access log line arrives in order and parsed, whatever happens to the receiver.

Two machines: `web` with three servers, whose lines take three ways (a log file, a real systemd-journald, and files in Docker's
format with rotation), and an rsyslog that forwards all of them; `logs` with the receiving rsyslog. Both are Debian's, with the
files of deploy/rsyslog at their installed paths. A client sends numbered requests to each server, and at the end each number is
looked up on `logs`.

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

import results
import netns
import pki
import rsyslog
import rule_checks

ROOT = pathlib.Path(__file__).resolve().parents[2]

WEB, LOGS = "10.77.0.1", "10.77.0.2"
NAMES = f"{WEB} web.example\n{LOGS} logs.example\n"
PORTS = {"file": 3001, "journal": 3002, "containers": 3003}
QUEUE_METRICS = "/var/lib/prometheus/node-exporter/fibsrv-logs.prom"
INTERVAL_S = 0.005
"""Between two requests of each client: 600 lines per second in total."""

LOST_WITH_BOTH = 129
"""If the shipper stops while there is no receiver: the RELP window and the line being sent."""

SENDERS = ["shipper.conf", "file.conf", "journal.conf", "containers.conf", "queue-metrics.conf"]
VARIANTS = {
    "web": [SENDERS, *([shipper, source] for shipper in ("shipper.conf", "shipper-tls.conf") for source in SENDERS[1:])],
    "logs": [["receiver.conf", "listen.conf"], ["receiver.conf", "listen-tls.conf"]],
}

JOURNALD = "[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\nForwardToSyslog=no\nRateLimitIntervalSec=0\n"

FIELDS = {"time": str, "remote_addr": str, "remote_port": int, "method": str, "target": str, "version": str, "status": int,
          "body_bytes_sent": int, "bytes_sent": int, "referer": type(None), "user_agent": type(None),
          "forwarded_for": type(None), "trace_id": type(None), "duration_us": int,
          "host": str, "program": str}


class LogPipeline:
    """The two machines with their programs."""

    def __init__(self, net):
        wire = net.switch("wire")
        self.authority = pki.Authority(net.directory)
        self.web = net.machine("web", (wire, f"{WEB}/24"))
        self.logs = net.machine("logs", (wire, f"{LOGS}/24"))
        for machine in (self.web, self.logs):
            machine.set_hosts(NAMES)
            rsyslog.prepare(machine)
        self.web.must("mkdir", "-p", QUEUE_METRICS.rpartition("/")[0])
        self.web.write("/usr/local/sbin/fibsrv-queue-metrics", rsyslog.SHIPPED / "queue-metrics.py", mode=0o755)
        self.clients = {}

    def install_certificate(self, machine, file, name):
        """Installs the CA certificate and a host certificate with this name."""
        both = self.authority.issue(name, usage="serverAuth,clientAuth")
        machine.write("/etc/rsyslog.d/tls/ca.crt", self.authority.certificate)
        machine.write(f"/etc/rsyslog.d/tls/{file}.crt", both[both.index("-----BEGIN CERTIFICATE"):])
        machine.write(f"/etc/rsyslog.d/tls/{file}.key", both, mode=0o600)

    def start_receiver(self):
        self.receiver = rsyslog.start(self.logs)

    def start_shipper(self):
        self.shipper = rsyslog.start(self.web)

    def start_journal(self):
        """Starts journald, before its readers."""
        self.web.mount_tmpfs("/etc/systemd")
        self.web.write("/etc/systemd/journald.conf", JOURNALD)
        self.web.start("/lib/systemd/systemd-journald")
        netns.until("the journal listens", self.web.path("/run/systemd/journal/stdout").exists)
        netns.until("there is a journal", lambda: list(self.web.path("/run/log/journal").glob("*/system.journal")))

    def start_servers(self):
        self.web.must("mkdir", "-p", "/var/log/fibsrv", "/var/lib/docker/containers")

        def server(source, *before, after=()):
            command = [ROOT / "bin/fibsrv", "--listen", f"127.0.0.1:{PORTS[source]}", "--access-log", "json"]
            return self.web.start(*before, *command, *after)

        server("file", after=["--access-log-file", "/var/log/fibsrv/access.log"])
        server("journal", "systemd-cat", "--identifier=fibsrv")
        self.engine = server("containers", sys.executable, ROOT / "tests/deploy/docker_json_log.py", "/var/lib/docker/containers")
        for port in PORTS.values():
            netns.until("a server is ready", lambda port=port: self.get(port, "/healthz"))

    def get(self, port, path, *words):
        return self.web.run("curl", "-sS", "--max-time", "5", *words, f"http://127.0.0.1:{port}{path}").stdout

    def start_clients(self, run, sources=tuple(PORTS)):
        """Starts a client for each server; `run` distinguishes its request numbers."""
        self.clients = {f"{run}-{source}": self.web.start(sys.executable, ROOT / "tests/deploy/numbered_requests.py", PORTS[source],
                                                          f"{run}-{source}", INTERVAL_S) for source in sources}

    def requests_of(self, client):
        """Returns number, start and end of each completed request of a client."""
        lines = self.clients[client].log().split("\n")[:-1]
        return [(int(number), float(began), float(ended)) for number, began, ended in map(str.split, lines)]

    def responses(self):
        return sum(len(self.requests_of(client)) for client in self.clients)

    def run_for(self, seconds):
        """Waits for a time in which the servers must respond."""
        before = self.responses()
        time.sleep(seconds)
        assert self.responses() > before, "the servers do not respond"

    def stop_clients(self):
        for client, process in self.clients.items():
            assert process.stop() == 0, f"{client}: {process.log()[-300:]}"

    def stored_lines(self, file="access.jsonl"):
        """Returns the lines in the files of the log host, oldest file first."""
        paths = sorted(self.logs.path("/var/log/fibsrv").glob(file + "*"), reverse=True)
        contents = [gzip.open(path).read() if path.suffix == ".gz" else path.read_bytes() for path in paths]
        return b"".join(contents).decode().split("\n")[:-1]

    def events(self):
        return "".join(line + "\n" for line in self.stored_lines("events.log"))

    def arrived(self):
        return rsyslog.arrived(self.stored_lines())

    def wait_arrived(self, seconds=40):
        """Waits until the lines of all requests have arrived; the table shows missing ones."""
        wanted = {client: len(self.requests_of(client)) for client in self.clients}

        def all_arrived():
            found = self.arrived()
            return all(len(set(found[client])) >= count for client, count in wanted.items())

        with contextlib.suppress(TimeoutError):
            netns.until("all lines arrive", all_arrived, seconds, every=0.2)

    def queued(self):
        """Returns the queue length from the metrics file."""
        text = self.web.path(QUEUE_METRICS).read_text()
        return int(re.search(r"^fibsrv_log_queue_lines (\d+)$", text, re.MULTILINE)[1])

    def waiting_bytes(self):
        return sum(path.stat().st_size for path in self.web.path("/var/spool/rsyslog").glob("fibsrv.0*"))


def quantile(values, part):
    return statistics.quantiles(values, n=1000, method="inclusive")[round(part * 1000) - 1]


def check_files(pipeline, table):
    """Validates each variant together with Debian's configuration."""
    pipeline.install_certificate(pipeline.logs, "logs", "logs.example")
    pipeline.install_certificate(pipeline.web, "host", "host.example")
    checked = 0
    for machine in (pipeline.web, pipeline.logs):
        for files in VARIANTS[machine.name]:
            rsyslog.configure(machine, *files)
            machine.must("rsyslogd", "-N1", "-f", "/etc/rsyslog.conf")
            checked += 1
    rule_checks.check(rsyslog.SHIPPED)
    table.row("variants accepted by rsyslogd -N1", checked, exactly=sum(map(len, VARIANTS.values())))


def check_lines(pipeline, table, title, lost_at_most=0, ordered=True):
    """Counts lines that were lost, out of order or duplicated."""
    found = pipeline.arrived()
    lost = reordered = duplicates = total = 0
    for client in pipeline.clients:
        sent = [number for number, _, _ in pipeline.requests_of(client)]
        seen = list(dict.fromkeys(found[client]))
        missing = sorted(set(sent) - set(seen))
        if missing:
            print(f"{client}: {len(missing)} lost, of {len(sent)}: {missing[0]} to {missing[-1]}", file=sys.stderr)
        total += len(sent)
        lost += len(missing)
        reordered += sum(later < earlier for earlier, later in zip(seen, seen[1:]))
        duplicates += len(found[client]) - len(seen)
    if lost_at_most:
        table.row(f"{title}: lost, of {total}", lost, at_most=lost_at_most)
    else:
        table.row(f"{title}: lost, of {total}", lost, exactly=0)
    if ordered:
        table.row(f"{title}: out of order", reordered, exactly=0)
    table.row(f"{title}: duplicates", duplicates)


def other_lines(pipeline, table):
    """Non-JSON lines are stored as text; lines of other programs are not forwarded."""
    for program in ("haproxy", "sshd"):
        pipeline.web.must("systemd-cat", f"--identifier={program}", "echo", "a line of another program")
    netns.until("a line of the proxy", lambda: " web haproxy a line of another program\n" in pipeline.events())
    assert "sshd" not in pipeline.events(), pipeline.events()
    started = re.findall(r"^20\d\d-\S+T\S+ web fibsrv .*listening on", pipeline.events(), re.MULTILINE)
    table.row("process events stored as text", len(started), exactly=2)


def injection_attempts(pipeline, table):
    """Requests with quotes and control characters do not break out of their field."""
    quotes, nothing = '"' * 1000, "\x01\x7f\u00e9"
    for source, port in PORTS.items():
        pipeline.get(port, f"/api/fibonacci/20?strange={source}-1", "-A", f'{quotes}}}, "status": 599', "-e", nothing)
        pipeline.get(port, f"/api/fibonacci/20?strange={source}-2", "-X", "BREW")
        pipeline.get(port, f"/api/fibonacci/20?strange={source}-{'x' * 3000}")

    def attempts():
        return [entry for entry in map(json.loads, pipeline.stored_lines()) if "?strange=" in (entry["target"] or "")]

    netns.until("the lines arrive", lambda: len(attempts()) >= 9)
    table.row("injection attempts stored as objects", len(attempts()), exactly=9)
    errors = [json.loads(line) for line in pipeline.stored_lines("errors.jsonl")]
    assert {entry["status"] for entry in errors} == {501}, errors
    table.row("of them in errors.jsonl by status", len(errors), exactly=3)
    table.row("objects stored as text", pipeline.events().count("{"), exactly=0)


def check_fields(pipeline, table):
    """Stored lines are objects with the fields and types of the access log."""
    wrong = []
    entries = [json.loads(line) for line in pipeline.stored_lines()]
    entries = [entry for entry in entries if "source=" in (entry["target"] or "")]
    for entry in entries:
        types = {name: type(value) for name, value in entry.items()}
        values = (entry["status"], entry["method"], entry["host"], entry["program"])
        if types != FIELDS or values != (200, "GET", "web", "fibsrv"):
            wrong.append(entry)
    assert not wrong, wrong[:3]
    table.row(f"objects with other fields or types, of {len(entries)}", len(wrong), exactly=0)


def receiver_outage(pipeline, table):
    """The receiver is frozen, killed and restarted under load, while container log files rotate."""
    title = "receiver frozen, then killed"
    pipeline.start_clients("killed")
    pipeline.run_for(3)
    before = pipeline.queued()
    frozen = time.monotonic()
    pipeline.receiver.freeze()
    pipeline.run_for(1)
    pipeline.engine.signal(signal.SIGHUP)
    pipeline.run_for(1)
    pipeline.receiver.kill()
    pipeline.run_for(2)
    pipeline.engine.signal(signal.SIGHUP)
    pipeline.run_for(1)
    lines = netns.until("statistics of the queue", lambda: (found := pipeline.queued()) > before and found, 5)
    table.row(f"{title}: queued, by the metrics", lines, unit="lines")
    table.row(f"{title}: queued on disk", pipeline.waiting_bytes() // 1000, unit="kB")
    back = time.monotonic()
    pipeline.start_receiver()
    pipeline.run_for(2)
    pipeline.stop_clients()
    pipeline.wait_arrived()
    table.row(f"{title}: all lines arrived after its restart", time.monotonic() - back, at_most=30.0, unit="s")
    netns.until("an empty queue, by its metrics", lambda: pipeline.queued() == 0, 10)
    metrics = pipeline.web.path(QUEUE_METRICS).read_text()
    lint = pipeline.web.run("promtool", "check", "metrics", input=metrics)
    assert lint.returncode == 0 and not lint.stderr, lint.stderr
    missing = rule_checks.missing_metrics(rsyslog.SHIPPED, "fibsrv_log", metrics)
    assert not missing, missing
    check_lines(pipeline, table, title)
    for when, since, until in (("before", 0, frozen), ("during the outage", frozen, back)):
        times = [ended - began for client in pipeline.clients for _, began, ended in pipeline.requests_of(client)
                 if since <= began < until]
        table.row(f"server latency {when}: median", statistics.median(times) * 1000, unit="ms")
        table.row(f"server latency {when}: 99 %", quantile(times, 0.99) * 1000, unit="ms")
        table.row(f"server latency {when}: slowest", max(times) * 1000, at_most=1000.0, unit="ms")


def receiver_restarted(pipeline, table):
    """Graceful restarts of the receiver."""
    pipeline.start_clients("restarts")
    for _ in range(3):
        pipeline.run_for(0.5)
        pipeline.receiver.stop()
        pipeline.start_receiver()
    pipeline.run_for(1)
    pipeline.stop_clients()
    pipeline.wait_arrived()
    check_lines(pipeline, table, "receiver restarted 3 times")


def shipper_restarted(pipeline, table):
    """With lines under pipeline, and the receiver there."""
    pipeline.start_clients("shipper")
    for _ in range(3):
        pipeline.run_for(0.5)
        pipeline.shipper.stop()
        pipeline.run_for(0.3)
        pipeline.start_shipper()
    pipeline.run_for(1)
    pipeline.stop_clients()
    pipeline.wait_arrived()
    check_lines(pipeline, table, "shipper restarted 3 times")


def both_down(pipeline, table):
    """The shipper stops while the receiver is down. Lines sent but not acknowledged are lost."""
    for title, end in (("stopped", netns.Process.stop), ("killed", netns.Process.kill)):
        pipeline.start_clients(f"both-{title}")
        pipeline.run_for(1)
        pipeline.receiver.kill()
        pipeline.run_for(0.5)
        end(pipeline.shipper)
        pipeline.run_for(0.3)
        pipeline.start_shipper()
        pipeline.run_for(0.3)
        pipeline.start_receiver()
        pipeline.run_for(0.5)
        pipeline.stop_clients()
        pipeline.wait_arrived(8)
        check_lines(pipeline, table, f"shipper {title} while the receiver is down", lost_at_most=LOST_WITH_BOTH, ordered=False)


def rotation(pipeline, table):
    """The stored files are rotated under load."""
    pipeline.logs.mount_tmpfs("/etc/logrotate.d")
    pipeline.logs.write("/etc/logrotate.d/fibsrv-logs", rsyslog.SHIPPED / "logrotate.conf")
    pipeline.start_clients("rotation")
    for _ in range(2):
        pipeline.run_for(0.5)
        pipeline.logs.must("logrotate", "--force", "--state", "/run/logrotate", "/etc/logrotate.d/fibsrv-logs")
    pipeline.run_for(0.5)
    pipeline.stop_clients()
    pipeline.wait_arrived()
    check_lines(pipeline, table, "stored files rotated 2 times")


def tls(pipeline, table):
    """TLS: a sender with the wrong name is rejected, and its lines stay queued until it has the right one."""
    pipeline.receiver.stop()
    pipeline.shipper.stop()
    rsyslog.configure(pipeline.logs, "receiver.conf", "listen-tls.conf")
    rsyslog.configure(pipeline.web, "shipper-tls.conf", "file.conf")
    pipeline.install_certificate(pipeline.web, "host", "unknown.example")
    pipeline.start_receiver()
    pipeline.start_shipper()
    pipeline.start_clients("unknown", ["file"])
    netns.until("the unknown sender is rejected", lambda: re.search("authentication error.*unknown", pipeline.receiver.log()))
    table.row("TLS: lines accepted from an unknown sender", len(pipeline.arrived()["unknown-file"]), exactly=0)
    pipeline.install_certificate(pipeline.web, "host", "host.example")
    pipeline.shipper.stop()
    pipeline.start_shipper()
    pipeline.stop_clients()
    pipeline.wait_arrived(8)
    check_lines(pipeline, table, "TLS, rejected until it had the right name", lost_at_most=LOST_WITH_BOTH, ordered=False)
    pipeline.start_clients("tls", ["file"])
    pipeline.run_for(1)
    pipeline.receiver.kill()
    pipeline.run_for(1)
    pipeline.start_receiver()
    pipeline.run_for(1)
    pipeline.stop_clients()
    pipeline.wait_arrived()
    check_lines(pipeline, table, "TLS, receiver killed")


def main():
    netns.enter(seconds=165)
    netns.need("rsyslog rsyslog-relp systemd logrotate openssl curl prometheus", "rsyslogd", "systemd-cat", "logrotate",
             "openssl", "curl", "promtool")
    start = time.monotonic()
    with results.Table("logs_test") as table, netns.Network() as net:
        pipeline = LogPipeline(net)
        check_files(pipeline, table)

        rsyslog.configure(pipeline.logs, "receiver.conf", "listen.conf")
        rsyslog.configure(pipeline.web, *SENDERS)
        pipeline.start_journal()
        pipeline.start_receiver()
        pipeline.start_shipper()
        pipeline.start_servers()
        receiver_outage(pipeline, table)
        receiver_restarted(pipeline, table)
        shipper_restarted(pipeline, table)
        rotation(pipeline, table)
        both_down(pipeline, table)
        other_lines(pipeline, table)
        injection_attempts(pipeline, table)
        tls(pipeline, table)
        check_fields(pipeline, table)
        table.row("total time", time.monotonic() - start, unit="s")
    sys.exit(table.status)


if __name__ == "__main__":
    main()
