#!/usr/bin/env python3
"""External monitoring: the shipped files are valid, and the right alerts fire when fibsrv fails.

The proxy pair of proxy_pair.py with one worker is monitored by external_monitoring.py. All monitoring times, and so the
objectives, are a tenth of the shipped ones.

Needs root and Debian's prometheus, prometheus-alertmanager, prometheus-blackbox-exporter, haproxy, keepalived, openssl
and curl. `make external_monitoring_test` calls this.
"""

import json
import pathlib
import re
import subprocess
import sys
import time

import results
import proxy_pair
import netns
import pki
import rule_checks
from external_monitoring import FASTER, NAME, TARGET, ExternalMonitoring, objective

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"

BODIES = {  # body: whether it is exactly F(20)
    "6765": True, "6765%0A": False, "6766": False, "16765": False, "6765%0A6765": False, "": False,
    "<h1>It works</h1>": False,
}


def start_faulty_server(machine, address, certificate=None):
    words = []
    if certificate:
        words = [f"/run/{address}.pem"]
        machine.write(words[0], certificate)
    return machine.start(sys.executable, ROOT / "tests/deploy/faulty_server.py", address, *words)


def check_files(watch, table):
    """Static checks of the files."""
    outside = watch.host
    outside.must("promtool", "check", "config", "--lint=all", "/etc/prometheus/prometheus.yml")
    outside.must("promtool", "check", "rules", "--lint=all", "/etc/prometheus/rules.yml", "/etc/prometheus/slo.yml")
    rule_checks.check(DEPLOY / "monitoring-external")
    rule_checks.section("DeadMansSwitch")
    outside.must("amtool", "check-config", DEPLOY / "alertmanager/alertmanager.yml")
    outside.must("prometheus-blackbox-exporter", "--config.check", "--config.file", DEPLOY / "blackbox/blackbox.yml")
    routes = {"severity=page": "pager", "severity=ticket": "tickets", "alertname=Watchdog severity=none": "deadman",
              "alertname=Anything": "tickets"}
    for labels, receiver in routes.items():
        seen = outside.must("amtool", "config", "routes", "test", "--config.file",
                            DEPLOY / "alertmanager/alertmanager.yml", *labels.split()).strip()
        assert seen == receiver, f"{labels} goes to {seen}"
    table.row("routes with the expected receiver", len(routes), exactly=4)


def check_rules(watch, table):
    """Each loaded alert is complete, has been evaluated and uses existing metrics."""
    def alerting():
        groups = json.loads(watch.get("127.0.0.1:9090/api/v1/rules"))["data"]["groups"]
        return [rule for group in groups for rule in group["rules"] if rule["type"] == "alerting"]

    def used(rule):
        return set(re.findall(r"job:\w+:\w+|\b(?:probe|alertmanager|prometheus)_\w+\b|\bup\b", rule["query"]))

    def unknown():
        names = json.loads(watch.get("127.0.0.1:9090/api/v1/label/__name__/values"))["data"]
        return set().union(*map(used, alerting())).difference(names)

    # A group of rules has neither values nor health before its first evaluation, up to an interval after the start.
    try:
        netns.until("the metrics of all alerts exist", lambda: not unknown(), 30)
    except TimeoutError as error:
        raise AssertionError(f"missing: {unknown()}") from error
    loaded = alerting()
    for rule in loaded:
        assert rule["labels"]["severity"] in ("page", "ticket", "none"), rule
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}, rule
        assert re.fullmatch(rf"https://\S+#{rule['name'].lower()}", rule["annotations"]["runbook_url"]), rule
        assert used(rule) or rule["name"] == "Watchdog", rule["query"]
        assert rule["health"] == "ok", rule
    table.row("alerts with severity, runbook and existing metrics", len(loaded), exactly=19)


def check_probes(watch, table, certificate, unknown):
    """Classification of good and bad responses by the probe modules."""
    known = watch.front.authority
    shown_by = {"0.0.0.0:8000": None, "0.0.0.0:8001": known.issue("faulty.example"),
                "0.0.0.0:8002": unknown.issue("faulty.example"), "0.0.0.0:8003": known.issue("faulty.example", days=-1),
                "0.0.0.0:8004": known.issue("another.example")}
    for address, shown in shown_by.items():
        start_faulty_server(watch.third, address, shown)
    plain, good, strange, expired, other = (f"faulty.example:{port}/as/200/" for port in range(8000, 8005))
    cases = [("fibonacci_plain", f"http://{plain}{body}", success) for body, success in BODIES.items()]
    cases += [("fibonacci", f"https://{good}{body}", success) for body, success in BODIES.items()]
    cases += [
        ("fibonacci_plain", "http://faulty.example:8000/as/503/6765", False),
        ("fibonacci", f"http://{plain}6765", False),        # not over TLS
        ("fibonacci", f"https://{strange}6765", False),     # unknown CA
        ("fibonacci", f"https://{expired}6765", False),
        ("fibonacci", f"https://{other}6765", False),       # other name
        ("fibonacci", TARGET, True),
        ("fibonacci", f"https://{NAME}/api/fibonacci/21", False),
        ("private_paths", f"https://{NAME}/metrics", True),
        ("private_paths", f"https://{NAME}/healthz", True),
        ("private_paths", f"https://{NAME}/readyz", True),
        ("private_paths", TARGET, False),
    ]
    netns.until("the last faulty server responds", lambda: watch.host.run("curl", "-sSk", f"https://{other}6765").stdout == "6765")
    wrong = [(module, target) for module, target, success in cases if watch.probe(module, target)["probe_success"] != success]
    table.row(f"misclassified probes, of {len(cases)}", wrong or 0, exactly=0)

    text = subprocess.run(["openssl", "x509", "-noout", "-enddate"], input=certificate,
                          check=True, capture_output=True, text=True).stdout
    ends = subprocess.run(["date", "+%s", "--date", text.strip().removeprefix("notAfter=")],
                          check=True, capture_output=True, text=True).stdout
    seen = watch.probe("fibonacci", TARGET)["probe_ssl_earliest_cert_expiry"]
    table.row("certificate expiry, difference to openssl", int(seen - int(ends)), exactly=0, unit="s")


