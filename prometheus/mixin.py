#!/usr/bin/env python3
"""Generates the service level rules, and renders all rules for another job, release or runbook URL.

    mixin.py                    regenerates the slo.yml files and runbook URLs from mixin.json
    mixin.py --check            fails if they are out of date
    mixin.py --output DIRECTORY [--selector 'job="web", namespace="prod"'] [--front-selector 'job="edge"'] [--runbook-url URL]
                                writes all rule files for other selectors or another URL

Standard library only.
"""

import argparse
import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
SETTINGS = json.loads((ROOT / "prometheus/mixin.json").read_text())
SELECTOR, FRONT_SELECTOR = 'job="fibsrv"', 'job="front"'
"""Select the servers and the proxies in all rule files."""

WINDOWS = (
    # burn rate, long window, short window, severity, budget lasts, minimum errors apply to the long window
    (14.4, "1h", "5m", "page", "two days"),
    (6, "6h", "30m", "page", "five days"),
    (3, "1d", "2h", "ticket", "ten days"),
    (1, "3d", "6h", "ticket", "30 days"),
)
RANGES = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
LEVEL = "job, namespace, release"

REQUESTS = 'fibsrv_requests_total{job="fibsrv", handler="fibonacci"'
DURATION = 'fibsrv_request_duration_seconds_%s{job="fibsrv", handler="fibonacci"'
RESPONSES = 'haproxy_frontend_http_responses_total{job="front", proxy="https"'
BACKEND = '{job="front", proxy="workers"}'
PROBES = '{job="external"}'


def total(series, level):
    """A rate summed over instances, with %s for the range."""
    return f"sum by ({level}) (rate({series}}}[%s]))"


def server_availability():
    bad = total(REQUESTS + ', code=~"5.."', LEVEL)
    every = total(REQUESTS, LEVEL)
    # Before the first 5xx response there is no such series: then the number of errors is zero, not missing.
    return f"({bad} or 0 * {every})", every


def server_latency():
    threshold = SETTINGS["latency_threshold_seconds"]
    fast = total(DURATION % "bucket" + f', le="{threshold}"', LEVEL)
    every = total(DURATION % "count", LEVEL)
    return f"({every} - {fast})", every


def proxy_availability():
    return total(RESPONSES + ', code="5xx"', LEVEL), total(RESPONSES, LEVEL)


def probe_availability():
    probes = f"probe_success{PROBES}[%s]"
    return f"(count_over_time({probes}) - sum_over_time({probes}))", f"count_over_time({probes})"


def slices(name, selector):
    """The evaluations at which a recorded 0 or 1 was 1, and all of them."""
    return lambda: (f"sum_over_time({name}{{{selector}}}[%s])", f"count_over_time({name}{{{selector}}}[%s])")


FRONT_SLOW, PROBE_SLOW = "job:front_slow:bool", "job:external_slow:bool"
FRONT_SLOW_NOW = [
    "      # haproxy exports no histogram, but the mean response time of the last 1,024 requests of each proxy. It is stale on the",
    "      # proxy without requests.",
    f"      - record: {FRONT_SLOW}", "        expr: |", f"          max by ({LEVEL}) (",
    f"            (haproxy_backend_response_time_average_seconds{BACKEND} > bool {SETTINGS['latency_threshold_seconds']})",
    f"              * (rate(haproxy_backend_http_requests_total{BACKEND}[1m]) > bool 0)", "          )"]
PROBE_SLOW_NOW = [
    "      # Of the successful probes, as failed ones are in the other objective.",
    f"      - record: {PROBE_SLOW}", "        expr: |",
    f"          (probe_duration_seconds{PROBES} > bool {SETTINGS['probe_latency_threshold_seconds']}) and probe_success{PROBES} == 1"]

OBJECTIVES = {
    "prometheus/rules/slo.yml": (
        dict(name="fibsrv_errors", selector=SELECTOR, alert="FibsrvErrorBudgetBurn", rates=server_availability,
             objective=SETTINGS["availability_objective"], what="of the Fibonacci requests fail"),
        dict(name="fibsrv_slow_requests", selector=SELECTOR, alert="FibsrvLatencyBudgetBurn", rates=server_latency,
             objective=SETTINGS["latency_objective"],
             what=f"of the Fibonacci requests take more than {SETTINGS['latency_threshold_seconds']} s"),
    ),
    "deploy/haproxy/slo.yml": (
        dict(name="front_errors", selector=FRONT_SELECTOR, alert="FrontErrorBudgetBurn", rates=proxy_availability,
             objective=SETTINGS["availability_objective"], what="of the responses of the proxies are 5xx"),
        dict(name="front_slow_time", selector=FRONT_SELECTOR, alert="FrontLatencyBudgetBurn",
             rates=slices(FRONT_SLOW, FRONT_SELECTOR), first=FRONT_SLOW_NOW, objective=SETTINGS["latency_objective"],
             what=f"of the time the mean response time at the proxies exceeds {SETTINGS['latency_threshold_seconds']} s"),
    ),
    # FibsrvUnreachable pages for outages.
    "deploy/monitoring-external/slo.yml": (
        dict(name="external_failures", selector='job="external"', alert="FibsrvProbeBudgetBurn", rates=probe_availability,
             objective=SETTINGS["availability_objective"], what="of the probes fail", page=False),
        dict(name="external_slow_probes", selector='job="external"', alert="FibsrvProbeLatencyBudgetBurn",
             rates=slices(PROBE_SLOW, 'job="external"'), first=PROBE_SLOW_NOW, objective=SETTINGS["latency_objective"], page=False,
             what=f"of the probes take more than {SETTINGS['probe_latency_threshold_seconds']} s"),
    ),
}

