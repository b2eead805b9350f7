"""Tests rules, dashboards and metric names with a real server and a real Prometheus.

Starts a server with two workers, an exporter in place of cAdvisor, and Prometheus with the rules of prometheus/, sends requests of all kinds, and checks: every rule
is evaluated and every recording rule has a result; every dashboard expression returns numbers; every metric named in a rule, a
dashboard, the chart or a document exists, and every existing metric is in docs/metrics.md; every alert has a section in
docs/runbooks.md, and every section an alert.

The dashboard of the server is drawn with Grafana's components while the server is under load (tests/dashboard). With a path as
argument, that is also a picture for the documentation, see deploy/grafana/README.md.
"""

import http.client
import http.server
import json
import math
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request

import dashboard_queries
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = ROOT / "bin" / "fibsrv"
RUNBOOKS = json.loads((ROOT / "prometheus/mixin.json").read_text())["runbook_url"]
SECONDS = 20
"""Duration of the load. Rates need a few scrapes, and the interval is one second."""
TIMEOUT = 30

problems = []


class Running:
    """Runs a program for the duration of a with block."""

    def __init__(self, *command):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class ContainerMetrics(http.server.BaseHTTPRequestHandler):
    """Metrics as cAdvisor exports them, of a container of the compose file and of a control group of the host."""

    def do_GET(self):
        periods = int(time.monotonic() * 10)
        values = {"container_memory_working_set_bytes": 60 << 20, "container_spec_memory_limit_bytes": 512 << 20,
                  "container_oom_events_total": 0, "container_cpu_cfs_throttled_periods_total": periods // 50,
                  "container_cpu_cfs_periods_total": periods}
        containers = ('id="/docker/0123456789ab",image="fibsrv:0.2.0",name="fibsrv-fibsrv-1"', 'id="/system.slice"')
        lines = [f"{name}{{{labels}}} {value}\n" for name, value in values.items() for labels in containers]
        self.send_response(200)
        self.end_headers()
        self.wfile.write("".join(lines).encode())

    def log_message(self, *_):
        pass


class ContainerExporter:
    """Serves `ContainerMetrics` for the duration of a with block."""

    def __enter__(self):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), ContainerMetrics)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return f"127.0.0.1:{self.server.server_port}"

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


FORMS = ({"Accept": "application/json"}, {"Accept-Encoding": "gzip"}, {"Range": "bytes=0-99"})
"""Headers for responses in other forms. The numbers beyond the table are long enough for gzip."""


def load(address, seconds):
    """Sends requests of all kinds, so that every series has values; returns their number."""
    host, port = address.rsplit(":", 1)
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        count += 1
        link = http.client.HTTPConnection(host, int(port), timeout=10)
        large = 30_000 + count // 2 * 20  # each is computed once, and found in the cache once
        for method, path in [
            ("GET", f"/api/fibonacci/{count % 400}"), ("GET", f"/api/fibonacci/{large}"), ("HEAD", "/api/fibonacci/20"),
            ("GET", "/api/fibonacci/15000"), ("GET", "/api/fibonacci/x"), ("GET", "/nothing"), ("GET", "/healthz"),
            ("GET", "/readyz"), ("POST", "/api/fibonacci/1"), ("BREW", "/pot"),
        ]:
            link.request(method, path, headers=FORMS[count % 3] if path.startswith("/api/fibonacci/3") else {})
            link.getresponse().read()
        link.close()
        time.sleep(0.02)
    return count * 10


def query_api(prometheus, path, **parameters):
    url = f"{prometheus}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(url, timeout=10) as response:
        return json.load(response)["data"]


def panels(dashboard):
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


