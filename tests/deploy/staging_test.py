#!/usr/bin/env python3
"""`make staging`: the complete production setup on one machine, with failure drills under load.

The proxy pair of proxy_pair.py, three hosts with a supervisor and two workers each, external_monitoring.py, an internal
Prometheus with the rules of prometheus/ and deploy/haproxy, and rsyslog from each host to a log host. All are Debian's
programs with the shipped files; monitoring times, and so the objectives, are a tenth of the shipped ones.

Each drill is a failure or a change under load. Its row shows the outage, the failed requests, the delays of the expected
alerts, and the successful requests without a line on the log host, each with its objective from docs/operations.md. Stalls of
the host, as measured by the control client of traffic.py, are added to the outage objective. Prints one table; exits with 1 if
an objective was missed.
"""

import dataclasses
import json
import math
import pathlib
import re
import signal
import subprocess
import sys
import time

import results
import proxy_pair
import netns
import dashboard_queries
import dashboard_recording
import rsyslog
import traffic
from proxy_pair import BINARY
from external_monitoring import FASTER, MONITOR, NAME, ROOT, TARGET, ExternalMonitoring, faster, objective

TIME_LIMIT = 180
HOSTS = 3
TARGETS = 2 * HOSTS + 6
"""Servers, proxies, node exporters of both, Alertmanager and Prometheus."""
LOG_HOST, INTERNAL = "10.77.1.31", "10.77.1.32"
ACCESS_LOG = "/var/log/fibsrv/access.log"
DASHBOARD = ROOT / "deploy/grafana/dashboards/operations.json"
EXPECTED_PAGES = {"FibsrvDown", "FibsrvUnreachable", "FrontErrorBudgetBurn"}
PACE = 100
"""Requests per second of both clients together."""

SMOOTH, DEAD_MACHINE, DEAD_PROXY = 0.3, 1.0, 2.0
"""Objectives for the outage in seconds. `SMOOTH` allows for the request interval and scheduling noise."""

class Host(proxy_pair.Worker):
    """A machine with a supervisor and two workers, whose access log rsyslog forwards to the log host."""

    flags = ("--workers", "2", "--access-log", "json", "--access-log-file", ACCESS_LOG)
    binary = "/run/fibsrv"
    shipper = None

    def start(self):
        self.install(BINARY.read_bytes())
        if self.shipper is None:
            self.machine.set_hosts(f"{LOG_HOST} logs.example\n")
            rsyslog.prepare(self.machine)
            rsyslog.configure(self.machine, "shipper.conf", "file.conf", "queue-metrics.conf")
            self.machine.write("/usr/local/sbin/fibsrv-queue-metrics", rsyslog.SHIPPED / "queue-metrics.py", mode=0o755)
            self.machine.path("/var/log/fibsrv").mkdir()
            self.machine.path(proxy_pair.TEXTFILES).mkdir(parents=True)
        super().start()
        if self.shipper is None or not self.shipper.running():
            self.shipper = rsyslog.start(self.machine)
            self.exporter = proxy_pair.start_node_exporter(self.machine)

    def install(self, binary):
        """Replaces the binary, as a package does."""
        self.machine.write(self.binary, binary, mode=0o755)

    def upgrade(self):
        """Upgrades to the installed binary; returns once only new workers run."""
        before = set(self.worker_pids())
        self.process.signal(signal.SIGHUP)
        netns.until("new workers serve and the old ones are gone",
                    lambda: len(self.worker_pids()) == 2 and not before & set(self.worker_pids()), 15, every=0.1)

    def worker_pids(self):
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]


class Proxy(proxy_pair.Proxy):
    """A proxy with a node exporter, also after its machine has been restored."""

    exporter = None

    def start(self):
        super().start()
        if self.exporter is None or not self.exporter.running():
            self.exporter = proxy_pair.start_node_exporter(self.machine)


