#!/usr/bin/env python3
"""Every alert of every rule file fires while its fault lasts, and resolves after it: promtool evaluates one case per alert.

A case has the series of a fault. Each series is healthy, then faulty, then healthy again. The test fails if a rule file has an
alert, a severity or a window that no case covers. Exact limits, labels and texts are in the rule tests beside the rules.
"""

import dataclasses
import itertools
import pathlib
import subprocess
import sys
import tempfile

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
ALWAYS_FIRING = {"Watchdog"}
"""`make external_monitoring_test` checks that DeadMansSwitch fires and resolves when this one stops and returns."""


@dataclasses.dataclass
class Case:
    """The series of a fault, and the minutes before, during and after it."""

    series: dict
    minutes: tuple = (20, 45, 75)


class Gauge:
    """A value while healthy, and another one during the fault. None: the series does not exist."""

    def __init__(self, healthy, faulty):
        self.healthy, self.faulty = healthy, faulty

    def values(self, before, during, after):
        gone = ["stale" if self.faulty is None else self.faulty, *["_" if self.faulty is None else self.faulty] * (during - 1)]
        back = ["stale" if self.healthy is None else self.healthy, *["_" if self.healthy is None else self.healthy] * (after - 1)]
        return ["_" if self.healthy is None else self.healthy] * before + gone + back


class Rate(Gauge):
    """A counter with an increase per minute while healthy, and another one during the fault."""

    def values(self, before, during, after):
        steps = [self.healthy] * before + [self.faulty] * during + [self.healthy] * after
        return list(itertools.accumulate(steps))


class Clock:
    """The time of the last update, which stops during the fault."""

    def __init__(self, stops=True):
        self.stops = stops

    def values(self, before, during, after):
        times = [minute * 60 for minute in range(before + during + after)]
        return times[:before] + ([times[before]] * during if self.stops else times[before:before + during]) + times[before + during:]


class Backlog:
    """A queue that grows during the fault by a number per minute, and is empty otherwise."""

    def __init__(self, growth):
        self.growth = growth

    def values(self, before, during, after):
        return [0] * before + [self.growth * minute for minute in range(1, during + 1)] + [0] * after


def constant(value):
    return Gauge(value, value)


def requests(handler, **codes):
    return {f'fibsrv_requests_total{{job="fibsrv", handler="{handler}", code="{code[1:]}"}}': rate for code, rate in codes.items()}


def durations(**rates):
    name = 'fibsrv_request_duration_seconds_{}{{job="fibsrv", handler="fibonacci"{}}}'
    fast, slow = rates["fast"], rates["all"]
    bounds = {"0.25": fast, "1.0": slow, "+Inf": slow}
    return {name.format("bucket", f', le="{bound}"'): rate for bound, rate in bounds.items()} | {name.format("count", ""): slow}


SERVER = 'job="fibsrv", instance="a"'
FRONT, FRONT_B = 'job="front", instance="a"', 'job="front", instance="b"'
NODE, NODE_B = 'job="node", instance="a"', 'job="node", instance="b"'
CHECK, LOGS = 'file="/d/fibsrv-vrrp-check.prom"', 'file="/d/fibsrv-logs.prom"'
RESPONSES = 'haproxy_frontend_http_responses_total{%s, proxy="https", code="%s"}'
BACKEND = f'{{{FRONT}, proxy="workers"}}'
DAY = 86400
OUTAGE = (60, 120, 480)
"""Two hours: every window fires. Then all short windows, of up to six hours, are free of errors."""

