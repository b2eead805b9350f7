#!/usr/bin/env python3
"""`make staging`: all of production on one machine, and what becomes of its users, its alerts and its logs in trouble.

The front pair of front.py with three hosts of two workers each behind it; the eyes outside of outside.py; a Prometheus
inside with the rules of prometheus/; rsyslog on each host and on a log host. All of it are Debian's programs with the
files that are shipped. Two clients ask all the time. Each drill is a disturbance under that load; its row says how long
nobody was served, how many requests failed, and when who was told, against what is promised. As in outside.py the times of
those who watch are a tenth of what is shipped, and so are the objectives for them.

At the end every line of every access log is looked for on the log host. Exits with 1 if anything that is promised was missed.
"""

import collections
import json
import pathlib
import signal
import sys
import time

import yaml

import front
import lab
import logs
import outside

TIME_LIMIT = 175
HOSTS = 3
LOG_HOST, INSIDE = "10.77.1.31", "10.77.1.32"
ACCESS_LOG = "/var/log/fibsrv/access.log"
NAMES = f"127.0.0.1 localhost\n{LOG_HOST} logs.example\n"
SMOOTH = 0.3
"""Seconds without service that are none, but for the pace of the clients and the noise of a machine."""
TOLD = (5 + 30 + 15) / outside.FASTER
"""FibsrvDown: a scrape, what it waits for, and an evaluation or two."""


class Staging:
    """Everything, up and serving when made."""

    def __init__(self, net):
        self.watch = outside.Watch(net, HOSTS, Host)
        self.front = self.watch.front
        self.hosts = self.front.workers
        self.log_host = net.machine("logs", (self.front.inside, f"{LOG_HOST}/24"))
        logs.prepare(self.log_host, NAMES)
        logs.configure(self.log_host, ["receiver.conf", "listen.conf"])
        self.receiver = logs.start_rsyslog(self.log_host)
        self.inside = self.start_inside(net)
        self.watch.certify_front()
        self.watch.configure_outside()
        self.watch.start_third()
        self.watch.start_outside()
        self.front.settled()
        self.each = self.front.load(url=outside.TARGET, seconds=TIME_LIMIT)
        self.kept = self.front.load(self.front.new_client("keeper", 104), outside.TARGET, seconds=TIME_LIMIT, kept=4)
        lab.until("all hosts are scraped", lambda: len(self.inside_query('up{job="fibsrv"} == 1')) == HOSTS, 20)
        lab.until("a good probe", lambda: self.watch.query('probe_success{job="outside"}').get(outside.TARGET) == 1, 30)

    def start_inside(self, net):
        """Prometheus among the hosts, with prometheus/ as it is but for where they are, and a tenth of the times."""
        machine = net.machine("inside", (self.front.inside, f"{INSIDE}/24"))
        machine.own("/etc/prometheus")
        for file in ("watchers.yml", "rules/recording.yml", "rules/alerts.yml"):
            machine.write(f"/etc/prometheus/{file}", outside.faster(outside.ROOT / "prometheus" / file))
        config = yaml.safe_load(outside.faster(outside.ROOT / "prometheus/prometheus.yml"))
        targets = [f"10.77.1.{20 + number}:3000" for number in range(1, HOSTS + 1)]
        config["scrape_configs"] = [{"job_name": "fibsrv", "static_configs": [{"targets": targets}]}]
        machine.write("/etc/prometheus/prometheus.yml", yaml.safe_dump(config))
        machine.start("prometheus", "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/run/prometheus")
        return machine

    def inside_query(self, expression):
        said = self.inside.run("curl", "-fsS", "--max-time", "5", "--get", "--data-urlencode", f"query={expression}",
                               "http://127.0.0.1:9090/api/v1/query").stdout
        return json.loads(said)["data"]["result"] if said else []

    def told_inside(self, alert, since):
        """Waits until the Prometheus inside fires an alert, and says how long that took."""
        lab.until(alert, lambda: self.inside_query(f'ALERTS{{alertname="{alert}", alertstate="firing"}}'), 30, every=0.05)
        return time.monotonic() - since

    def lines_written(self):
        return [line for host in self.hosts for line in host.lines()]

    def lines_kept(self):
        text = self.log_host.path("/var/log/fibsrv/access.jsonl")
        return text.read_text().splitlines() if text.exists() else []