def check_dashboard(path, prometheus):
    """Checks that every expression returns numbers, and the layout, descriptions and units of panels."""
    dashboard = json.loads(path.read_text())
    name, seen, places = path.name, set(), set()
    for annotation in dashboard["annotations"]["list"]:
        if "expr" in annotation:  # has values only after an event
            query_api(prometheus, "query", query=dashboard_queries.with_defaults(annotation["expr"], "15s"))
            yield annotation["name"]
    for panel in panels(dashboard):
        title = f"{name}: {panel['title']}"
        if panel["id"] in seen:
            problems.append(f"{title}: duplicate id")
        seen.add(panel["id"])
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        if cells & places or at["x"] + at["w"] > 24:
            problems.append(f"{title}: overlaps another panel or the edge")
        places |= cells
        if panel["type"] == "row":
            continue
        if not panel.get("description"):
            problems.append(f"{title}: no description")
        drawn = "thresholdsStyle" in panel["fieldConfig"]["defaults"].get("custom", {})
        if ("The line is" in panel.get("description", "")) != drawn:
            problems.append(f"{title}: the description and the threshold line differ")
        if panel["type"] == "alertlist":
            continue
        if panel["type"] == "timeseries":
            check_axis(title, panel["fieldConfig"]["defaults"])
        if panel["type"] in ("timeseries", "stat") and "unit" not in panel["fieldConfig"]["defaults"]:
            problems.append(f"{title}: no unit")
        for target in panel["targets"]:
            if target["datasource"]["uid"] not in ("${datasource}", "${external}"):
                problems.append(f"{title}: fixed data source")
            expression = dashboard_queries.with_defaults(target["expr"], "15s")
            # Metrics of other components, which do not run here: staging evaluates the operations dashboard. An invalid
            # expression is an error nevertheless.
            if name == "operations.json":
                query_api(prometheus, "query", query=expression)
                yield title
                continue
            results = query_api(prometheus, "query", query=expression)["result"]
            values = [float(result["value"][1]) for result in results]
            if not values or any(math.isnan(value) for value in values):
                problems.append(f"{title}: {expression} returns {values or 'nothing'}")
            yield title


def check_axis(title, defaults):
    """An axis has a maximum or a soft maximum: without values Grafana's would end at 100."""
    if "max" not in defaults and "axisSoftMax" not in defaults["custom"]:
        problems.append(f"{title}: the axis without values is arbitrary")


def metrics_named(text):
    """Returns the names of fibsrv metrics in a text, without parts of recording rule names."""
    return set(re.findall(r"(?<![:\w])(?:fibsrv|process)_[a-z0-9_]*[a-z0-9]\b(?![:(]|\.(?:py|yml))", text))


def check_names(scraped, alerts):
    """Checks that documented metrics exist, and existing metrics and alerts are documented."""
    families = set(re.findall(r"^# TYPE (\S+)", scraped, re.MULTILINE))
    samples = set(re.findall(r"^([a-z0-9_]+)[ {]", scraped, re.MULTILINE))
    # Metrics of the log shipper and of keepalived, and an example for a metrics adapter.
    elsewhere = {"fibsrv_requests_per_second"} | metrics_named(
        (ROOT / "deploy/rsyslog/queue-metrics.py").read_text() + (ROOT / "deploy/keepalived/notify-state").read_text())
    files = [
        *ROOT.glob("prometheus/**/*.yml"), *ROOT.glob("deploy/**/*.yml"), *ROOT.glob("deploy/**/*.yaml"),
        *ROOT.glob("deploy/**/*.json"), *ROOT.glob("deploy/**/*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*.md"),
    ]
    count = 0
    for path in files:
        if path.name == "CHANGELOG.md" or "ansible" in path.parts:  # former names, and variables of a role
            continue
        named = metrics_named(path.read_text())
        count += len(named)
        for name in sorted(named - families - samples - elsewhere):
            problems.append(f"{path.relative_to(ROOT)}: unknown metric {name}")
    documented = metrics_named((ROOT / "docs/metrics.md").read_text())
    for family in sorted(families - documented):
        problems.append(f"docs/metrics.md: {family} is not documented")
    sections = set(re.findall(r"^## (\w+)$", (ROOT / "docs/runbooks.md").read_text(), re.MULTILINE))
    for name in sorted(alerts - sections):
        problems.append(f"docs/runbooks.md: no section for {name}")
    for name in sorted(sections - alerts):
        problems.append(f"docs/runbooks.md: section without alert {name}")
    print(f"monitoring: {count} mentions of {len(families)} metrics, {len(alerts)} alerts with a section each")


