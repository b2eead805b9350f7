#!/usr/bin/env python3
"""`make staging`: all of production on one machine, and what becomes of its users, its alerts and its logs in trouble.

The front pair of front.py, three hosts behind it with a supervisor of two workers each, the watchers of watchers.py outside, a
Prometheus inside with the rules of prometheus/ and of deploy/haproxy, and rsyslog, from each host to a log host. All of it
are Debian's programs with the files that are shipped, but that times of those who watch are a tenth, and so are the objectives
for them. Two users ask all the time.

Each drill is a disturbance under that load. Its row says how long nobody was served, how many requests failed, how soon whom
reached what Alertmanager had to say, and how many of the requests that were answered have no line on the log host in the
end: each beside what is allowed, which docs/operations.md promises. If the machine stood still meanwhile, so that the bystander
of users.py was not served either, as much more is allowed. Prints one table; exits with 1 if anything in it was missed.
"""

import dataclasses
import json
import pathlib
import signal
import sys
import time

import figures
import front
import lab
import rsyslog
import users
from watchers import MONITOR, NAME, ROOT, TARGET, Watch, faster, objective

TIME_LIMIT = 175
HOSTS = 3
LOG_HOST, INSIDE = "10.77.1.31", "10.77.1.32"
ACCESS_LOG = "/var/log/fibsrv/access.log"
PACE = 100
"""Requests a second of both users."""

SMOOTH, DEAD_MACHINE, DEAD_PROXY = 0.3, 1.0, 2.0
"""Seconds without service. `SMOOTH` is none, but for the pace of the users and the noise of a machine."""

SCRAPES = """
alerting:
  alertmanagers:
    - static_configs: [{{targets: ['{monitor}:9093']}}]
scrape_configs:
  - job_name: fibsrv
    static_configs: [{{targets: {hosts}}}]
  - job_name: front
    static_configs: [{{targets: {proxies}}}]
"""
"""Takes the place of what prometheus/prometheus.yml says about a compose file's containers."""


class Host(front.Worker):
    """A machine with a supervisor of two workers, whose access log rsyslog sends to the log host."""

    flags = ("--workers", "2", "--access-log", "json", "--access-log-file", ACCESS_LOG)
    shipper = None

    def start(self):
        if self.shipper is None:
            self.machine.know(f"{LOG_HOST} logs.example\n")
            rsyslog.prepare(self.machine)
            rsyslog.configure(self.machine, "shipper.conf", "file.conf")
            self.machine.path("/var/log/fibsrv").mkdir()
        super().start()
        if self.shipper is None or not self.shipper.running():
            self.shipper = rsyslog.start(self.machine)

    def worker_pids(self):
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]


class Staging:
    """Everything, up and serving when made."""

    def __init__(self, net):
        self.front = front.Front(net, HOSTS, Host)
        self.hosts = self.front.workers
        self.log_host = net.machine("logs", (self.front.inside, f"{LOG_HOST}/24"))
        rsyslog.prepare(self.log_host)
        rsyslog.configure(self.log_host, "receiver.conf", "listen.conf")
        self.receiver = rsyslog.start(self.log_host)
        # Of the last fourteen days, so that there is something to be told about it.
        self.front.certify(self.front.authority.issue(NAME, days=3))
        self.watch = Watch(self.front)
        self.watch.configure_outside()
        self.watch.start_third("outside", "inside")
        self.watch.start_outside()
        self.inside = self.start_inside(net)
        self.front.settled()
        lab.until("a good probe", lambda: self.watch.query('probe_success{job="outside"}').get(TARGET) == 1, 30)
        self.probed = time.monotonic()
        lab.until("all inside is scraped", lambda: self.scraped_inside() == HOSTS + 2, 20)
        self.users = users.Users(self.front, TIME_LIMIT, TARGET)
        self.bystander = users.Bystander(self.front, TIME_LIMIT)

    def start_inside(self, net):
        """Prometheus among the hosts. It reaches Alertmanager by a cable of its own."""
        machine = net.machine("inside", (self.front.inside, f"{INSIDE}/24"), (self.front.outside, "10.77.0.104/24"))
        machine.own("/etc/prometheus")
        rules = ("prometheus/watchers.yml", "prometheus/rules/recording.yml", "prometheus/rules/alerts.yml")
        for file in rules:
            machine.write(f"/etc/prometheus/{file.removeprefix('prometheus/')}", faster(ROOT / file))
        machine.write("/etc/prometheus/rules/front.yml", faster(ROOT / "deploy/haproxy/rules.yml"))
        head, found, _ = faster(ROOT / "prometheus/prometheus.yml").partition("\nscrape_configs:\n")
        assert found, "prometheus.yml: no scrape_configs"
        machine.write("/etc/prometheus/prometheus.yml", head + SCRAPES.format(
            monitor=MONITOR, hosts=[f"10.77.1.{20 + number}:3000" for number in range(1, HOSTS + 1)],
            proxies=["10.77.1.11:8404", "10.77.1.12:8404"]))
        machine.start("prometheus", "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/run/prometheus")
        return machine

    def scraped_inside(self):
        """How many of those inside Prometheus has found well."""
        said = self.inside.run("curl", "-fsS", "--max-time", "5", "--get", "--data-urlencode",
                               'query=count(up{job=~"fibsrv|front"} == 1)', "http://127.0.0.1:9090/api/v1/query").stdout
        found = json.loads(said)["data"]["result"] if said else []
        return int(found[0]["value"][1]) if found else 0

    def kept(self):
        """The lines on the log host."""
        file = self.log_host.path("/var/log/fibsrv/access.jsonl")
        return file.read_text().splitlines() if file.exists() else []


