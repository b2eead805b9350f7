"""Checks that the chart matches the rest of the repository: version, flags, rules, dashboards."""

import json
import pathlib
import re
import sys

import helm_manifests
import yaml

CHART = pathlib.Path("deploy/helm/fibsrv")
RUNBOOKS = json.loads(pathlib.Path("prometheus/mixin.json").read_text())["runbook_url"]

# Flags that the chart sets by other values, or that do not apply to a pod.
ELSEWHERE = {
    "FIBSRV_ADMIN_LISTEN": "a port of the chart",
    "FIBSRV_WORKERS": "workers",
    "FIBSRV_DRAIN_DELAY": "drain.delaySeconds",
    "FIBSRV_DRAIN_GRACE": "drain.graceSeconds",
    "FIBSRV_DRAIN_TIMEOUT": "drain.timeoutSeconds",
    "FIBSRV_ACCESS_LOG_FILE": "a pod writes to stdout",
}

found = []

about = yaml.safe_load((CHART / "Chart.yaml").read_text())
version = re.search(
    r'^version = "(.+)"', pathlib.Path("Cargo.toml").read_text(), re.MULTILINE
).group(1)
if about["appVersion"] != version:
    found.append(f"Chart.yaml has appVersion {about['appVersion']}, Cargo.toml has {version}")

# Addresses in the repository.
repository = re.search(
    r'^repository = "(.+)"', pathlib.Path("Cargo.toml").read_text(), re.MULTILINE
).group(1)
for address in (about["home"], *about["sources"], about["icon"], RUNBOOKS):
    path = address.removeprefix(repository)
    file = re.sub(r"^/(raw|blob)/main/", "", path)
    if path == address or not pathlib.Path(".", file.lstrip("/")).exists():
        found.append(f"{address} is not in the repository {repository}")
example = yaml.safe_load(pathlib.Path("deploy/kustomize/example/kustomization.yaml").read_text())
if example["images"][0]["newTag"] != version:
    found.append(f"the example in deploy/kustomize has version {example['images'][0]['newTag']}")

flags = set(
    re.findall(
        r"^\| `--[^|]*\| `(FIBSRV_\w+)` \|",
        pathlib.Path("docs/configuration.md").read_text(),
        re.MULTILINE,
    )
)
schema = json.loads((CHART / "values.schema.json").read_text())
known = {
    "FIBSRV_" + re.sub(r"(?=[A-Z])", "_", key).upper()
    for key in schema["properties"]["config"]["properties"]
}
if len(flags) < 15:
    found.append("the table of flags in docs/configuration.md is not found")
found += [
    f"config of values.schema.json lacks {flag}" for flag in sorted(flags - known - set(ELSEWHERE))
]
found += [
    f"config of values.schema.json has the unknown flag {flag}" for flag in sorted(known - flags)
]

releases = helm_manifests.newest()
used = {
    entry["name"]
    for document in releases["config"]
    if document["kind"] == "Deployment"
    for entry in document["spec"]["template"]["spec"]["containers"][0]["env"]
}
found += [
    f"ci/config-values.yaml does not set {flag}"
    for flag in sorted(flags - used - {"FIBSRV_ACCESS_LOG_FILE"})
]

values = yaml.safe_load((CHART / "values.yaml").read_text())
found += [
    f"values.yaml lacks {key}"
    for key in schema["properties"]
    if key not in values and key != "global"
]

monitoring = {document["kind"]: document for document in releases["monitoring"]}
paths = sorted(pathlib.Path("prometheus/rules").glob("*.yml"))
scope = 'namespace="numbers", release="release"'
texts = [
    path.read_text()
    .replace('job="fibsrv"', f'job="fibsrv", {scope}')
    .replace('container="fibsrv"', 'container="fibsrv", namespace="numbers"')
    .replace(RUNBOOKS, "https://wiki.example.org/fibsrv/runbooks.md")
    for path in paths
]
groups = [group for text in texts for group in yaml.safe_load(text)["groups"]]
if not groups or monitoring["PrometheusRule"]["spec"]["groups"] != groups:
    found.append("PrometheusRule differs from prometheus/rules")
paths = pathlib.Path("deploy/grafana/dashboards").glob("*.json")
dashboards = {path.name: path.read_text() for path in paths}
if not dashboards or monitoring["ConfigMap"]["data"] != dashboards:
    found.append("the dashboards differ from deploy/grafana/dashboards")

if found:
    sys.exit("\n".join(found))
print(
    f"helm: version, {len(flags)} flags, {len(groups)} groups of rules, {len(dashboards)} dashboard"
    " match the sources"
)
