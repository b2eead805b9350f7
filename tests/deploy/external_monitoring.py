"""External monitoring on a test network, with the shipped files of deploy/monitoring-external, deploy/blackbox and
deploy/alertmanager.

The public network of proxy_pair.py gets two machines: `monitor` with the blackbox exporter, Prometheus and Alertmanager from
Debian's packages, and `third-host` with the dead man's switch and the webhook receiver. The only change to the shipped files:
all times are divided by ten, and so are the objectives.
"""

import json
import pathlib
import re
import sys
import urllib.parse

import proxy_pair
import netns

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"

FASTER = 10
OBJECTIVE_S = {
    "page": 120,                # from the failure or the first wrong number to the page
    "resolved": 120,            # from recovery to the resolved notification
    "dead man": 300,            # from the death of Prometheus to the page of the dead man's switch
    "alive again": 240,         # from the restart of Prometheus to the resolved notification
    "ticket": 420,              # from the first probe of a certificate with three days left to the ticket
    "ticket closed": 360,       # from its replacement to the resolved notification
    "down": 75,                 # from the death of one of several hosts to the page, by the internal Prometheus
    "up again": 75,
    "keepalived down": 180,       # from the death of keepalived on the standby to the ticket
    "shipper down": 270,          # from the death of rsyslog to the ticket
    "ticket resolved": 420,       # from recovery to the resolved notification of a ticket
    "proxy errors": 120,        # from the first 5xx response of a proxy to the page
    "proxy down": 120,          # from the death of one of two proxies to the ticket
}
"""Objectives of deploy/monitoring-external/README.md and docs/operations.md, with the shipped times."""

NAME, MONITOR, THIRD = "fibsrv.example", "10.77.0.102", "10.77.0.103"
NAMES = f"{proxy_pair.FLOATING} {NAME}\n{THIRD} pager.example tickets.example deadman.example faulty.example\n"
TARGET = f"https://{NAME}/api/fibonacci/20"


def faster(file, required=True):
    """Returns the text of a shipped file with each duration divided by FASTER."""
    def divide(match):
        milliseconds = int(match[1]) * {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}[match[2]] // FASTER
        return f"{milliseconds}ms"

    text, count = re.subn(r"(?<![\w.])(\d+)([smhd])\b", divide, file.read_text())
    # Ages of textfiles are compared with plain seconds.
    text = re.sub(r"(mtime_seconds\{[^}]*\} [<>] )(\d+)", lambda match: f"{match[1]}{int(match[2]) / FASTER:g}", text)
    assert count or not required, f"no durations in {file}"
    return text


def objective(name):
    """Returns the scaled objective in seconds."""
    return OBJECTIVE_S[name] / FASTER


class ExternalMonitoring:
    """The monitoring machines, and queries to their programs."""

    def __init__(self, pair):
        self.front = pair
        self.host = pair.net.machine("monitor", (pair.public, f"{MONITOR}/24"))
        self.third = pair.net.machine("third-host", (pair.public, f"{THIRD}/24"))
        for machine in (self.host, self.third):
            machine.set_hosts(NAMES)

    def start_third_host(self, *expected):
        expect = [word for monitor in expected for word in ("--expect", monitor)]
        self.third.start(DEPLOY / "monitoring-external/deadman.py", *expect, "--silence", f"{180 / FASTER}s",
                         "--notify", "http://pager.example/page")
        self.webhook = self.third.start(sys.executable, ROOT / "tests/deploy/webhook.py", "0.0.0.0:80")

    def configure(self):
        self.host.mount_tmpfs("/etc/prometheus")
        for file in ("monitoring-external/prometheus.yml", "monitoring-external/rules.yml", "monitoring-external/slo.yml", "blackbox/blackbox.yml",
                     "alertmanager/alertmanager.yml"):
            self.host.write(f"/etc/prometheus/{pathlib.Path(file).name}", faster(DEPLOY / file))

    def start(self):
        self.host.write("/run/ca.pem", self.front.authority.certificate)
        self.host.start("prometheus-blackbox-exporter", "--config.file=/etc/prometheus/blackbox.yml",
                           env={"SSL_CERT_FILE": "/run/ca.pem"})
        self.host.start("prometheus-alertmanager", "--config.file=/etc/prometheus/alertmanager.yml",
                           "--storage.path=/run/alertmanager", "--cluster.listen-address=")
        self.start_prometheus()

    def start_prometheus(self):
        self.prometheus = self.host.start(
            "prometheus", "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/run/prometheus",
            f"--rules.alert.resend-delay={15_000 // FASTER}ms")

    def get(self, address, **query):
        """Returns the body of a URL fetched by the monitoring machine; empty on failure."""
        url = f"http://{address}" + ("?" + urllib.parse.urlencode(query) if query else "")
        return self.host.run("curl", "-fsS", "--max-time", "8", url, seconds=10).stdout

    def query(self, expression):
        """Returns the current values of a PromQL expression by instance."""
        response = self.get("127.0.0.1:9090/api/v1/query", query=expression)
        if not response:
            return {}
        return {row["metric"].get("instance", ""): float(row["value"][1])
                for row in json.loads(response)["data"]["result"]}

    def probe(self, module, target):
        """Runs a probe and returns its metrics."""
        lines = self.get("127.0.0.1:9115/probe", module=module, target=target).splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}

    def alerts(self):
        """Returns the state of each alert in Alertmanager by name and instance."""
        response = self.get("127.0.0.1:9093/api/v2/alerts") or "[]"
        return {(alert["labels"]["alertname"], alert["labels"].get("instance", "")): alert["status"]["state"]
                for alert in json.loads(response)}

    def received(self, alert, status, path="/page", after=0.0):
        """Returns the notifications received for an alert."""
        messages = (json.loads(line) for line in self.webhook.log().splitlines() if line.startswith("{"))
        return [message for message in messages
                if message["labels"]["alertname"] == alert and message["status"] == status
                and message["path"] == path and message["at"] > after]

    def pages(self):
        """Returns the names of all alerts for which a page was received."""
        messages = (json.loads(line) for line in self.webhook.log().splitlines() if line.startswith("{"))
        return {message["labels"]["alertname"] for message in messages if message["path"] == "/page"}

    def delay(self, alert, status, since, seconds, path="/page"):
        """Waits for a notification and returns its delay after `since`."""
        messages = netns.until(f"{alert} {status}", lambda: self.received(alert, status, path, since), seconds)
        return messages[0]["at"] - since