def outage(watch, table, what, end, begin):
    """A failure and recovery of fibsrv: one page and one resolved notification."""
    ended = time.monotonic()
    end()
    table.row(f"{what}: page after", watch.delay("FibsrvUnreachable", "firing", ended, 60), objective("page"), unit="s")
    states = watch.alerts()
    back = time.monotonic()
    begin()
    delay = watch.delay("FibsrvUnreachable", "resolved", back, 60)
    table.row(f"{what}: resolved after recovery", delay, objective("resolved"), unit="s")
    table.row(f"{what}: pages", len(watch.received("FibsrvUnreachable", "firing", after=ended)), exactly=1)
    return states


def check_heartbeat_filter(watch, table):
    """Only a firing Watchdog of the expected monitor resolves a DeadMansSwitch alert."""
    def message(status, name="Watchdog", monitor="external"):
        labels = {"alertname": name, "monitor": monitor}
        return json.dumps({"alerts": [{"status": status, "labels": labels}]})

    cases = {"invalid": 400, '{"alerts": [1]}': 400, message("resolved"): 200, message("firing", "Else"): 200,
             message("firing", monitor="another"): 200}
    for body, status in cases.items():
        seen = watch.host.must("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--data-binary", body,
                                  "http://deadman.example:9095/")
        assert int(seen) == status, (body, seen)
    assert watch.get("deadman.example:9095/").startswith("external: SILENT"), watch.get("deadman.example:9095/")
    table.row(f"non-heartbeat messages accepted as heartbeats, of {len(cases)}", 0, exactly=0)


def main():
    netns.enter(seconds=165)
    netns.need("prometheus prometheus-alertmanager prometheus-blackbox-exporter", "prometheus", "promtool",
             "prometheus-alertmanager", "amtool", "prometheus-blackbox-exporter")
    start = time.monotonic()
    with results.Table("external_monitoring_test") as table, netns.Network() as net:
        pair = proxy_pair.Front(net, workers=1)
        worker = pair.workers[0]
        certificate = pair.authority.issue(NAME, days=3)
        pair.install_certificate(certificate)
        (net.directory / "unknown").mkdir()
        unknown = pki.Authority(net.directory / "unknown")
        watch = ExternalMonitoring(pair)
        watch.configure()
        check_files(watch, table)

        begun = time.monotonic()
        watch.start_third_host("external")
        watch.start()
        netns.until("a successful probe", lambda: watch.query('probe_success{job="external"}').get(TARGET) == 1, 30)
        probed = time.monotonic()
        table.row("from start to the first successful probe", probed - begun, unit="s")
        netns.until("a Watchdog alert", lambda: "Watchdog" in {name for name, _ in watch.alerts()}, 30)
        check_probes(watch, table, certificate, unknown)
        netns.until("all targets are up", lambda: min(watch.query("up").values(), default=0) == 1, 10)
        check_rules(watch, table)

        outage(watch, table, "server stopped", worker.process.stop, worker.start)

        delay = watch.delay("FibsrvCertificateExpiresSoon", "firing", probed, 60, path="/ticket")
        table.row("ticket about a certificate with three days left", delay, objective("ticket"), unit="s")

        health = []

        def return_wrong_number():
            worker.process.kill()
            worker.process = start_faulty_server(worker.machine, "0.0.0.0:3000")
            health.append(start_faulty_server(worker.machine, "0.0.0.0:9464"))

        def restore():
            worker.process.kill()
            health.pop().kill()
            worker.start()

        states = outage(watch, table, "200 with a wrong number", return_wrong_number, restore)
        ticket = states.get(("FibsrvCertificateExpiresSoon", TARGET))
        assert ticket == "suppressed", f"ticket not inhibited by the page: {states}"

        dead = time.monotonic()
        watch.prometheus.kill()
        delay = watch.delay("DeadMansSwitch", "firing", dead, 60)
        table.row("Prometheus killed: page by the dead man's switch", delay, objective("dead man"), unit="s")
        check_heartbeat_filter(watch, table)
        back = time.monotonic()
        watch.start_prometheus()
        delay = watch.delay("DeadMansSwitch", "resolved", back, 60)
        table.row("Prometheus killed: resolved after recovery", delay, objective("alive again"), unit="s")

        lines = [json.loads(line) for line in watch.webhook.log().splitlines() if line.startswith("{")]
        pages = [line["labels"]["alertname"] for line in lines if line["path"] == "/page" and line["status"] == "firing"]
        assert pages == ["FibsrvUnreachable", "FibsrvUnreachable", "DeadMansSwitch"], pages
        table.row("total pages", len(pages), exactly=3)
        table.row("total time", time.monotonic() - start, unit="s")
    print(f"Times and objectives are a tenth of the shipped ones; in production they are {FASTER} times as long.")
    sys.exit(table.status)


if __name__ == "__main__":
    main()