@dataclasses.dataclass
class Told:
    """A message that somebody has to get, in so many seconds after the drill's beginning."""

    alert: str
    status: str
    within: float
    path: str = "/page"

    def await_it(self, watch, since):
        """Whether it came in time, and how to say that; with none in twice the time, that is said."""
        try:
            delay = watch.delay(self.alert, self.status, since, self.within * 2 - (time.monotonic() - since), self.path)
        except TimeoutError:
            return False, f"{self.alert} {self.status}: none ({self.within:.1f} s)"
        return delay <= self.within, f"{self.alert} {self.status}: {delay:.1f} s ({self.within:.1f} s)"


@dataclasses.dataclass
class Drill:
    """What was done when, what is allowed to come of it, and what Alertmanager had to say."""

    name: str
    since: float
    gap: float
    failed: int
    lost: int
    told: list
    until: float = 0.0
    messages: list = dataclasses.field(default_factory=list)

    def await_messages(self, watch):
        self.messages = [message.await_it(watch, self.since) for message in self.told]


class Report:
    """A row for each drill. They are made in the end, when all requests have ended and all lines have arrived."""

    def __init__(self, staging):
        self.staging, self.rows, self.missed = staging, [], []
        self.drills = []

    def drill(self, name, act, gap=SMOOTH, failed=0, lost=0, told=(), awaited=True, seconds=3.0):
        """Does something, and goes on when so much time has gone by and all have been told. `failed` is how many requests may
        fail, `lost` how many of those answered may leave no line. What is not `awaited` is for `catch_up`."""
        since = time.monotonic()
        act()
        drill = Drill(name, since, gap, failed, lost, told)
        if awaited:
            drill.await_messages(self.staging.watch)
        drill.until = max(time.monotonic(), since + seconds)
        time.sleep(max(0.0, drill.until - time.monotonic()))
        self.drills.append(drill)
        print(f"{name}: {drill.until - since:.1f} s", file=sys.stderr, flush=True)

    def catch_up(self):
        """Waits for the messages of earlier drills that were not waited for."""
        for drill in self.drills:
            if len(drill.messages) < len(drill.told):
                drill.await_messages(self.staging.watch)

    def close(self, patience):
        """Makes the rows; waits so many seconds for what is still under way."""
        seen = [self.staging.users.saw(drill.since, drill.until) for drill in self.drills]
        self.staging.users.stop()
        arrived = self._settled(seen, patience)
        for drill, saw in zip(self.drills, seen, strict=True):
            gap, without = drill.gap, self._without_line(saw, arrived)
            if gap is not None:
                gap += self.staging.bystander.standstill(drill.since, drill.until)
            met = ((gap is None or saw.gap <= gap) and (drill.failed is None or saw.failed <= drill.failed)
                   and without <= drill.lost and len(drill.messages) == len(drill.told)
                   and all(well for well, _ in drill.messages))
            self.rows.append((drill.name, f"{saw.gap:.2f} s{'' if gap is None else f' ({gap:.1f} s)'}",
                              f"{saw.failed} of {saw.requests}{'' if drill.failed is None else f' ({drill.failed})'}",
                              "; ".join(text for _, text in drill.messages), f"{without} ({drill.lost})",
                              "yes" if met else "**no**"))
            if not met:
                self.missed.append(drill.name)

    def _settled(self, seen, patience):
        """The numbers whose lines are on the log host, once all of them are there or time is up."""
        def all_there():
            arrived = {client: set(numbers) for client, numbers in rsyslog.arrived(self.staging.kept()).items()}
            return arrived if not any(self._without_line(saw, arrived) for saw in seen) else None

        try:
            return lab.until("all lines arrive", all_there, patience, every=0.5)
        except TimeoutError:
            return {client: set(numbers) for client, numbers in rsyslog.arrived(self.staging.kept()).items()}

    @staticmethod
    def _without_line(saw, arrived):
        return sum(len(set(numbers) - arrived.get(client, set())) for client, numbers in saw.answered.items())

    def table(self):
        return figures.markdown(("drill", "without service", "failed requests", "who was told", "lines lost", "met"), self.rows)