class Staging:
    """The complete setup; serving once constructed."""

    def __init__(self, net):
        self.front = proxy_pair.Front(net, HOSTS, Host, Proxy)
        self.hosts = self.front.workers
        self.log_host = net.machine("logs", (self.front.internal, f"{LOG_HOST}/24"))
        rsyslog.prepare(self.log_host)
        rsyslog.configure(self.log_host, "receiver.conf", "listen.conf")
        self.receiver = rsyslog.start(self.log_host)
        # Less than 14 days left, so that the certificate alert fires.
        self.front.install_certificate(self.front.authority.issue(NAME, days=3))
        self.watch = ExternalMonitoring(self.front)
        self.watch.configure()
        self.watch.start_third_host("external", "internal")
        self.watch.start()
        self.internal = self.start_internal(net)
        self.front.wait_ready()
        netns.until("a successful probe", lambda: self.watch.query('probe_success{job="external"}').get(TARGET) == 1, 30)
        self.probed = time.monotonic()
        netns.until("all internal targets are up", lambda: self.healthy_targets() == TARGETS, 20)
        self.traffic = traffic.Traffic(self.front, TIME_LIMIT, TARGET)
        self.control = traffic.ControlClient(self.front, TIME_LIMIT)

    def start_internal(self, net):
        """Starts the internal Prometheus with the shipped prometheus/ and the rules of all components.

        Only times and the addresses in targets/ differ. It reaches Alertmanager by a second cable.
        """
        machine = net.machine("internal", (self.front.internal, f"{INTERNAL}/24"), (self.front.public, "10.77.0.104/24"))
        machine.mount_tmpfs("/etc/prometheus")
        shipped = ROOT / "prometheus"
        for file in (shipped / "prometheus.yml", shipped / "meta_monitoring.yml", *shipped.glob("rules/*.yml")):
            machine.write(f"/etc/prometheus/{file.relative_to(shipped)}", faster(file, required=False))
        for component in ("haproxy", "keepalived", "rsyslog"):
            for file in ROOT.glob(f"deploy/{component}/*.yml"):
                if file.name in ("rules.yml", "slo.yml"):
                    machine.write(f"/etc/prometheus/site/{component}-{file.name}", faster(file))
        hosts = [f"10.77.1.{20 + number}" for number in range(1, HOSTS + 1)]
        proxies = ["10.77.1.11", "10.77.1.12"]
        targets = {"fibsrv": [f"{host}:9464" for host in hosts], "front": [f"{proxy}:8404" for proxy in proxies],
                   "node": [f"{address}:9100" for address in proxies + hosts], "alertmanager": [f"{MONITOR}:9093"],
                   "prometheus": ["localhost:9090"], "cadvisor": []}
        assert {file.stem for file in shipped.glob("targets/*.yml")} == set(targets), "a job without addresses"
        for job, addresses in targets.items():
            machine.write(f"/etc/prometheus/targets/{job}.yml", json.dumps([{"targets": addresses}]))
        machine.must("promtool", "check", "config", "/etc/prometheus/prometheus.yml")
        # The default of a minute, by ten: an alert that fires before Alertmanager is discovered is sent again after it.
        machine.start("prometheus", "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/run/prometheus",
                      f"--rules.alert.resend-delay={60_000 // FASTER}ms")
        return machine

    def healthy_targets(self):
        """Returns the number of internal targets that are up."""
        output = self.internal.run("curl", "-fsS", "--max-time", "5", "--get", "--data-urlencode",
                               'query=count(up == 1)', "http://127.0.0.1:9090/api/v1/query").stdout
        found = json.loads(output)["data"]["result"] if output else []
        return int(found[0]["value"][1]) if found else 0

    def query(self, expression):
        """Returns the values of an expression in the internal Prometheus."""
        output = self.internal.run("curl", "-fsS", "--max-time", "5", "--get", "--data-urlencode", f"query={expression}",
                                   "http://127.0.0.1:9090/api/v1/query").stdout
        return [float(row["value"][1]) for row in json.loads(output)["data"]["result"]] if output else []

    def stored_lines(self):
        """Returns the lines on the log host."""
        file = self.log_host.path("/var/log/fibsrv/access.jsonl")
        return file.read_text().splitlines() if file.exists() else []


