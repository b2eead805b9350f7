"""Those who watch, in the laboratory: the files of deploy/outside, deploy/blackbox and deploy/alertmanager as they are shipped.

In the outer network of front.py there are two machines: `monitor` with the blackbox exporter, Prometheus and Alertmanager
from Debian's packages; `third` with the dead man's switch and the receiver of pages and tickets. What is shipped is
changed in one way: all times of those who watch are a tenth, so objectives are too.
"""

import json
import pathlib
import re
import sys
import urllib.parse

import front
import lab

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"

FASTER = 10
OBJECTIVE_S = {
    "page": 120,                # from the end of the server, or from its first lie, to the page
    "resolved": 120,            # from its return to the message that says so
    "dead man": 300,            # from the end of Prometheus to the page of the dead man's switch
    "alive again": 240,         # from the return of Prometheus to the message that says so
    "ticket": 420,              # from the first probe of a certificate of three days to the ticket about it
    "ticket closed": 360,       # from the swap of that certificate to the message that says so
    "down": 75,                 # from the end of one host of several to the page, by the Prometheus inside
    "up again": 75,
    "proxy down": 120,          # from the end of one proxy of two to the ticket
}
"""What deploy/outside/README.md and docs/operations.md promise with the times that are shipped."""

NAME, MONITOR, THIRD = "fibsrv.example", "10.77.0.102", "10.77.0.103"
NAMES = f"{front.FLOATING} {NAME}\n{THIRD} pager.example tickets.example deadman.example liar.example\n"
TARGET = f"https://{NAME}/api/fibonacci/20"


def faster(file):
    """The text of a shipped file with each time divided by FASTER."""
    def divide(match):
        milliseconds = int(match[1]) * {"s": 1000, "m": 60_000, "h": 3_600_000}[match[2]] // FASTER
        return f"{milliseconds}ms"

    text, count = re.subn(r"(?<![\w.])(\d+)([smh])\b", divide, file.read_text())
    assert count, f"no times in {file}"
    return text


def objective(name):
    """In seconds, as they are here."""
    return OBJECTIVE_S[name] / FASTER


class Watch:
    """The machines that watch, what they look at, and questions to the programs on them."""

    def __init__(self, pair):
        self.front = pair
        self.outside = pair.net.machine("monitor", (pair.outside, f"{MONITOR}/24"))
        self.third = pair.net.machine("third", (pair.outside, f"{THIRD}/24"))
        for machine in (self.outside, self.third):
            machine.know(NAMES)

    def start_third(self, *expected):
        expect = [word for monitor in expected for word in ("--expect", monitor)]
        self.third.start(DEPLOY / "outside/deadman.py", *expect, "--silence", f"{180 / FASTER}s",
                         "--notify", "http://pager.example/page")
        self.mail = self.third.start(sys.executable, ROOT / "tests/deploy/webhook.py", "0.0.0.0:80")

    def configure_outside(self):
        self.outside.own("/etc/prometheus")
        for file in ("outside/prometheus.yml", "outside/rules.yml", "blackbox/blackbox.yml",
                     "alertmanager/alertmanager.yml"):
            self.outside.write(f"/etc/prometheus/{pathlib.Path(file).name}", faster(DEPLOY / file))

    def start_outside(self):
        self.outside.write("/run/ca.pem", self.front.authority.certificate)
        self.outside.start("prometheus-blackbox-exporter", "--config.file=/etc/prometheus/blackbox.yml",
                           env={"SSL_CERT_FILE": "/run/ca.pem"})
        self.outside.start("prometheus-alertmanager", "--config.file=/etc/prometheus/alertmanager.yml",
                           "--storage.path=/run/alertmanager", "--cluster.listen-address=")
        self.start_prometheus()

    def start_prometheus(self):
        self.prometheus = self.outside.start(
            "prometheus", "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/run/prometheus",
            f"--rules.alert.resend-delay={15_000 // FASTER}ms")

    def get(self, address, **query):
        """What an address that the machine outside can reach answers; nothing if it does not, or not well."""
        url = f"http://{address}" + ("?" + urllib.parse.urlencode(query) if query else "")
        return self.outside.run("curl", "-fsS", "--max-time", "8", url, seconds=10).stdout

    def query(self, expression):
        """The values that an expression has in Prometheus now, by instance."""
        answer = self.get("127.0.0.1:9090/api/v1/query", query=expression)
        if not answer:
            return {}
        return {row["metric"].get("instance", ""): float(row["value"][1])
                for row in json.loads(answer)["data"]["result"]}

    def probe(self, module, target):
        """What the blackbox exporter has measured, by metric."""
        lines = self.get("127.0.0.1:9115/probe", module=module, target=target).splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}

    def alerts(self):
        """How each alert stands in Alertmanager, by name and instance."""
        answer = self.get("127.0.0.1:9093/api/v2/alerts") or "[]"
        return {(alert["labels"]["alertname"], alert["labels"].get("instance", "")): alert["status"]["state"]
                for alert in json.loads(answer)}

    def received(self, alert, status, path="/page", after=0.0):
        """What the receiver got of an alert."""
        messages = (json.loads(line) for line in self.mail.log().splitlines() if line.startswith("{"))
        return [message for message in messages
                if message["labels"]["alertname"] == alert and message["status"] == status
                and message["path"] == path and message["at"] > after]

    def delay(self, alert, status, since, seconds, path="/page"):
        """Waits for a message, and says how long after `since` it came."""
        messages = lab.until(f"{alert} {status}", lambda: self.received(alert, status, path, since), seconds)
        return messages[0]["at"] - since
