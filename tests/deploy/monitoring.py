"""What is said about metrics, against what a real server tells and a real Prometheus makes of it.

Starts the server with two workers and Prometheus with the rules of prometheus/, asks the server for all kinds of things, and
then demands: every rule is evaluated and every recording rule has a result; every expression of every dashboard has one,
and it is a number; every metric that a rule, a dashboard, the chart or a document names is among those scraped, and every one that
is scraped is in README.md; every alert has a section in docs/runbooks.md, and every section an alert.

With a path as argument it also writes what Prometheus has gathered as a picture, see deploy/grafana/README.md.
"""

import http.client
import json
import math
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

import picture
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = ROOT / "bin" / "fibsrv"
SECONDS = 20
"""How long there is load before anything is asked. Rates need a few scrapes, and there is one each second."""
PATIENCE = 30

problems = []


class Started:
    """A program that this test has started, and ends."""

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


def load(address, seconds):
    """Asks for everything that there is, so that no series stays at nothing; returns how many requests that were."""
    host, port = address.rsplit(":", 1)
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        count += 1
        link = http.client.HTTPConnection(host, int(port), timeout=10)
        large = 30_000 + count % 50 * 1_000
        for method, path in [
            ("GET", f"/api/fibonacci/{count % 400}"), ("GET", f"/api/fibonacci/{large}"), ("HEAD", "/api/fibonacci/20"),
            ("GET", "/api/fibonacci/15000"), ("GET", "/api/fibonacci/x"), ("GET", "/nothing"), ("GET", "/healthz"),
            ("GET", "/readyz"), ("POST", "/api/fibonacci/1"), ("BREW", "/pot"),
        ]:
            link.request(method, path)
            link.getresponse().read()
        link.close()
        time.sleep(0.02)
    return count * 10


def ask(prometheus, path, **parameters):
    url = f"{prometheus}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)["data"]


def panels(dashboard):
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


def check_dashboard(path, prometheus):
    """Every expression has a result of numbers, and the panels are laid out and described as they should be."""
    dashboard = json.loads(path.read_text())
    name, seen, places = path.name, set(), set()
    for panel in panels(dashboard):
        title = f"{name}: {panel['title']}"
        if panel["id"] in seen:
            problems.append(f"{title}: its id is another's too")
        seen.add(panel["id"])
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        if cells & places or at["x"] + at["w"] > 24:
            problems.append(f"{title}: lies over another, or beyond the edge")
        places |= cells
        if panel["type"] == "row":
            continue
        if not panel.get("description"):
            problems.append(f"{title}: no description")
        if panel["type"] in ("timeseries", "stat") and "unit" not in panel["fieldConfig"]["defaults"]:
            problems.append(f"{title}: no unit")
        for target in panel["targets"]:
            if target["datasource"]["uid"] != "${datasource}":
                problems.append(f"{title}: its data source is fixed")
            expression = target["expr"].replace("$__rate_interval", "15s").replace("$instance", ".*")
            results = ask(prometheus, "query", query=expression)["result"]
            values = [float(result["value"][1]) for result in results]
            if not values or any(math.isnan(value) for value in values):
                problems.append(f"{title}: {expression} gives {values or 'nothing'}")
            yield title


def metrics_named(text):
    """Names of metrics of this program in a text. Between colons they are parts of the names of recording rules."""
    return set(re.findall(r"(?<![:\w])(?:fibsrv|process)_[a-z0-9_]*[a-z0-9]\b(?![:(]|\.(?:py|yml))", text))


def check_names(scraped, alerts):
    """What is named exists, and what exists is named."""
    families = set(re.findall(r"^# TYPE (\S+)", scraped, re.MULTILINE))
    samples = set(re.findall(r"^([a-z0-9_]+)[ {]", scraped, re.MULTILINE))
    # Those of the shipper of logs, and the one that an adapter for autoscaling would make.
    elsewhere = {"fibsrv_requests_per_second"} | metrics_named((ROOT / "deploy/rsyslog/queue-metrics.py").read_text())
    files = [
        *ROOT.glob("prometheus/**/*.yml"), *ROOT.glob("deploy/**/*.yml"), *ROOT.glob("deploy/**/*.yaml"),
        *ROOT.glob("deploy/**/*.json"), *ROOT.glob("deploy/**/*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*.md"),
    ]
    count = 0
    for path in files:
        named = metrics_named(path.read_text())
        count += len(named)
        for name in sorted(named - families - samples - elsewhere):
            problems.append(f"{path.relative_to(ROOT)}: nobody tells of {name}")
    readme = metrics_named((ROOT / "README.md").read_text())
    for family in sorted(families - readme):
        problems.append(f"README.md: {family} is missing")
    sections = set(re.findall(r"^## (\w+)$", (ROOT / "docs/runbooks.md").read_text(), re.MULTILINE))
    for name in sorted(alerts - sections):
        problems.append(f"docs/runbooks.md: no section on {name}")
    for name in sorted(sections - alerts):
        problems.append(f"docs/runbooks.md: there is no alert {name}")
    print(f"monitoring: {count} mentions of {len(families)} metrics, {len(alerts)} alerts with a section each")