CASES = {
    ("prometheus/rules/alerts.yml", "prometheus/rules/recording.yml"): {
        "FibsrvDown": Case({f"up{{{SERVER}}}": Gauge(1, 0)}),
        "FibsrvTargetsMissing": Case({f"up{{{SERVER}}}": Gauge(1, None)}),
        "FibsrvRestarting": Case({f"fibsrv_worker_restarts_total{{{SERVER}}}": Rate(0, 1)}),
        "FibsrvHighLatency": Case(durations(fast=Rate(100, 50), all=Rate(100, 100))),
        "FibsrvCpuSaturated": Case({f"process_cpu_seconds_total{{{SERVER}}}": Rate(6, 108), f"fibsrv_workers{{{SERVER}}}": constant(2)}),
        "FibsrvComputationsRejected": Case({f'fibsrv_computations_rejected_total{{{SERVER}, reason="queue"}}': Rate(0, 60)}),
        "FibsrvConnectionLimitReached": Case({
            f'fibsrv_accept_pauses_total{{{SERVER}, reason="full"}}': Rate(0, 60),
            f'fibsrv_connections_closed_total{{{SERVER}, reason="evicted"}}': Rate(0, 0)}),
        "FibsrvFileDescriptorsNearLimit": Case({
            f"process_open_fds{{{SERVER}}}": Gauge(10, 90), f"process_max_fds{{{SERVER}}}": constant(100)}),
        "FibsrvClientTimeouts": Case({
            f'fibsrv_connections_closed_total{{{SERVER}, reason="head_timeout"}}': Rate(0, 50),
            f'fibsrv_requests_rejected_total{{{SERVER}, reason="head_timeout"}}': Rate(0, 0),
            f"fibsrv_connections_accepted_total{{{SERVER}}}": Rate(100, 100)}),
        "FibsrvComputationVerificationFailed": Case({f"fibsrv_computation_fallbacks_total{{{SERVER}}}": Rate(0, 1)}),
        "FibsrvMetricsNotShared": Case({f"fibsrv_metrics_shared{{{SERVER}}}": Gauge(1, 0)}),
        "FibsrvAccessLogLinesDropped": Case({f"fibsrv_access_log_dropped_total{{{SERVER}}}": Rate(0, 60)}),
        "FibsrvVersionsDiffer": Case({
            f'fibsrv_build_info{{{SERVER}, version="1"}}': constant(1),
            'fibsrv_build_info{job="fibsrv", instance="b", version="2"}': Gauge(None, 1)}),
    },
    ("prometheus/rules/containers.yml",): {
        "FibsrvContainerMemoryNearLimit": Case({
            'container_memory_working_set_bytes{container="fibsrv"}': Gauge(10, 90),
            'container_spec_memory_limit_bytes{container="fibsrv"}': constant(100)}),
        "FibsrvContainerOomKilled": Case({'container_oom_events_total{container="fibsrv"}': Rate(0, 1)}),
        "FibsrvContainerThrottled": Case({
            'container_cpu_cfs_throttled_periods_total{container="fibsrv"}': Rate(0, 50),
            'container_cpu_cfs_periods_total{container="fibsrv"}': Rate(100, 100)}),
    },
    ("prometheus/rules/slo.yml",): {
        "FibsrvErrorBudgetBurn": Case(requests("fibonacci", _200=Rate(100, 0), _503=Rate(0, 100)), OUTAGE),
        "FibsrvLatencyBudgetBurn": Case(durations(fast=Rate(100, 0), all=Rate(100, 100)), OUTAGE),
    },
    ("prometheus/meta_monitoring.yml",): {
        "Watchdog": Case({f"up{{{SERVER}}}": constant(1)}),
        "MonitoringTargetDown": Case({f"up{{{NODE}}}": Gauge(1, 0)}),
        "PrometheusConfigReloadFailed": Case({'prometheus_config_last_reload_successful{instance="a"}': Gauge(1, 0)}),
        "PrometheusRuleFailures": Case({'prometheus_rule_evaluation_failures_total{rule_group="x"}': Rate(0, 1)}),
    },
    ("deploy/haproxy/rules.yml",): {
        "FrontProxyDown": Case({f"up{{{FRONT}}}": Gauge(1, 0)}),
        "FrontProxiesMissing": Case({f"up{{{FRONT}}}": constant(1), f"up{{{FRONT_B}}}": Gauge(1, None)}),
        "FrontBackendServerDown": Case({f'haproxy_server_status{{{FRONT}, proxy="workers", server="w", state="DOWN"}}': Gauge(0, 1)}),
        "FrontHighErrorRate": Case({RESPONSES % (FRONT, "2xx"): Rate(900, 900), RESPONSES % (FRONT, "5xx"): Rate(0, 100)}),
        "FrontConnectionsNearLimit": Case({
            f'haproxy_frontend_current_sessions{{{FRONT}, proxy="https"}}': Gauge(10, 90),
            f'haproxy_frontend_limit_sessions{{{FRONT}, proxy="https"}}': constant(100)}),
    },
    ("deploy/haproxy/slo.yml",): {
        "FrontErrorBudgetBurn": Case({RESPONSES % (FRONT, "2xx"): Rate(100, 0), RESPONSES % (FRONT, "5xx"): Rate(0, 100)}, OUTAGE),
        "FrontLatencyBudgetBurn": Case({
            f"haproxy_backend_response_time_average_seconds{BACKEND}": Gauge(0.01, 0.5),
            f"haproxy_backend_http_requests_total{BACKEND}": Rate(100, 100)}, OUTAGE),
    },
    ("deploy/keepalived/rules.yml",): {
        "KeepalivedDown": Case({f"node_textfile_mtime_seconds{{{NODE}, {CHECK}}}": Clock()}),
        "FloatingAddressConflict": Case({
            f"fibsrv_vrrp_master{{{NODE}}}": constant(1), f"fibsrv_vrrp_master{{{NODE_B}}}": Gauge(0, 1),
            f"node_textfile_mtime_seconds{{{NODE}, {CHECK}}}": Clock(stops=False),
            f"node_textfile_mtime_seconds{{{NODE_B}, {CHECK}}}": Clock(stops=False)}),
        "VrrpMetricsMissing": Case({f"fibsrv_vrrp_master{{{NODE}}}": constant(1), f"fibsrv_vrrp_master{{{NODE_B}}}": Gauge(0, None)}),
    },
    ("deploy/rsyslog/rules.yml",): {
        "LogQueueGrowing": Case({f"fibsrv_log_queue_lines{{{NODE}}}": Gauge(0, 20_000)}),
        "LogLinesDiscarded": Case({f"fibsrv_log_discarded_total{{{NODE}}}": Rate(0, 1)}),
        "LogForwardingStalled": Case({
            f"fibsrv_log_queue_lines{{{NODE}}}": Backlog(60), f"fibsrv_log_queued_total{{{NODE}}}": Rate(60, 60)}),
        "LogShipperDown": Case({f"node_textfile_mtime_seconds{{{NODE}, {LOGS}}}": Clock()}),
    },
    ("deploy/monitoring-external/rules.yml",): {
        "FibsrvUnreachable": Case({'probe_success{job="external"}': Gauge(1, 0)}),
        "FrontProxyProbeFailing": Case({'probe_success{job="proxies"}': Gauge(1, 0)}),
        "FibsrvProbesFailing": Case({'probe_success{job="external"}': Gauge(1, 0)}),
        "FibsrvProbesSlow": Case({'probe_duration_seconds{job="external"}': Gauge(0.1, 0.9)}),
        "FibsrvCertificateExpiresSoon": Case({'probe_ssl_earliest_cert_expiry{job="external"}': Gauge(90 * DAY, 10 * DAY)}),
        "FibsrvCertificateExpiryCritical": Case({'probe_ssl_earliest_cert_expiry{job="proxies"}': Gauge(90 * DAY, DAY)}),
        "FibsrvPrivatePathExposed": Case({'probe_http_status_code{job="private-paths"}': Gauge(404, 200)}),
        "Watchdog": Case({"up": constant(1)}),
        "ExternalMonitoringTargetDown": Case({'up{job="external"}': Gauge(1, 0)}),
        "ExternalProbesMissing": Case({'probe_success{job="external"}': Gauge(1, None)}),
        "AlertmanagerFailedToSendAlerts": Case({'alertmanager_notifications_failed_total{integration="webhook"}': Rate(0, 60)}),
    },
    ("deploy/monitoring-external/slo.yml",): {
        "FibsrvProbeBudgetBurn": Case({'probe_success{job="external"}': Gauge(1, 0)}, OUTAGE),
        "FibsrvProbeLatencyBudgetBurn": Case({
            'probe_success{job="external"}': constant(1), 'probe_duration_seconds{job="external"}': Gauge(0.1, 0.9)}, OUTAGE),
    },
}


