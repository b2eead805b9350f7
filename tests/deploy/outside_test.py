#!/usr/bin/env python3
"""Eyes outside: are the shipped files valid, and does somebody hear of it when fibsrv does not answer as it must?

Outside of the front pair of front.py, with one worker behind it, are those who watch, of watchers.py: their times are a
tenth of what is shipped, so objectives are too.

Needs root and Debian's prometheus, prometheus-alertmanager, prometheus-blackbox-exporter, haproxy, keepalived, openssl
and curl. `make outside_test` calls this.
"""

import json
import pathlib
import re
import subprocess
import sys
import time

import figures
import front
import lab
import pki
import rules
from watchers import FASTER, NAME, TARGET, Watch, objective

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"

LIES = {  # body: whether that is F(20) and nothing else
    "6765": True, "6765%0A": False, "6766": False, "16765": False, "6765%0A6765": False, "": False,
    "<h1>All is well</h1>": False,
}


def start_liar(machine, address, certificate=None):
    words = []
    if certificate:
        words = [f"/run/{address}.pem"]
        machine.write(words[0], certificate)
    return machine.start(sys.executable, ROOT / "tests/deploy/liar.py", address, *words)


def check_files(watch, table):
    """What can be said of the files without running anything by them."""
    outside = watch.outside
    outside.must("promtool", "check", "config", "--lint=all", "/etc/prometheus/prometheus.yml")
    outside.must("promtool", "check", "rules", "--lint=all", "/etc/prometheus/rules.yml")
    rules.check(DEPLOY / "outside")
    rules.section("DeadMansSwitch")
    outside.must("amtool", "check-config", DEPLOY / "alertmanager/alertmanager.yml")
    outside.must("prometheus-blackbox-exporter", "--config.check", "--config.file", DEPLOY / "blackbox/blackbox.yml")
    routes = {"severity=page": "pager", "severity=ticket": "tickets", "alertname=Watchdog severity=none": "deadman",
              "alertname=Anything": "tickets"}
    for labels, receiver in routes.items():
        seen = outside.must("amtool", "config", "routes", "test", "--config.file",
                            DEPLOY / "alertmanager/alertmanager.yml", *labels.split()).strip()
        assert seen == receiver, f"{labels} goes to {seen}"
    table.row("routes that lead where they should", len(routes), exactly=4)


def check_rules(watch, table):
    """Each alert as Prometheus has it: complete, and about metrics that there are."""
    groups = json.loads(watch.get("127.0.0.1:9090/api/v1/rules"))["data"]["groups"]
    loaded = [rule for group in groups for rule in group["rules"]]
    names = set(json.loads(watch.get("127.0.0.1:9090/api/v1/label/__name__/values"))["data"])
    for rule in loaded:
        assert rule["labels"]["severity"] in ("page", "ticket", "none"), rule
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}, rule
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks.md#{rule['name'].lower()}", rule
        metrics = re.findall(r"\b(?:probe|alertmanager|prometheus)_\w+\b|\bup\b", rule["query"])
        assert metrics or rule["name"] == "Watchdog", rule["query"]
        assert names.issuperset(metrics), f"{rule['name']}: no metric {set(metrics) - names}"
        assert rule["health"] == "ok", rule
    table.row("alerts with severity, runbook and living metrics", len(loaded), exactly=10)


def check_probes(watch, table, certificate, unknown):
    """What is a good answer, and what is not."""
    known = watch.front.authority
    shown_by = {"0.0.0.0:8000": None, "0.0.0.0:8001": known.issue("liar.example"),
                "0.0.0.0:8002": unknown.issue("liar.example"), "0.0.0.0:8003": known.issue("liar.example", days=-1),
                "0.0.0.0:8004": known.issue("another.example")}
    for address, shown in shown_by.items():
        start_liar(watch.third, address, shown)
    plain, good, strange, expired, other = (f"liar.example:{port}/as/200/" for port in range(8000, 8005))
    cases = [("fibonacci_plain", f"http://{plain}{body}", well) for body, well in LIES.items()]
    cases += [("fibonacci", f"https://{good}{body}", well) for body, well in LIES.items()]
    cases += [
        ("fibonacci_plain", "http://liar.example:8000/as/503/6765", False),
        ("fibonacci", f"http://{plain}6765", False),        # not by TLS
        ("fibonacci", f"https://{strange}6765", False),     # by an unknown authority
        ("fibonacci", f"https://{expired}6765", False),
        ("fibonacci", f"https://{other}6765", False),       # for another name
        ("fibonacci", TARGET, True),
        ("fibonacci", f"https://{NAME}/api/fibonacci/21", False),
        ("closed", f"https://{NAME}/metrics", True),
        ("closed", f"https://{NAME}/healthz", True),
        ("closed", f"https://{NAME}/readyz", True),
        ("closed", TARGET, False),
    ]
    lab.until("the last liar answers", lambda: watch.outside.run("curl", "-sSk", f"https://{other}6765").stdout == "6765")
    wrong = [(module, target) for module, target, well in cases if watch.probe(module, target)["probe_success"] != well]
    table.row(f"probes judged wrongly, of {len(cases)}", wrong or 0, exactly=0)

    text = subprocess.run(["openssl", "x509", "-noout", "-enddate"], input=certificate,
                          check=True, capture_output=True, text=True).stdout
    ends = subprocess.run(["date", "+%s", "--date", text.strip().removeprefix("notAfter=")],
                          check=True, capture_output=True, text=True).stdout
    seen = watch.probe("fibonacci", TARGET)["probe_ssl_earliest_cert_expiry"]
    table.row("certificate's end, against openssl's", int(seen - int(ends)), exactly=0, unit="s")