@dataclasses.dataclass
class ExpectedAlert:
    """A notification expected within a number of seconds after the start of a drill."""

    alert: str
    status: str
    within: float
    path: str = "/page"

    def wait(self, watch, since):
        """Waits up to twice the limit; returns whether it arrived in time, and a text for the table."""
        try:
            delay = watch.delay(self.alert, self.status, since, self.within * 2 - (time.monotonic() - since), self.path)
        except TimeoutError:
            return False, f"{self.alert} {self.status}: none ({self.within:.1f} s)"
        return delay <= self.within, f"{self.alert} {self.status}: {delay:.1f} s ({self.within:.1f} s)"


@dataclasses.dataclass
class Drill:
    """A drill: its time window, objectives and received notifications."""

    name: str
    since: float
    gap: float
    failed: int
    lost: int
    alerts: list
    until: float = 0.0
    messages: list = dataclasses.field(default_factory=list)

    def wait_for_alerts(self, watch):
        self.messages = [message.wait(watch, self.since) for message in self.alerts]


class Report:
    """A row for each drill, computed at the end, when all requests have ended and all lines have arrived."""

    def __init__(self, staging):
        self.staging, self.rows, self.missed = staging, [], []
        self.drills = []

    def drill(self, name, act, gap=SMOOTH, failed=0, lost=0, alerts=(), wait=True, seconds=3.0):
        """Runs `act`, then waits for the expected alerts and the given time. `failed` is the maximum number of failed requests,
        `lost` the maximum number of successful requests without a log line. Without `wait`, alerts are left to
        `wait_for_remaining_alerts`."""
        since = time.monotonic()
        act()
        drill = Drill(name, since, gap, failed, lost, alerts)
        if wait:
            drill.wait_for_alerts(self.staging.watch)
        drill.until = max(time.monotonic(), since + seconds)
        time.sleep(max(0.0, drill.until - time.monotonic()))
        self.drills.append(drill)
        print(f"{name}: {drill.until - since:.1f} s", file=sys.stderr, flush=True)

    def wait_for_remaining_alerts(self):
        """Waits for alerts of earlier drills that were not waited for."""
        for drill in self.drills:
            if len(drill.messages) < len(drill.alerts):
                drill.wait_for_alerts(self.staging.watch)

    def wait_for_lines(self, since, until, timeout):
        """Waits up to `timeout` seconds for the log lines of the requests in a window. Those that do not arrive are in the table."""
        self._settled([self.staging.traffic.results(since, until)], timeout)

    def close(self, timeout):
        """Computes the rows; waits up to `timeout` seconds for log lines in transit."""
        seen = [self.staging.traffic.results(drill.since, drill.until) for drill in self.drills]
        self.staging.traffic.stop()
        arrived = self._settled(seen, timeout)
        for drill, saw in zip(self.drills, seen, strict=True):
            gap, without = drill.gap, self._without_line(saw, arrived)
            if gap is not None:
                gap += self.staging.control.stall(drill.since, drill.until)
            met = ((gap is None or saw.gap <= gap) and (drill.failed is None or saw.failed <= drill.failed)
                   and without <= drill.lost and len(drill.messages) == len(drill.alerts)
                   and all(in_time for in_time, _ in drill.messages))
            self.rows.append((drill.name, f"{saw.gap:.2f} s{'' if gap is None else f' ({gap:.1f} s)'}",
                              f"{saw.failed} of {saw.requests}{'' if drill.failed is None else f' ({drill.failed})'}",
                              "; ".join(text for _, text in drill.messages), f"{without} ({drill.lost})",
                              "yes" if met else "**no**"))
            if not met:
                self.missed.append(drill.name)

    def _settled(self, seen, timeout):
        """Returns the request numbers on the log host, once all have arrived or the timeout expires."""
        def all_there():
            arrived = {client: set(numbers) for client, numbers in rsyslog.arrived(self.staging.stored_lines()).items()}
            return arrived if not any(self._without_line(saw, arrived) for saw in seen) else None

        try:
            return netns.until("all lines arrive", all_there, timeout, every=0.5)
        except TimeoutError:
            return {client: set(numbers) for client, numbers in rsyslog.arrived(self.staging.stored_lines()).items()}

    @staticmethod
    def _without_line(saw, arrived):
        return sum(len(set(numbers) - arrived.get(client, set())) for client, numbers in saw.answered.items())

    def table(self):
        return results.markdown(("drill", "outage", "failed requests", "alerts", "lines lost", "met"), self.rows)