RULE_FILES = ("prometheus/rules/recording.yml", "prometheus/rules/alerts.yml", "prometheus/rules/containers.yml",
              "prometheus/meta_monitoring.yml", "deploy/haproxy/rules.yml", "deploy/rsyslog/rules.yml",
              "deploy/keepalived/rules.yml", "deploy/monitoring-external/rules.yml")
OTHERS_WITH_URLS = ("prometheus/tests/*.yml", "deploy/*/*_test.yml", "deploy/monitoring-external/deadman.py",
                    "deploy/grafana/dashboards/*.json")


def budget(objective):
    return f"{1 - objective:.6g}"


def recordings(slo):
    """Recording rules of an objective."""
    bad, every = slo["rates"]()
    lines = list(slo.get("first", ()))
    for window in RANGES:
        lines += [f"      - record: job:{slo['name']}:ratio_rate{window}", "        expr: |",
                  f"          {bad.replace('%s', window)}", f"            / {every.replace('%s', window)}"]
    for _, window, _, _, _ in WINDOWS:
        lines += [f"      - record: job:{slo['name']}:increase{window}",
                  f"        expr: {bad.replace('rate(', 'increase(').replace('%s', window)}"]
    return lines


def remaining(slo):
    """The recording rule of the remaining error budget: 1 is all of it, 0 or less is none."""
    bad, every = (text.replace("%s", "30d") for text in slo["rates"]())
    return [f"      - record: job:{slo['name']}:budget_remaining30d", "        expr: |", "          1 - (", f"            {bad}",
            f"              / {every}", f"          ) / {budget(slo['objective'])}"]


def alerts(slo):
    """Burn rate alerts of an objective."""
    lines = []
    for factor, long, short, severity, lasts in WINDOWS:
        threshold = f"{factor} * {budget(slo['objective'])}"
        severity = severity if slo.get("page", True) else "ticket"
        lines += [
            f"      - alert: {slo['alert']}", "        expr: |",
            f"          job:{slo['name']}:ratio_rate{long}{{{slo['selector']}}} > {threshold}",
            f"            and job:{slo['name']}:ratio_rate{short}{{{slo['selector']}}} > {threshold}",
            f"            and job:{slo['name']}:increase{long}{{{slo['selector']}}} >= {SETTINGS['minimum_errors']}",
            "        labels:", f"          severity: {severity}", f"          window: {long}",
            "        annotations:", f"          summary: '{{{{ $value | humanizePercentage }}}} {slo['what']}'",
            f"          description: 'At the rate of the last {long} the error budget of 30 days lasts {lasts}.'",
            f"          runbook_url: {SETTINGS['runbook_url']}#{slo['alert'].lower()}", ""]
    return lines


def generate(slos):
    """The text of a slo.yml file."""
    lines = ["# Generated by prometheus/mixin.py from prometheus/mixin.json: do not edit.", "#",
             "# Service level objectives over 30 days, with burn rate alerts in four window pairs. The long window shows that the",
             f"# errors are significant, the short one that they continue. Fewer than {SETTINGS['minimum_errors']} errors in the long "
             "window never alert.", "groups:"]
    for slo in slos:
        group = slo["name"].replace("_", "-")
        # In one group, so that alerts use the values of the same evaluation.
        lines += [f"  - name: {group}", "    rules:", *recordings(slo), "", *alerts(slo)]
        lines += [f"  - name: {group}-budget", "    interval: 5m", "    rules:", *remaining(slo), ""]
    return "\n".join(lines).rstrip() + "\n"


def with_url(text, url):
    """Replaces the base of all runbook URLs."""
    return re.sub(r"[^\s'\"]*runbooks\.md(?=#\w|\")", url, text)


def outputs():
    """Path and current text of each file that depends on mixin.json."""
    for path, slos in OBJECTIVES.items():
        yield ROOT / path, generate(slos)
    for pattern in RULE_FILES + OTHERS_WITH_URLS:
        for path in sorted(ROOT.glob(pattern)):
            yield path, with_url(path.read_text(), SETTINGS["runbook_url"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail if a file is out of date")
    parser.add_argument("--output", type=pathlib.Path, metavar="DIRECTORY", help="write rendered copies of all rule files")
    parser.add_argument("--selector", default=SELECTOR, help="label matchers of the servers, default %(default)s")
    parser.add_argument("--front-selector", default=FRONT_SELECTOR, help="label matchers of the proxies, default %(default)s")
    parser.add_argument("--runbook-url", default=SETTINGS["runbook_url"], metavar="URL", help="default %(default)s")
    options = parser.parse_args()
    if options.output:
        for name in (*OBJECTIVES, *RULE_FILES):
            text = (ROOT / name).read_text().replace(SELECTOR, options.selector).replace(FRONT_SELECTOR, options.front_selector)
            path = options.output / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(with_url(text, options.runbook_url))
        return
    stale = [(path, text) for path, text in outputs() if not path.exists() or path.read_text() != text]
    if options.check and stale:
        sys.exit("out of date, run prometheus/mixin.py: " + " ".join(str(path.relative_to(ROOT)) for path, _ in stale))
    for path, text in stale:
        path.write_text(text)


if __name__ == "__main__":
    main()