def outage(watch, table, what, end, begin):
    """fibsrv goes away in some manner and comes back: one page, one message that it is over."""
    ended = time.monotonic()
    end()
    table.row(f"{what}: page after", watch.delay("FibsrvUnreachable", "firing", ended, 60), objective("page"), unit="s")
    states = watch.alerts()
    back = time.monotonic()
    begin()
    delay = watch.delay("FibsrvUnreachable", "resolved", back, 60)
    table.row(f"{what}: resolved after its return", delay, objective("resolved"), unit="s")
    table.row(f"{what}: pages", len(watch.received("FibsrvUnreachable", "firing", after=ended)), exactly=1)
    return states


def check_that_only_life_is_a_sign_of_life(watch, table):
    """To a switch that has given the alarm: nothing but a firing Watchdog of the one expected ends it."""
    def message(status, name="Watchdog", monitor="outside"):
        labels = {"alertname": name, "monitor": monitor}
        return json.dumps({"alerts": [{"status": status, "labels": labels}]})

    cases = {"nonsense": 400, '{"alerts": [1]}': 400, message("resolved"): 200, message("firing", "Else"): 200,
             message("firing", monitor="another"): 200}
    for body, status in cases.items():
        seen = watch.outside.must("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--data-binary", body,
                                  "http://deadman.example:9095/")
        assert int(seen) == status, (body, seen)
    assert watch.get("deadman.example:9095/").startswith("outside: SILENT"), watch.get("deadman.example:9095/")
    table.row(f"messages taken for signs of life, of {len(cases)} that are none", 0, exactly=0)


def main():
    lab.enter(seconds=165)
    lab.need("prometheus prometheus-alertmanager prometheus-blackbox-exporter", "prometheus", "promtool",
             "prometheus-alertmanager", "amtool", "prometheus-blackbox-exporter")
    start = time.monotonic()
    with figures.Table("outside_test") as table, lab.Lab() as net:
        pair = front.Front(net, workers=1)
        worker = pair.workers[0]
        certificate = pair.authority.issue(NAME, days=3)
        pair.certify(certificate)
        (net.folder / "unknown").mkdir()
        unknown = pki.Authority(net.folder / "unknown")
        watch = Watch(pair)
        watch.configure_outside()
        check_files(watch, table)

        begun = time.monotonic()
        watch.start_third("outside")
        watch.start_outside()
        lab.until("a good probe", lambda: watch.query('probe_success{job="outside"}').get(TARGET) == 1, 30)
        probed = time.monotonic()
        table.row("from the start of all who watch to the first good probe", probed - begun, unit="s")
        lab.until("a sign of life", lambda: "Watchdog" in {name for name, _ in watch.alerts()}, 30)
        check_probes(watch, table, certificate, unknown)
        lab.until("all is scraped", lambda: min(watch.query("up").values(), default=0) == 1, 10)
        check_rules(watch, table)

        outage(watch, table, "server stopped", worker.process.stop, worker.start)

        delay = watch.delay("FibsrvCertificateExpiresSoon", "firing", probed, 60, path="/ticket")
        table.row("ticket about a certificate of three days", delay, objective("ticket"), unit="s")

        def lie():
            worker.process.kill()
            worker.process = start_liar(worker.machine, "0.0.0.0:3000")

        def be_honest():
            worker.process.kill()
            worker.start()

        states = outage(watch, table, "200 with a wrong number", lie, be_honest)
        ticket = states.get(("FibsrvCertificateExpiresSoon", TARGET))
        assert ticket == "suppressed", f"tickets about what is paged for anyhow: {states}"

        dead = time.monotonic()
        watch.prometheus.kill()
        delay = watch.delay("DeadMansSwitch", "firing", dead, 60)
        table.row("Prometheus killed: page by the dead man's switch", delay, objective("dead man"), unit="s")
        check_that_only_life_is_a_sign_of_life(watch, table)
        back = time.monotonic()
        watch.start_prometheus()
        delay = watch.delay("DeadMansSwitch", "resolved", back, 60)
        table.row("Prometheus killed: resolved after its return", delay, objective("alive again"), unit="s")

        lines = [json.loads(line) for line in watch.mail.log().splitlines() if line.startswith("{")]
        pages = [line["labels"]["alertname"] for line in lines if line["path"] == "/page" and line["status"] == "firing"]
        assert pages == ["FibsrvUnreachable", "FibsrvUnreachable", "DeadMansSwitch"], pages
        table.row("pages in all", len(pages), exactly=3)
        table.row("the whole test", time.monotonic() - start, unit="s")
    print(f"Times are a tenth of what is shipped, and so are the objectives: in production {FASTER} times as long.")
    sys.exit(table.status)


if __name__ == "__main__":
    main()