def other_version():
    """Returns the binary with another revision of the same length."""
    shown = subprocess.run([BINARY, "--version"], check=True, capture_output=True, text=True).stdout
    revision = re.search(r"\((\w+),", shown)[1].encode()
    return BINARY.read_bytes().replace(revision, revision[::-1])


def without_times(text):
    """Returns the text of a file of Prometheus without its times."""
    text = re.sub(r"(mtime_seconds\{[^}]*\} [<>] )[\d.]+", r"\1TIME", text)
    return re.sub(r"(?<![\w.])\d+(ms|[smhd])\b", "TIME", text)


def check_files(staging, report):
    """Both Prometheus run all shipped files and no others, with other times only. Addresses are in targets/."""
    internal = {str(path.relative_to(ROOT / "prometheus")): path for pattern in ("*.yml", "rules/*.yml")
                for path in (ROOT / "prometheus").glob(pattern)}
    internal |= {f"site/{component}-{name}": ROOT / "deploy" / component / name
                 for component, name in (("haproxy", "rules.yml"), ("haproxy", "slo.yml"), ("keepalived", "rules.yml"), ("rsyslog", "rules.yml"))}
    external = {name: ROOT / "deploy/monitoring-external" / name for name in ("prometheus.yml", "rules.yml", "slo.yml")}
    external |= {name: ROOT / "deploy" / name.removesuffix(".yml") / name for name in ("blackbox.yml", "alertmanager.yml")}
    for machine, shipped in ((staging.internal, internal), (staging.watch.host, external)):
        directory = machine.path("/etc/prometheus")
        installed = {str(path.relative_to(directory)) for path in directory.rglob("*.yml") if path.parent.name != "targets"}
        if installed != set(shipped):
            report.missed.append(f"files of {machine.name}: {sorted(installed ^ set(shipped))}")
        report.missed += [f"{machine.name}: {name} is not the shipped file" for name in sorted(installed & set(shipped))
                          if without_times((directory / name).read_text()) != without_times(shipped[name].read_text())]


def check_pages(staging, report):
    """The drills have caused no other pages than these. A conflict of the floating address, for example, would be a false one."""
    pages = staging.watch.pages()
    if pages != EXPECTED_PAGES:
        report.missed.append(f"pages: {sorted(pages)} instead of {sorted(EXPECTED_PAGES)}")
    if (masters := staging.query("sum(fibsrv_vrrp_master)")) != [1]:
        report.missed.append(f"VRRP masters: {masters}")


def record_dashboard(staging, seconds):
    """Records the data of the operations dashboard since the first drill."""
    def api(is_external, path, parameters):
        machine = staging.watch.host if is_external else staging.internal
        words = [word for name, value in parameters.items() for word in ("--data-urlencode", f"{name}={value}")]
        return machine.must("curl", "-fsS", "--max-time", "8", "--get", *words, f"http://127.0.0.1:9090/api/v1/{path}")

    dashboard_recording.record(json.loads(DASHBOARD.read_text()), seconds, api, ROOT / "target/staging/operations.json")


def check_dashboard(staging, report):
    """Every expression of the operations dashboard has values."""
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []) if panel["type"] != "row" else []:
            expression = dashboard_queries.with_defaults(target["expr"], "10s")
            external = target["datasource"]["uid"] == "${external}"
            values = list(staging.watch.query(expression).values()) if external else staging.query(expression)
            if not values or not all(math.isfinite(value) for value in values):
                report.missed.append(f"dashboard: {panel['title']}: {expression} returns {values or 'nothing'}")