def alerts(path):
    """Returns the alerts of a rule file, as name and the labels that distinguish its rules."""
    rules = [rule for group in yaml.safe_load((ROOT / path).read_text())["groups"] for rule in group["rules"]]
    return [(rule["alert"], tuple(sorted(rule["labels"].items()))) for rule in rules if "alert" in rule]


def checks(name, labels, minutes):
    """Returns the expectations: not firing, firing, not firing at the end of the three phases."""
    matchers = ", ".join(f'{key}="{value}"' for key, value in labels)
    expression = f'(count(ALERTS{{alertname="{name}", alertstate="firing", {matchers}}}) > bool 0) or vector(0)'
    fires = (1, 1, 1) if name in ALWAYS_FIRING else (0, 1, 0)
    ends = itertools.accumulate(minutes)
    return [{"expr": expression, "eval_time": f"{end - 1}m", "exp_samples": [{"labels": "{}", "value": value}]}
            for end, value in zip(ends, fires, strict=True)]


def tests(files):
    """Returns the test file of some rule files, and the number of alerts."""
    known = alerts(files[0])
    cases = CASES[files]
    missing = {name for name, _ in known} ^ set(cases)
    if missing:
        sys.exit(f"alerts: {files[0]}: without a case, or without an alert: {sorted(missing)}")
    written = [{
        "name": name, "interval": "1m",
        "input_series": [{"series": series, "values": " ".join(map(str, shape.values(*case.minutes)))}
                         for series, shape in case.series.items()],
        "promql_expr_test": [check for alert, labels in known if alert == name for check in checks(name, labels, case.minutes)],
    } for name, case in cases.items()]
    return {"rule_files": [str(ROOT / file) for file in files], "evaluation_interval": "1m", "tests": written}, len(known)


def main():
    rule_files = {str(path.relative_to(ROOT)) for pattern in ("prometheus/*.yml", "prometheus/rules/*.yml", "deploy/*/*.yml")
                  for path in ROOT.glob(pattern) if "- alert:" in path.read_text()}
    if rule_files != {files[0] for files in CASES}:
        sys.exit(f"alerts: rule files without cases: {sorted(rule_files ^ {files[0] for files in CASES})}")
    count = 0
    with tempfile.TemporaryDirectory() as directory:
        for number, files in enumerate(CASES):
            text, alerts_of_file = tests(files)
            path = pathlib.Path(directory, f"{number}.yml")
            path.write_text(yaml.safe_dump(text, width=1_000_000))
            done = subprocess.run(["promtool", "test", "rules", path], capture_output=True, text=True, timeout=120)
            if done.returncode:
                sys.exit(f"alerts: {files[0]}: {done.stdout}{done.stderr}")
            count += alerts_of_file
    print(f"alerts: each of {count} rules in {len(CASES)} files fires during its fault and resolves after it")


main()