def alerts_of_all_rules():
    found = {"DeadMansSwitch"}  # raised by deploy/monitoring-external/deadman.py
    for path in [*ROOT.glob("prometheus/*.yml"), *ROOT.glob("prometheus/rules/*.yml"), *ROOT.glob("deploy/*/rules.yml"),
                 *ROOT.glob("deploy/*/slo.yml")]:
        for group in yaml.safe_load(path.read_text()).get("groups", []):
            for rule in group["rules"]:
                if "alert" in rule:
                    found.add(rule["alert"])
                    if rule["annotations"]["runbook_url"] != f"{RUNBOOKS}#{rule['alert'].lower()}":
                        problems.append(f"{path.relative_to(ROOT)}: {rule['alert']} has a wrong runbook_url")
    return found


def configure(directory, address, containers):
    """Copies prometheus/ with the addresses of the server and of container metrics, and intervals of 1 s."""
    shutil.copytree(ROOT / "prometheus", directory)
    for path in directory.glob("targets/*.yml"):
        path.write_text("[]\n")
    (directory / "targets/fibsrv.yml").write_text(f"- targets: ['{address}']\n")
    (directory / "targets/cadvisor.yml").write_text(f"- targets: ['{containers}']\n")
    for path in [directory / "prometheus.yml", *directory.glob("rules/*.yml")]:
        path.write_text(re.sub(r"(interval: )5[sm]$", r"\g<1>1s", path.read_text(), flags=re.MULTILINE))
    return directory / "prometheus.yml"


def main():
    directory = tempfile.TemporaryDirectory(prefix="fibsrv-monitoring-")
    # A random loopback address, so that the port is free.
    seed = time.time_ns()
    host = f"127.{seed % 200 + 20}.{seed // 1000 % 250 + 1}.{seed // 1_000_000 % 250 + 1}"
    prometheus = f"http://{host}:9090"
    with directory, ContainerExporter() as containers, Running(BINARY, "--listen", "127.0.0.1:0", "--workers", "2") as server:
        address = None
        while address is None:
            line = server.process.stdout.readline()
            if not line:
                sys.exit("monitoring: the server exited")
            found = re.search(r"listening on (\S+)", line)
            address = found and found[1]
        config = configure(pathlib.Path(directory.name, "prometheus"), address, containers)
        with Running("prometheus", f"--config.file={config}", f"--storage.tsdb.path={directory.name}/data",
                     f"--web.listen-address={host}:9090", "--log.level=error"):
            count = load(address, SECONDS)
            until = time.monotonic() + TIMEOUT
            while True:  # until all rules have been evaluated
                groups = query_api(prometheus, "rules")["groups"]
                rules = [rule for group in groups for rule in group["rules"]]
                if rules and all(rule["health"] == "ok" for rule in rules) or time.monotonic() > until:
                    break
                time.sleep(0.5)
            for rule in rules:
                if rule["health"] != "ok":
                    problems.append(f"{rule['name']}: {rule['health']}, {rule.get('lastError')}")
                elif rule["type"] == "recording" and not query_api(prometheus, "query", query=rule["name"])["result"]:
                    problems.append(f"{rule['name']}: no result")
            firing = {alert["labels"]["alertname"] for alert in query_api(prometheus, "alerts")["alerts"]}
            if firing != {"Watchdog"}:
                problems.append(f"unexpected alerts: {sorted(firing)}")
            print(f"monitoring: {count} requests; {len(rules)} rules evaluated")
            dashboards = sorted(ROOT.glob("deploy/grafana/dashboards/*.json"))
            expressions = sum(1 for path in dashboards for _ in check_dashboard(path, prometheus))
            print(f"monitoring: {expressions} expressions of {len(dashboards)} dashboards are valid")
            rendering = subprocess.run(["node", ROOT / "tests/dashboard/dashboard_test.mjs", prometheus, dashboards[0], *sys.argv[1:]],
                                       timeout=120)
            if rendering.returncode:
                problems.append(f"{dashboards[0].name}: not as expected when drawn")
        scraped = urllib.request.urlopen(f"http://{address}/metrics", timeout=10).read()
    linted = subprocess.run(["promtool", "check", "metrics"], input=scraped, capture_output=True, timeout=30)
    if linted.returncode or linted.stderr:
        problems.append(f"promtool check metrics: {linted.stderr.decode()}")
    check_names(scraped.decode(), alerts_of_all_rules())
    if problems:
        sys.exit("monitoring: " + "\nmonitoring: ".join(problems))
    print("monitoring: passed")


main()