class Host(front.Worker):
    """A machine with a supervisor of two workers, whose access log rsyslog sends to the log host."""

    flags = ("--workers", "2", "--access-log", "json", "--access-log-file", ACCESS_LOG)
    shipper = None

    def start(self):
        if self.shipper is None:
            logs.prepare(self.machine, NAMES)
            logs.configure(self.machine, ["shipper.conf", "file.conf"])
            self.machine.path("/var/log/fibsrv").mkdir()
        super().start()
        if self.shipper is None or not self.shipper.running():
            self.machine.write("/run/main.conf", logs.MAIN)  # /run is empty after a power cut
            self.shipper = logs.start_rsyslog(self.machine)

    def worker_pids(self):
        """The workers of the supervisor."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def lines(self):
        text = self.machine.path(ACCESS_LOG)
        return text.read_text().splitlines() if text.exists() else []


class Report:
    """A row for each drill."""

    def __init__(self, staging):
        self.staging, self.rows, self.missed = staging, [], 0

    def drill(self, name, act, gap=SMOOTH, failed=0, seconds=3.0):
        """Does something, watches the clients for so long, and notes a row. `act` may return what was told to whom after
        how many seconds, and after how many it should have been at most."""
        since = time.monotonic()
        told = act() or ("", None, None)
        until = max(time.monotonic(), since + seconds) - since
        each, kept = self.staging.each.during(since, until), self.staging.kept.during(since, until)
        self._row(name, each.gap, gap, each.failed + kept.failed, failed, each.requests + kept.requests, told)

    def _row(self, name, gap, gap_most, failed, failed_most, requests, told):
        what, after, after_most = told
        met = (gap <= gap_most and (failed_most is None or failed <= failed_most)
               and (after is None or after <= after_most))
        self.missed += not met
        self.rows.append((
            name, f"{gap:.2f} s", f"{gap_most:.1f} s", f"{failed} of {requests}", "-" if failed_most is None else str(failed_most),
            f"{what} {after:.1f} s" if after is not None else "", f"{after_most:.0f} s" if after is not None else "",
            "yes" if met else "**no**"))
        print(f"{name}: {gap:.2f} s, {failed} of {requests} failed, {what} {after if after is not None else ''}", file=sys.stderr)

    def table(self):
        head = ("drill", "nobody served", "at most", "failed", "at most", "told after", "at most", "met")
        lines = [head, ("---",) * len(head), *self.rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def play(staging, report):
    pair = staging.front
    victim = staging.hosts[0]

    def kill_worker():
        lab.signal_all(victim.worker_pids()[:1], signal.SIGKILL)

    def kill_host():
        since = time.monotonic()
        victim.machine.power_off()
        return "FibsrvDown", staging.told_inside("FibsrvDown", since), TOLD

    def bring_host_back():
        victim.machine.power_on()
        victim.start()
        lab.until("the host is back", lambda: all(victim.up(proxy) for proxy in pair.proxies), 20, every=0.1)

    def kill_proxy():
        kill_proxy.dead = pair.settled()
        kill_proxy.dead.machine.power_off()

    def bring_proxy_back():
        kill_proxy.dead.power_on()
        pair.settled()

    def pull_cable():
        pull_cable.cut = pair.settled()
        pull_cable.cut.machine.cut(0)

    def put_cable_back():
        pull_cable.cut.machine.mend(0)
        pair.settled()

    def upgrade():
        for host in staging.hosts:
            before = host.worker_pids()
            host.process.signal(signal.SIGHUP)
            lab.until("new workers serve and the old ones are gone",
                      lambda: len(host.worker_pids()) == 2 and not set(before) & set(host.worker_pids()), 15, every=0.1)

    def slow_clients():
        slow = pair.new_client("slow", 111)
        slow.start(sys.executable, outside.ROOT / "tests/deploy/slow_clients.py", "--count", "300", "--kind", "head",
                   front.FLOATING)

    def log_host_away():
        staging.receiver.freeze()
        time.sleep(1.5)
        staging.receiver.kill()
        time.sleep(1.5)
        staging.receiver = logs.start_rsyslog(staging.log_host)

    def swap_certificate():
        certificate = pair.authority.issue(outside.NAME, days=30)
        for proxy in pair.proxies:
            proxy.certify(certificate)
            proxy.reload()

    def stop_all():
        since = time.monotonic()
        for host in staging.hosts:
            host.process.signal(signal.SIGTERM)
        return "page", staging.watch.delay("FibsrvUnreachable", "firing", since, 60), outside.objective("page")

    def start_all():
        since = time.monotonic()
        for host in staging.hosts:
            host.process.wait(30)
            host.start()
        return "resolved", staging.watch.delay("FibsrvUnreachable", "resolved", since, 60), outside.objective("resolved")

    report.drill("a worker process killed", kill_worker)
    report.drill("a host killed", kill_host, failed=2)
    report.drill("the host back", bring_host_back)
    report.drill("the machine of the active proxy killed", kill_proxy, gap=1.0, failed=None)
    report.drill("that machine back", bring_proxy_back)
    report.drill("the active proxy's cable pulled", pull_cable, gap=1.0, failed=None)
    report.drill("the cable put back", put_cable_back)
    report.drill("all hosts upgraded, one by one", upgrade)
    report.drill("300 slow clients", slow_clients, gap=1.0, seconds=4.0)
    report.drill("log host frozen, killed, back", log_host_away)
    report.drill("certificate swapped on both proxies", swap_certificate)
    report.drill("all servers stopped", stop_all, gap=60.0, failed=None)
    report.drill("all servers started", start_all, gap=60.0, failed=None)


def count_lines(staging, report):
    """Every line that a server has written is on the log host. What stands there may stand there twice."""
    staging.each.stop()
    staging.kept.stop()

    def key(line):
        entry = json.loads(line)
        return tuple(entry[name] for name in ("time", "peer", "port", "target", "status", "duration_us"))

    def missing():
        return collections.Counter(map(key, staging.lines_written())) - collections.Counter(map(key, staging.lines_kept()))

    try:
        lab.until("all lines arrive", lambda: not missing(), 20, every=0.5)
    except TimeoutError:
        pass  # the row says how many did not
    lost, written = sum(missing().values()), len(staging.lines_written())
    report.missed += lost > 0
    report.rows.append(("lines of the access logs lost", "", "", f"{lost} of {written}", "0", "", "", "yes" if not lost else "**no**"))


def main():
    lab.enter(seconds=TIME_LIMIT)
    lab.need("prometheus prometheus-alertmanager prometheus-blackbox-exporter rsyslog", "prometheus",
             "prometheus-alertmanager", "prometheus-blackbox-exporter", "rsyslogd")
    start = time.monotonic()
    with lab.Lab() as net:
        staging = Staging(net)
        ready = time.monotonic() - start
        report = Report(staging)
        try:
            play(staging, report)
            count_lines(staging, report)
        finally:
            print(report.table())
        whole = time.monotonic() - start
    print(f"\nEverything up after {ready:.0f} s, the drills over after {whole:.0f} s. Times of those who watch are a tenth of what is"
          f" shipped, and so are their objectives.")
    sys.exit(1 if report.missed else 0)


if __name__ == "__main__":
    main()