def play(staging, report):
    pair = staging.front
    victim = staging.hosts[0]
    found = {}

    def kill_worker():
        lab.signal_all(victim.worker_pids()[:1], signal.SIGKILL)

    def start_host():
        victim.machine.power_on()
        victim.start()

    def kill_haproxy():
        found["proxy"] = pair.settled()
        found["proxy"].signal_haproxy(signal.SIGKILL)

    def kill_proxy():
        found["proxy"] = pair.settled()
        found["proxy"].machine.power_off()

    def pull_cable():
        found["proxy"] = pair.settled()
        found["proxy"].machine.cut(0)

    def swap_certificate():
        certificate = pair.authority.issue(NAME, days=90)
        pair.certify(certificate)
        if not pair.serves(certificate, NAME):
            report.missed.append("the new certificate is served")

    def upgrade():
        for host in staging.hosts:
            before = set(host.worker_pids())
            host.process.signal(signal.SIGHUP)
            lab.until("new workers serve and the old ones are gone",
                      lambda: len(host.worker_pids()) == 2 and not before & set(host.worker_pids()), 15, every=0.1)
        if not all(host.process.running() for host in staging.hosts):
            report.missed.append("supervisors live through an upgrade")

    def slow_clients():
        slow = pair.new_client("slow", 110)
        addresses = [f"10.77.0.{number}" for number in range(111, 119)]
        for address in addresses:
            slow.must("ip", "address", "add", f"{address}/24", "dev", "eth0")
        said = json.loads(slow.must(sys.executable, ROOT / "tests/deploy/slow_clients.py", "--count", "400", "--kind", "head",
                                    "--sources", ",".join(addresses), front.FLOATING, seconds=30))
        if said["counts"] != {"status 408": 400} or said["longest"] > 4.5:
            report.missed.append(f"slow clients are cut off: {said}")

    def log_host_away():
        staging.receiver.freeze()
        time.sleep(1.5)
        staging.receiver.kill()
        time.sleep(1.5)
        staging.receiver = rsyslog.start(staging.log_host)

    def stop_all():
        for host in staging.hosts:
            host.process.signal(signal.SIGTERM)

    def start_all():
        for host in staging.hosts:
            host.process.wait(30)
            host.start()

    # What a worker had in hand when it was killed is lost with it, the lines of one turn of its loop among that.
    report.drill("a worker killed", kill_worker, lost=1)
    report.drill("a host killed", victim.machine.power_off, failed=4, lost=2,
                 told=[Told("FibsrvDown", "firing", objective("down"))])
    report.drill("that host back", start_host, told=[Told("FibsrvDown", "resolved", objective("up again"))])
    report.drill("active proxy: haproxy killed", kill_haproxy, gap=DEAD_PROXY, failed=round(DEAD_PROXY * PACE),
                 told=[Told("FrontProxyDown", "firing", objective("proxy down"), "/ticket")])
    report.drill("haproxy started again", lambda: found["proxy"].start_haproxy())
    report.drill("active proxy: machine killed", kill_proxy, gap=DEAD_MACHINE, failed=round(DEAD_MACHINE * PACE))
    report.drill("that machine back", lambda: found["proxy"].power_on())
    report.drill("active proxy: cable pulled", pull_cable, gap=DEAD_MACHINE, failed=round(DEAD_MACHINE * PACE))
    report.drill("cable put back", lambda: found["proxy"].mend())
    staging.watch.delay("FibsrvCertificateExpiresSoon", "firing", staging.probed, 60, path="/ticket")
    report.drill("certificate swapped", swap_certificate, awaited=False,
                 told=[Told("FibsrvCertificateExpiresSoon", "resolved", objective("ticket closed"), "/ticket")])
    report.drill("all hosts upgraded, one by one", upgrade)
    report.drill("400 slow clients", slow_clients, gap=1.0)
    report.drill("log host frozen, killed, back", log_host_away)
    # Whoever has been told that nobody serves is not told meanwhile that a ticket about the same name is closed.
    report.catch_up()
    report.drill("all hosts stopped", stop_all, gap=None, failed=None,
                 told=[Told("FibsrvUnreachable", "firing", objective("page"))])
    report.drill("all hosts started", start_all, gap=None, failed=None,
                 told=[Told("FibsrvUnreachable", "resolved", objective("resolved"))])


def main():
    lab.enter(seconds=TIME_LIMIT)
    lab.need("prometheus prometheus-alertmanager prometheus-blackbox-exporter rsyslog rsyslog-relp", "prometheus",
             "prometheus-alertmanager", "prometheus-blackbox-exporter", "rsyslogd")
    start = time.monotonic()
    with lab.Lab() as net:
        staging = Staging(net)
        ready = time.monotonic()
        report = Report(staging)
        played = False
        try:
            play(staging, report)
            played = True
        finally:
            # A drill that could not be played to its end ends the test; what was seen until then is told.
            report.close(20 if played else 0)
            print(report.table())
    print(f"\nIn brackets: what is allowed. Times of those who watch are a tenth of what is shipped, and so is what is allowed. "
          f"Up after {ready - start:.0f} s, torn down after {time.monotonic() - start:.0f} s.")
    if report.missed:
        sys.exit("staging: missed: " + "; ".join(report.missed))
    print("staging: all well")


if __name__ == "__main__":
    main()
