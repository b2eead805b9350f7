"""Policy rules for docker-compose.yml, each with violations that it must detect.

A rule takes the compose file and yields violations. The arguments of its decorator are changes of the file, as path and new
value: the rule must report each.
"""

import copy
import pathlib
import re
import sys

import yaml

import policy

ROOT = pathlib.Path(__file__).resolve().parents[2]
PUBLIC = {"fibsrv"}
RULES = policy.Rules()
rule = RULES.rule


def size(text):
    """Converts a size like 64MiB or 512m to bytes; compose uses binary multiples."""
    number, unit = re.fullmatch(r"(\d+)\s*([kmg])?(?:i?b)?", str(text).lower()).groups()
    return int(number) * {None: 1, "k": 2**10, "m": 2**20, "g": 2**30}[unit]


@rule(("services.prometheus.ports", ["9000:9090"]), ("services.grafana.ports", ["0.0.0.0:3001:3000"]),
      ("services.cadvisor.ports", [{"published": 8080, "target": 8080}]))
def only_the_server_is_public(file):
    for name, service in file["services"].items():
        for port in service.get("ports", []):
            if name not in PUBLIC and not str(port).startswith("127.0.0.1:"):
                yield f"{name} publishes {port} on all interfaces"


@rule(("services.fibsrv.environment.FIBSRV_ADMIN_LISTEN", None), ("services.fibsrv.environment.FIBSRV_ADMIN_LISTEN", "[::]:9465"),
      ("services.fibsrv.ports", ["3000:3000", "9464:9464"]))