def run_drills(staging, report):
    pair = staging.front
    victim = staging.hosts[0]
    found = {}

    def kill_worker():
        netns.signal_all(victim.worker_pids()[:1], signal.SIGKILL)

    def start_host():
        victim.machine.power_on()
        victim.start()

    def kill_haproxy():
        found["proxy"] = pair.wait_ready()
        found["proxy"].signal_haproxy(signal.SIGKILL)

    def kill_proxy():
        found["proxy"] = pair.wait_ready()
        found["proxy"].machine.power_off()

    def disconnect_cable():
        found["proxy"] = pair.wait_ready()
        found["proxy"].machine.disconnect(0)

    def replace_certificate():
        certificate = pair.authority.issue(NAME, days=90)
        pair.install_certificate(certificate)
        if not pair.serves(certificate, NAME):
            report.missed.append("the new certificate is served")

    def versions_differ():
        return staging.query('ALERTS{alertname="FibsrvVersionsDiffer"}')

    def upgrade_most():
        """The last host gets a binary that cannot be executed. It keeps the old version; the alert is pending for half an hour."""
        *most, last = staging.hosts
        for host in most:
            host.install(other_version())
            host.upgrade()
        before = last.worker_pids()
        last.install(b"no program")
        last.process.signal(signal.SIGHUP)
        netns.until("an alert about different versions", versions_differ, 10, every=0.2)
        if last.worker_pids() != before:
            report.missed.append("a host keeps the old version if the new one does not start")

    def upgrade_rest():
        last = staging.hosts[-1]
        last.install(other_version())
        last.upgrade()
        netns.until("no alert about different versions", lambda: not versions_differ(), 10, every=0.2)
        if not all(host.process.running() for host in staging.hosts):
            report.missed.append("supervisors survive an upgrade")

    def slow_clients():
        slow = pair.new_client("slow", 110)
        addresses = [f"10.77.0.{number}" for number in range(111, 119)]
        for address in addresses:
            slow.must("ip", "address", "add", f"{address}/24", "dev", "eth0")
        outcome = json.loads(slow.must(sys.executable, ROOT / "tests/deploy/slow_clients.py", "--count", "400", "--kind", "head",
                                    "--sources", ",".join(addresses), proxy_pair.FLOATING, seconds=30))
        if outcome["counts"] != {"status 408": 400} or outcome["longest"] > 4.5:
            report.missed.append(f"slow clients are disconnected: {outcome}")

    def kill_helpers():
        """Failures that no user notices: keepalived on the standby, and rsyslog on a host."""
        active = pair.wait_ready()
        found["standby"] = next(proxy for proxy in pair.proxies if proxy is not active)
        netns.signal_all(found["standby"].of_program("keepalived"), signal.SIGKILL)
        found["standby"].keepalived.wait()
        staging.hosts[1].shipper.kill()

    def restore_helpers():
        found["standby"].start_keepalived()
        staging.hosts[1].shipper = rsyslog.start(staging.hosts[1].machine)

    def interrupt_log_host():
        since = time.monotonic()
        staging.receiver.freeze()
        time.sleep(1.5)
        staging.receiver.kill()
        time.sleep(1.5)
        staging.receiver = rsyslog.start(staging.log_host)
        # A shipper that is killed before it has reconnected loses what the log host has not acknowledged, so the next drill waits.
        report.wait_for_lines(since, time.monotonic(), 60)

    def stop_all():
        for host in staging.hosts:
            host.process.signal(signal.SIGTERM)

    def start_all():
        for host in staging.hosts:
            host.process.wait(30)
            host.start()

    # A killed worker loses its requests in flight, and the log lines of one iteration of its event loop. The proxy retries those
    # without a response, but a connection that is reset in the middle of one fails.
    report.drill("a worker killed", kill_worker, failed=1, lost=1)
    report.drill("a host killed", victim.machine.power_off, failed=4, lost=2,
                 alerts=[ExpectedAlert("FibsrvDown", "firing", objective("down"))])
    report.drill("host restored", start_host, alerts=[ExpectedAlert("FibsrvDown", "resolved", objective("up again"))])
    report.drill("active proxy: haproxy killed", kill_haproxy, gap=DEAD_PROXY, failed=round(DEAD_PROXY * PACE),
                 alerts=[ExpectedAlert("FrontProxyDown", "firing", objective("proxy down"), "/ticket")])
    report.drill("haproxy started again", lambda: found["proxy"].start_haproxy())
    report.drill("active proxy: machine killed", kill_proxy, gap=DEAD_MACHINE, failed=round(DEAD_MACHINE * PACE))
    report.drill("machine restored", lambda: found["proxy"].power_on())
    report.drill("active proxy: cable disconnected", disconnect_cable, gap=DEAD_MACHINE, failed=round(DEAD_MACHINE * PACE))
    report.drill("cable reconnected", lambda: found["proxy"].reconnect())
    staging.watch.delay("FibsrvCertificateExpiresSoon", "firing", staging.probed, 60, path="/ticket")
    report.drill("certificate replaced", replace_certificate, wait=False,
                 alerts=[ExpectedAlert("FibsrvCertificateExpiresSoon", "resolved", objective("ticket closed"), "/ticket")])
    report.drill("all hosts but one upgraded, which rejects the binary", upgrade_most)
    report.drill("the last host upgraded", upgrade_rest)
    report.drill("400 slow clients", slow_clients, gap=1.0)
    report.drill("log host frozen, killed, restarted", interrupt_log_host)
    report.drill("keepalived on the standby and rsyslog on a host killed", kill_helpers,
                 alerts=[ExpectedAlert("KeepalivedDown", "firing", objective("keepalived down"), "/ticket"),
                         ExpectedAlert("LogShipperDown", "firing", objective("shipper down"), "/ticket")])
    report.drill("both restored", restore_helpers, wait=False,
                 alerts=[ExpectedAlert("KeepalivedDown", "resolved", objective("ticket resolved"), "/ticket"),
                         ExpectedAlert("LogShipperDown", "resolved", objective("ticket resolved"), "/ticket")])
    check_dashboard(staging, report)
    # FibsrvUnreachable inhibits the resolved notification of tickets about the same target.
    report.wait_for_remaining_alerts()
    report.drill("all hosts stopped", stop_all, gap=None, failed=None,
                 alerts=[ExpectedAlert("FibsrvUnreachable", "firing", objective("page")),
                         ExpectedAlert("FrontErrorBudgetBurn", "firing", objective("proxy errors"))])
    report.drill("all hosts started", start_all, gap=None, failed=None,
                 alerts=[ExpectedAlert("FibsrvUnreachable", "resolved", objective("resolved"))])


def main():
    netns.enter(seconds=TIME_LIMIT)
    netns.need("prometheus prometheus-alertmanager prometheus-blackbox-exporter rsyslog rsyslog-relp", "prometheus",
             "prometheus-alertmanager", "prometheus-blackbox-exporter", "rsyslogd")
    start = time.monotonic()
    with netns.Network() as net:
        staging = Staging(net)
        ready = time.monotonic()
        report = Report(staging)
        completed = False
        check_files(staging, report)
        try:
            run_drills(staging, report)
            check_pages(staging, report)
            record_dashboard(staging, round(time.monotonic() - ready))
            completed = True
        finally:
            # A drill that fails ends the test; the results so far are reported.
            report.close(20 if completed else 0)
            print(report.table())
    print(f"\nObjectives in parentheses. Monitoring times and objectives are a tenth of the shipped ones. "
          f"Up after {ready - start:.0f} s, torn down after {time.monotonic() - start:.0f} s.")
    if report.missed:
        sys.exit("staging: missed: " + "; ".join(report.missed))
    print("staging: passed")


if __name__ == "__main__":
    main()