def alerts_of_all_rules():
    found = {"DeadMansSwitch"}  # which deploy/outside/deadman.py raises
    for path in [*ROOT.glob("prometheus/*.yml"), *ROOT.glob("prometheus/rules/*.yml"), *ROOT.glob("deploy/*/rules.yml")]:
        for group in yaml.safe_load(path.read_text()).get("groups", []):
            for rule in group["rules"]:
                if "alert" in rule:
                    found.add(rule["alert"])
                    if rule["annotations"]["runbook_url"] != f"docs/runbooks.md#{rule['alert'].lower()}":
                        problems.append(f"{path.relative_to(ROOT)}: {rule['alert']} leads to another runbook")
    return found


def configuration(address):
    """That of prometheus/, but for where the server is and how often it is scraped."""
    config = yaml.safe_load((ROOT / "prometheus/prometheus.yml").read_text())
    config["global"].update(scrape_interval="1s", evaluation_interval="1s")
    config["rule_files"] = [str(ROOT / "prometheus" / pattern) for pattern in config["rule_files"]]
    config["scrape_configs"] = [{"job_name": "fibsrv", "static_configs": [{"targets": [address]}]}]
    return yaml.safe_dump(config)


def main():
    folder = tempfile.TemporaryDirectory(prefix="fibsrv-monitoring-")
    # An address of its own: no other program can have this port there.
    here = time.time_ns()
    host = f"127.{here % 200 + 20}.{here // 1000 % 250 + 1}.{here // 1_000_000 % 250 + 1}"
    prometheus = f"http://{host}:9090"
    with folder, Started(BINARY, "--listen", "127.0.0.1:0", "--workers", "2") as server:
        address = None
        while address is None:
            line = server.process.stdout.readline()
            if not line:
                sys.exit("monitoring: the server has ended")
            found = re.search(r"listening on (\S+)", line)
            address = found and found[1]
        config = pathlib.Path(folder.name, "prometheus.yml")
        config.write_text(configuration(address))
        with Started("prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder.name}/data",
                     f"--web.listen-address={host}:9090", "--log.level=error"):
            count = load(address, SECONDS)
            until = time.monotonic() + PATIENCE
            while True:  # rules need another evaluation, perhaps
                groups = ask(prometheus, "rules")["groups"]
                rules = [rule for group in groups for rule in group["rules"]]
                if rules and all(rule["health"] == "ok" for rule in rules) or time.monotonic() > until:
                    break
                time.sleep(0.5)
            for rule in rules:
                if rule["health"] != "ok":
                    problems.append(f"{rule['name']}: {rule['health']}, {rule.get('lastError')}")
                elif rule["type"] == "recording" and not ask(prometheus, "query", query=rule["name"])["result"]:
                    problems.append(f"{rule['name']}: no result")
            firing = {alert["labels"]["alertname"] for alert in ask(prometheus, "alerts")["alerts"]}
            if firing != {"Watchdog"}:
                problems.append(f"with nothing wrong there are alerts: {sorted(firing)}")
            print(f"monitoring: {count} requests; {len(rules)} rules evaluated")
            dashboards = sorted(ROOT.glob("deploy/grafana/dashboards/*.json"))
            expressions = sum(1 for path in dashboards for _ in check_dashboard(path, prometheus))
            print(f"monitoring: {expressions} expressions of {len(dashboards)} dashboard have results")
            if sys.argv[1:]:
                picture.draw(sys.argv[1], json.loads(dashboards[0].read_text()),
                             lambda query, **more: ask(prometheus, "query_range", query=query, **more)["result"])
        scraped = urllib.request.urlopen(f"http://{address}/metrics", timeout=10).read()
    linted = subprocess.run(["promtool", "check", "metrics"], input=scraped, capture_output=True, timeout=30)
    if linted.returncode or linted.stderr:
        problems.append(f"promtool check metrics: {linted.stderr.decode()}")
    check_names(scraped.decode(), alerts_of_all_rules())
    if problems:
        sys.exit("monitoring: " + "\nmonitoring: ".join(problems))
    print("monitoring: all well")


main()