def metrics_are_private(file):
    _, _, port = (file["services"]["fibsrv"]["environment"]["FIBSRV_ADMIN_LISTEN"]).rpartition(":")
    if any(str(published).endswith(f":{port}") for published in file["services"]["fibsrv"]["ports"]):
        yield "the admin address is published"
    jobs = yaml.safe_load((ROOT / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    scraped = [found["port"] for job in jobs for found in job.get("dns_sd_configs", [])]
    if scraped != [int(port)]:
        yield f"Prometheus scrapes port {scraped}, not the admin address"


@rule(("services.grafana.environment.GF_SECURITY_ADMIN_PASSWORD", "secret"),
      ("services.grafana.environment.GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION", "false"),
      ("services.grafana.environment.GF_AUTH_ANONYMOUS_ORG_ROLE", "Admin"))
def there_is_no_default_password(file):
    for name, service in file["services"].items():
        for variable in service.get("environment", {}):
            if "PASSWORD" in variable:
                yield f"{name} sets {variable}"
    grafana = file["services"]["grafana"]["environment"]
    if grafana.get("GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION") != "true":
        yield "grafana creates admin with a default password"
    if grafana.get("GF_AUTH_ANONYMOUS_ORG_ROLE") != "Viewer":
        yield "anonymous users of grafana may edit"


@rule(("services.cadvisor.privileged", True), ("services.cadvisor.cap_drop", ["NET_RAW"]),
      ("services.prometheus.security_opt", []), ("services.fibsrv.read_only", False), ("services.grafana.user", "0"),
      ("services.cadvisor.volumes", ["/:/rootfs:ro"]), ("services.cadvisor.volumes", ["/sys:/sys"]),
      ("services.prometheus.network_mode", "host"))
def containers_are_unprivileged(file):
    for name, service in file["services"].items():
        if service.get("privileged") or service.get("cap_add") or service.get("devices") or service.get("user") == "0":
            yield f"{name} is privileged"
        if service.get("cap_drop") != ["ALL"] or "no-new-privileges:true" not in service.get("security_opt", []):
            yield f"{name} keeps capabilities or may gain privileges"
        if {"network_mode", "pid", "ipc"} & set(service):
            yield f"{name} shares a namespace with the host"
        for volume in service.get("volumes", []):
            source, _, target = volume.partition(":")
            if source == "/" or (source.startswith("/") and not target.endswith(":ro")):
                yield f"{name} mounts {volume}"
    for name in ("fibsrv", "cadvisor"):
        if file["services"][name].get("read_only") is not True:
            yield f"{name} has a writable root file system"


@rule(("services.alertmanager.mem_limit", None), ("services.grafana.logging.options", {}))
def resources_are_bounded(file):
    for name, service in file["services"].items():
        if not service.get("mem_limit"):
            yield f"{name} has no memory limit"
        if not {"max-size", "max-file"} <= set(service["logging"].get("options", {})):
            yield f"{name} has unbounded logs"


@rule(("services.fibsrv.environment.FIBSRV_WORKERS", "auto"), ("services.fibsrv.environment.FIBSRV_WORKERS", "8"),
      ("services.fibsrv.environment.FIBSRV_CACHE_SIZE", "400MiB"), ("services.fibsrv.mem_limit", "256m"),
      ("services.fibsrv.environment.FIBSRV_MAX_CONNECTIONS", "100000"),
      ("services.fibsrv.environment.FIBSRV_MAX_N", "100000000"))
def the_memory_limit_covers_the_worst_case(file):
    service = file["services"]["fibsrv"]
    environment = service["environment"]
    if not environment["FIBSRV_WORKERS"].isdigit():
        yield "the number of workers depends on the host"
        return
    computation = int(environment.get("FIBSRV_MAX_N", "10000000")) * 5
    each = int(environment["FIBSRV_MAX_CONNECTIONS"]) * 100 * 1024 + size(environment["FIBSRV_CACHE_SIZE"]) + computation
    table = int(environment.get("FIBSRV_TABLE_MAX_N", "10000")) ** 2 // 9
    if int(environment["FIBSRV_WORKERS"]) * each + table + 16 * 2**20 > size(service["mem_limit"]):
        yield "the memory limit can be exceeded"


@rule(("services.prometheus.image", "prom/prometheus"), ("services.grafana.image", "grafana/grafana:latest"),
      ("services.cadvisor.image", "ghcr.io/google/cadvisor:v0.60.5"), ("services.grafana.image", f"grafana/grafana@sha256:{'0' * 64}"))
def images_are_pinned(file):
    for name, service in file["services"].items():
        if "build" not in service and not re.search(r":v?\d+\.\d+\.\d+@sha256:[0-9a-f]{64}$", service["image"]):
            yield f"{name} has no exact version and digest: {service['image']}"


@rule(("services.prometheus.command", ["--storage.tsdb.retention.time=15d"]))
def metrics_are_kept_for_the_objective(file):
    days = re.search(r"retention\.time=(\d+)d", " ".join(file["services"]["prometheus"]["command"]))
    if not days or int(days[1]) < 30:
        yield "Prometheus keeps less than the 30 days of the objectives"


@rule(("services.alertmanager", None))
def alerts_reach_an_alertmanager(file):
    """The targets of prometheus/targets are services of the compose file."""
    for path in sorted((ROOT / "prometheus/targets").glob("*.yml")):
        for group in yaml.safe_load(path.read_text()):
            for target in group["targets"]:
                host = target.partition(":")[0]
                if host != "localhost" and not file["services"].get(host):
                    yield f"{path.name}: {target} is no service"
    config = yaml.safe_load((ROOT / "prometheus/prometheus.yml").read_text())
    if not config["alerting"]["alertmanagers"]:
        yield "Prometheus has no Alertmanager"


def changed(file, path, value):
    """Returns a copy of the file with one field changed."""
    file = copy.deepcopy(file)
    *parents, last = path.split(".")
    place = file
    for key in parents:
        place = place[key]
    place[last] = value
    return file


def findings_of(check, file):
    """Returns the findings of a rule; an exception about a missing field is a finding too."""
    try:
        return list(check(file))
    except (AttributeError, KeyError, TypeError) as error:
        return [f"{type(error).__name__}: {error}"]


compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
found = [f"{check.__name__}: {finding}" for check, _ in RULES for finding in findings_of(check, compose)]
for check, violations in RULES:
    found += [f"{check.__name__} does not detect {path} = {value!r}" for path, value in violations
              if not findings_of(check, changed(compose, path, value))]
if found:
    sys.exit("compose: " + "\ncompose: ".join(found))
print(f"compose: {len(RULES)} policy rules hold, and detect each of {sum(len(each) for _, each in RULES)} violations")
