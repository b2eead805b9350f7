"""Policy rules for the rendered chart, each with violations that it must detect.

A rule takes the documents of a release and yields violations. The arguments of its decorator are
changes of a valid release, as file of ci/, kind, path and new value: the rule must report each.
"""

import copy
import re
import sys

import helm_manifests
import policy

REMOVED = object()
RULES = policy.Rules()
rule = RULES.rule


def of_kind(documents, kind):
    """Returns the documents of a kind. The Service of metrics and health counts as a kind of its own."""
    return [document for document in documents if kind_of(document) == kind]


def kind_of(document):
    is_admin = document["kind"] == "Service" and document["metadata"]["name"].endswith("-admin")
    return "AdminService" if is_admin else document["kind"]


def only(documents, kind):
    found = of_kind(documents, kind)
    assert len(found) == 1, f"{len(found)} of {kind}"
    return found[0]


def pods(documents):
    """Yields kind of the creating resource, labels and spec of each pod."""
    for document in of_kind(documents, "Deployment"):
        yield (
            "Deployment",
            document["spec"]["template"]["metadata"]["labels"],
            document["spec"]["template"]["spec"],
        )
    for document in of_kind(documents, "Pod"):
        yield "Pod", document["metadata"]["labels"], document["spec"]


def containers(documents):
    for kind, _, spec in pods(documents):
        for container in spec.get("initContainers", []) + spec["containers"]:
            yield kind, container


def server(documents):
    return only(documents, "Deployment")["spec"]["template"]["spec"]


def variables(documents):
    return {
        entry["name"]: entry.get("value") for entry in server(documents)["containers"][0]["env"]
    }


def seconds(text):
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)(ms|s|m|h)", text))


def size(text):
    """Converts a Kubernetes quantity or a server size to bytes."""
    number, unit = re.fullmatch(r"(\d+)\s*([KMG]i?)?B?", str(text)).groups()
    return (
        int(number)
        * {None: 1, "K": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}[unit]
    )


def matches(selector, labels):
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


POD = "spec.template.spec."
SERVER = POD + "containers.0."


# The restricted Pod Security Standard, and a read-only root beside it.


@rule(
    ("default", "Deployment", POD + "securityContext.runAsNonRoot", False),
    ("default", "Deployment", POD + "securityContext.runAsUser", 0),
    ("default", "Deployment", SERVER + "securityContext.runAsUser", 0),
    ("default", "Pod", "spec.securityContext.runAsNonRoot", REMOVED),
)
def containers_do_not_run_as_root(documents):
    for kind, _, spec in pods(documents):
        if spec["securityContext"].get("runAsNonRoot") is not True:
            yield f"{kind} may run as root"
        contexts = [spec["securityContext"]] + [
            container["securityContext"] for container in spec["containers"]
        ]
        if any(context.get("runAsUser") == 0 for context in contexts):
            yield f"{kind} runs as root"


@rule(
    ("default", "Deployment", SERVER + "securityContext.allowPrivilegeEscalation", True),
    ("default", "Deployment", SERVER + "securityContext.capabilities.drop", ["NET_RAW"]),
    ("default", "Deployment", SERVER + "securityContext.capabilities.add", ["SYS_ADMIN"]),
    ("default", "Deployment", SERVER + "securityContext.privileged", True),
    ("default", "Deployment", SERVER + "securityContext.procMount", "Unmasked"),
    ("default", "Pod", "spec.containers.0.securityContext.allowPrivilegeEscalation", REMOVED),
)
def containers_are_unprivileged(documents):
    for kind, container in containers(documents):
        context = container["securityContext"]
        if context.get("allowPrivilegeEscalation") is not False:
            yield f"{kind} may gain privileges"
        if context.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{kind} has capabilities"
        if context.get("privileged") or "procMount" in context:
            yield f"{kind} is privileged"


@rule(
    ("default", "Deployment", POD + "securityContext.seccompProfile.type", "Unconfined"),
    ("default", "Pod", "spec.securityContext.seccompProfile", REMOVED),
)
def seccomp_is_enabled(documents):
    for kind, _, spec in pods(documents):
        if spec["securityContext"].get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{kind} has no seccomp profile"


@rule(
    ("default", "Deployment", SERVER + "securityContext.readOnlyRootFilesystem", REMOVED),
    ("default", "Pod", "spec.containers.0.securityContext.readOnlyRootFilesystem", False),
)
def the_root_file_system_is_read_only(documents):
    for kind, container in containers(documents):
        if container["securityContext"].get("readOnlyRootFilesystem") is not True:
            yield f"{kind} has a writable root file system"


@rule(
    ("default", "Deployment", POD + "hostNetwork", True),
    ("default", "Deployment", POD + "volumes", [{"name": "host", "hostPath": {"path": "/"}}]),
    ("default", "Deployment", SERVER + "ports.0.hostPort", 3000),
)
def the_host_is_isolated(documents):
    for kind, _, spec in pods(documents):
        if spec.get("hostNetwork") or spec.get("hostPID") or spec.get("hostIPC"):
            yield f"{kind} shares namespaces with its node"
        if any("hostPath" in volume for volume in spec.get("volumes", [])):
            yield f"{kind} mounts a directory of its node"
        if any(
            "hostPort" in port
            for container in spec["containers"]
            for port in container.get("ports", [])
        ):
            yield f"{kind} uses a host port"


@rule(
    ("default", "Deployment", POD + "automountServiceAccountToken", REMOVED),
    ("default", "ServiceAccount", "automountServiceAccountToken", True),
    ("default", "Pod", "spec.automountServiceAccountToken", True),
)
def no_service_account_token_is_mounted(documents):
    for kind, _, spec in pods(documents):
        if spec.get("automountServiceAccountToken") is not False:
            yield f"{kind} has a token"
    for document in of_kind(documents, "ServiceAccount"):
        if document.get("automountServiceAccountToken") is not False:
            yield "ServiceAccount has a token"


# Resources and images.


@rule(
    ("default", "Deployment", SERVER + "resources.limits.memory", REMOVED),
    ("default", "Deployment", SERVER + "resources.requests.cpu", REMOVED),
    ("default", "Pod", "spec.containers.0.resources.limits", REMOVED),
)
def resources_are_bounded(documents):
    for kind, container in containers(documents):
        for bound in ("requests", "limits"):
            for resource in ("cpu", "memory"):
                if resource not in container.get("resources", {}).get(bound, {}):
                    yield f"{kind} has no {resource} among its {bound}"


@rule(
    ("default", "Deployment", SERVER + "resources.limits.memory", "256Mi"),
    (
        "default",
        "Deployment",
        SERVER + "env",
        [{"name": "FIBSRV_MAX_CONNECTIONS", "value": "4000"}],
    ),
    (
        "default",
        "Deployment",
        SERVER + "env",
        [{"name": "FIBSRV_MAX_CONNECTIONS", "value": "3000"}, {"name": "FIBSRV_MAX_N", "value": "100000000"}],
    ),
)
def the_memory_limit_covers_the_worst_case(documents):
    """100 KiB per connection, table, cache, computation, and 16 MiB overhead, as in values.yaml."""
    known = variables(documents)
    limits = server(documents)["containers"][0]["resources"]["limits"]
    workers = known.get("FIBSRV_WORKERS", "1")
    workers = int(limits["cpu"]) if workers == "auto" else int(workers)
    connections = int(known.get("FIBSRV_MAX_CONNECTIONS", "100000")) * 100 * 1024
    computation = int(known.get("FIBSRV_MAX_N", "10000000")) * 5
    each = connections + size(known.get("FIBSRV_CACHE_SIZE", "64MiB")) + computation
    table = (
        int(known.get("FIBSRV_TABLE_MAX_N", "10000")) ** 2 // 9
    )  # digits of F(0) to F(n): 0.209 n for F(n)
    if workers * each + table + 16 * 2**20 > size(limits["memory"]):
        yield "the memory limit can be exceeded"


@rule(
    ("default", "Deployment", SERVER + "image", "fibsrv"),
    ("default", "Deployment", SERVER + "image", "fibsrv:latest"),
    ("image", "Pod", "spec.containers.0.image", "fibsrv:0.2.0"),
)
def all_containers_use_one_pinned_image(documents):
    images = {container["image"] for _, container in containers(documents)}
    if len(images) != 1:
        yield f"images differ: {images}"
    for image in images:
        if not re.search(r"(:[^/:]+|@sha256:[0-9a-f]{64})$", image) or image.endswith(":latest"):
            yield f"{image} is not pinned"


@rule(("default", "Deployment", POD + "enableServiceLinks", REMOVED))
def service_links_are_disabled(documents):
    if server(documents).get("enableServiceLinks") is not False:
        yield "a service name may set one of the server's flags"


@rule(("default", "Deployment", SERVER + "env", [{"name": "FIBSRV_MAX_N", "value": "1e+07"}]))
def numbers_have_no_exponent(documents):
    for name, value in variables(documents).items():
        if re.fullmatch(r"[0-9.]+e\+?[0-9]+", value or ""):
            yield f"{name} is {value}"


# Zero-downtime operation.


@rule(
    ("default", "Deployment", SERVER + "livenessProbe.httpGet.path", "/readyz"),
    ("default", "Deployment", SERVER + "readinessProbe.httpGet.path", "/healthz"),
    ("default", "Deployment", SERVER + "startupProbe", REMOVED),
    ("default", "Deployment", SERVER + "readinessProbe.httpGet.port", "http"),
    ("default", "Deployment", SERVER + "env.0.value", "[::]:3001"),
)
def probes_use_the_right_paths(documents):
    container = server(documents)["containers"][0]
    paths = {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    for probe, path in paths.items():
        if container.get(probe, {}).get("httpGet") != {"path": path, "port": "admin"}:
            yield f"{probe} does not use {path}"
    if [port["name"] for port in container["ports"]] != ["http", "admin"]:
        yield "the port name differs from the probes' port"
    if variables(documents).get("FIBSRV_ADMIN_LISTEN") != f"[::]:{container['ports'][1]['containerPort']}":
        yield "the server does not listen on the admin port"


@rule(
    ("default", "Deployment", POD + "terminationGracePeriodSeconds", 30),
    ("default", "Deployment", POD + "terminationGracePeriodSeconds", REMOVED),
    ("config", "Deployment", POD + "terminationGracePeriodSeconds", 75),
)
def the_termination_grace_period_covers_draining(documents):
    known = variables(documents)
    longest = seconds(known["FIBSRV_DRAIN_DELAY"]) + seconds(known["FIBSRV_DRAIN_TIMEOUT"])
    if not server(documents).get("terminationGracePeriodSeconds", 30) > longest:
        yield f"killed during draining, which takes up to {longest} s"


@rule(
    ("default", "Deployment", SERVER + "readinessProbe.periodSeconds", 5),
    ("default", "Deployment", SERVER + "readinessProbe.failureThreshold", REMOVED),
)
def readiness_fails_within_the_drain_delay(documents):
    probe = server(documents)["containers"][0]["readinessProbe"]
    noticed = probe.get("periodSeconds", 10) * probe.get("failureThreshold", 3)
    if noticed > seconds(variables(documents)["FIBSRV_DRAIN_DELAY"]):
        yield f"readiness fails only after {noticed} s, when the pod no longer accepts"


@rule(
    ("default", "Deployment", "spec.strategy.rollingUpdate.maxUnavailable", 1),
    ("default", "Deployment", "spec.strategy.rollingUpdate.maxSurge", 0),
    ("default", "Deployment", "spec.strategy", {"type": "Recreate"}),
)
def an_update_keeps_all_replicas(documents):
    strategy = only(documents, "Deployment")["spec"]["strategy"]
    update = strategy.get("rollingUpdate", {})
    if (
        strategy["type"] != "RollingUpdate"
        or update.get("maxUnavailable") != 0
        or update.get("maxSurge") in (0, "0%", None)
    ):
        yield f"unsafe update strategy {strategy}"


@rule(
    ("autoscaling", "Deployment", "spec.replicas", 3),
    ("default", "Deployment", "spec.replicas", REMOVED),
    ("autoscaling", "HorizontalPodAutoscaler", "spec.scaleTargetRef.name", "another"),
)
def replicas_have_one_owner(documents):
    deployment = only(documents, "Deployment")
    scalers = of_kind(documents, "HorizontalPodAutoscaler")
    if bool(scalers) == ("replicas" in deployment["spec"]):
        yield "replicas are set by both or none of Deployment and HorizontalPodAutoscaler"
    for scaler in scalers:
        if scaler["spec"]["scaleTargetRef"]["name"] != deployment["metadata"]["name"]:
            yield "HorizontalPodAutoscaler targets another Deployment"


@rule(
    ("default", "Deployment", "spec.minReadySeconds", 0),
    ("default", "Deployment", "spec.progressDeadlineSeconds", REMOVED),
    ("default", "Deployment", "spec.progressDeadlineSeconds", 10),
)
def an_update_notices_bad_pods(documents):
    """A pod that becomes unready shortly after its start stops the update, which is then reported as failed."""
    spec = only(documents, "Deployment")["spec"]
    container = server(documents)["containers"][0]
    probe = container["readinessProbe"]
    if spec["minReadySeconds"] < probe["periodSeconds"] * probe["failureThreshold"]:
        yield "an update continues before readiness can fail"
    start = container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"]
    if spec["progressDeadlineSeconds"] <= start + spec["minReadySeconds"]:
        yield "an update fails before a pod had its time to start"


@rule(
    ("default", "PodDisruptionBudget", "spec.maxUnavailable", 0),
    ("single", "PodDisruptionBudget", "spec.minAvailable", 1),
    ("default", "PodDisruptionBudget", "spec.unhealthyPodEvictionPolicy", "IfHealthyBudget"),
)
def a_node_can_be_drained(documents):
    for budget in of_kind(documents, "PodDisruptionBudget"):
        if "minAvailable" in budget["spec"] or budget["spec"].get("maxUnavailable") in (
            0,
            "0%",
            None,
        ):
            yield "PodDisruptionBudget blocks node drains"
        if budget["spec"].get("unhealthyPodEvictionPolicy", "AlwaysAllow") != "AlwaysAllow":
            yield "PodDisruptionBudget protects pods that are not ready"


# Selectors and references.


@rule(
    ("default", "Service", "spec.selector", {"app.kubernetes.io/instance": "release"}),
    ("default", "Service", "spec.selector", {}),
    ("default", "Deployment", "spec.template.metadata.labels", {}),
    (
        "default",
        "PodDisruptionBudget",
        "spec.selector.matchLabels",
        {"app.kubernetes.io/name": "another"},
    ),
    ("network", "NetworkPolicy", "spec.podSelector", {}),
    (
        "default",
        "Deployment",
        POD + "topologySpreadConstraints.0.labelSelector.matchLabels",
        {"a": "b"},
    ),
    ("monitoring", "ServiceMonitor", "spec.selector.matchLabels", {"a": "b"}),
    ("monitoring", "ServiceMonitor", "spec.endpoints.0.port", "http"),
    ("default", "AdminService", "spec.selector", {"a": "b"}),
    ("monitoring", "ServiceMonitor", "spec.endpoints.0.relabelings", []),
)
def selectors_match_the_servers_only(documents):
    labels = {kind: labels for kind, labels, _ in pods(documents)}
    selectors = [("Deployment", only(documents, "Deployment")["spec"]["selector"]["matchLabels"])]
    for kind in ("Service", "AdminService"):
        selectors.append((kind, only(documents, kind)["spec"]["selector"]))
    for budget in of_kind(documents, "PodDisruptionBudget"):
        selectors.append(("PodDisruptionBudget", budget["spec"]["selector"]["matchLabels"]))
    for policy in of_kind(documents, "NetworkPolicy"):
        selectors.append(("NetworkPolicy", policy["spec"]["podSelector"].get("matchLabels")))
    for spread in server(documents).get("topologySpreadConstraints", []):
        selectors.append(("topology spread", spread["labelSelector"]["matchLabels"]))
    for name, selector in selectors:
        if not matches(selector, labels["Deployment"]):
            yield f"{name} does not select the servers"
        if matches(selector, labels["Pod"]):
            yield f"{name} selects the helm test pod"
    service = only(documents, "AdminService")
    for monitor in of_kind(documents, "ServiceMonitor"):
        if not matches(monitor["spec"]["selector"]["matchLabels"], service["metadata"]["labels"]):
            yield "ServiceMonitor does not select the Service"
        if [endpoint["port"] for endpoint in monitor["spec"]["endpoints"]] != [
            service["spec"]["ports"][0]["name"]
        ]:
            yield "ServiceMonitor scrapes another port"
        labels = {rule["targetLabel"]: rule["replacement"] for rule in monitor["spec"]["endpoints"][0]["relabelings"]}
        if labels != {"job": "fibsrv", "release": "release"}:
            yield "ServiceMonitor does not set the labels that the rules select"


@rule(
    ("ingress", "Ingress", "spec.rules.0.http.paths.0.backend.service.name", "another"),
    ("ingress", "Ingress", "spec.rules.0.http.paths.0.backend.service.port", {"name": "web"}),
    ("httproute", "HTTPRoute", "spec.rules.0.backendRefs.0.port", 3000),
    ("default", "Service", "spec.ports.0.targetPort", "web"),
    ("ingress", "Service", "metadata.name", "another"),
    ("default", "AdminService", "metadata.name", "another-admin"),
    ("default", "AdminService", "spec.ports.0.targetPort", "http"),
    ("network", "AdminService", "spec.type", "LoadBalancer"),
    (
        "network",
        "Pod",
        "spec.containers.0.args",
        ["health", "[$(ANOTHER_SERVICE_HOST)]:9464"],
    ),
    (
        "network",
        "Pod",
        "spec.containers.0.args",
        ["health", "$(RELEASE_FIBSRV_ADMIN_SERVICE_HOST):9464"],
    ),
)
def references_lead_to_the_service(documents):
    service = only(documents, "Service")
    name, port = service["metadata"]["name"], service["spec"]["ports"][0]
    if port["targetPort"] != server(documents)["containers"][0]["ports"][0]["name"]:
        yield "Service targets another port"
    for ingress in of_kind(documents, "Ingress"):
        for path in [path for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]]:
            if path["backend"]["service"] != {"name": name, "port": {"name": port["name"]}}:
                yield "Ingress routes to another service"
    for route in of_kind(documents, "HTTPRoute"):
        for entry in route["spec"]["rules"]:
            if entry["backendRefs"] != [{"name": name, "port": port["port"]}]:
                yield "HTTPRoute routes to another service"
    admin = only(documents, "AdminService")
    if admin["spec"]["type"] != "ClusterIP":
        yield "metrics are public"
    if admin["spec"]["ports"][0]["targetPort"] != server(documents)["containers"][0]["ports"][1]["name"]:
        yield "the Service of metrics targets another port"
    host = "$(%s_SERVICE_HOST)" % admin["metadata"]["name"].upper().replace("-", "_")
    if admin["spec"].get("ipFamilies", ["IPv4"])[0] == "IPv6":
        host = f"[{host}]"
    if only(documents, "Pod")["spec"]["containers"][0]["args"] != [
        "health",
        f"{host}:{admin['spec']['ports'][0]['port']}",
    ]:
        yield "helm test uses another service"


@rule(
    ("monitoring", "PrometheusRule", "spec.groups.0.rules.0.expr", 'up{job="fibsrv"}'),
    ("monitoring", "PrometheusRule", "spec.groups.0.rules.0.expr", "fibsrv_connections > 1"),
    ("monitoring", "PrometheusRule", "spec.groups.0.rules.0.annotations.runbook_url", "docs/runbooks.md#a"),
)
def rules_concern_this_release_only(documents):
    for document in of_kind(documents, "PrometheusRule"):
        for group in document["spec"]["groups"]:
            for entry in group["rules"]:
                selectors = re.findall(r"\{([^}]*)\}", entry["expr"])
                if not selectors or not all('namespace="numbers"' in selector for selector in selectors):
                    yield f"{entry.get('alert') or entry['record']} selects other releases"
                url = entry.get("annotations", {}).get("runbook_url", "https://")
                if not url.startswith("https://"):
                    yield f"{entry['alert']} has a relative runbook_url"


@rule(
    ("ingress", "Ingress", "spec.rules.0.http.paths.0.path", "/"),
    ("ingress", "Ingress", "spec.rules.0.http.paths.0.path", "/metrics"),
    ("httproute", "HTTPRoute", "spec.rules.0.matches.0.path.value", "/"),
    ("httproute", "HTTPRoute", "spec.rules.0.matches", []),
)
def metrics_and_health_are_not_public(documents):
    paths = []
    for ingress in of_kind(documents, "Ingress"):
        paths += [
            path["path"] for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]
        ]
    for route in of_kind(documents, "HTTPRoute"):
        for entry in route["spec"]["rules"]:
            paths += [match["path"]["value"] for match in entry["matches"]] or ["/"]
    for path in paths:
        if any(closed.startswith(path) for closed in ("/metrics", "/healthz", "/readyz")):
            yield f"{path} is public"


@rule(
    ("network", "NetworkPolicy", "spec.policyTypes", ["Ingress"]),
    ("network", "NetworkPolicy", "spec.egress", [{}]),
    ("network", "NetworkPolicy", "spec.ingress", [{}]),
    ("network", "NetworkPolicy", "spec.ingress.1.from.1", REMOVED),
    ("network", "NetworkPolicy", "spec.ingress.1", REMOVED),
    ("network", "NetworkPolicy", "spec.ingress.0.ports.0.port", "admin"),
)
def the_network_policy_allows_only_the_ports(documents):
    for policy in of_kind(documents, "NetworkPolicy"):
        spec = policy["spec"]
        if spec["policyTypes"] != ["Ingress", "Egress"] or spec["egress"]:
            yield "the server may open connections"
        if [entry.get("ports") for entry in spec["ingress"]] != [
            [{"port": "http", "protocol": "TCP"}], [{"port": "admin", "protocol": "TCP"}]
        ]:
            yield "other ports are open"
        client = only(documents, "Pod")["metadata"]["labels"]
        allowed = spec["ingress"][1].get("from")
        if allowed and not any(
            matches(peer.get("podSelector", {}).get("matchLabels"), client) for peer in allowed
        ):
            yield "helm test is blocked"


@rule(
    ("ingress", "Ingress", "spec.tls", REMOVED),
    ("ingress", "Ingress", "spec.tls.0.hosts", ["fib.example.org"]),
    ("httproute", "Certificate", "spec.dnsNames", ["another.example.org"]),
    ("ingress", "Ingress", "metadata.annotations", {}),
)
def certificates_cover_the_names(documents):
    certificates = of_kind(documents, "Certificate")
    names = []
    for route in of_kind(documents, "HTTPRoute"):
        names += route["spec"].get("hostnames", [])
    for ingress in of_kind(documents, "Ingress"):
        hosts = [rule["host"] for rule in ingress["spec"]["rules"]]
        names += hosts
        covered = [host for entry in ingress["spec"].get("tls", []) for host in entry["hosts"]]
        if covered != hosts:
            yield "Ingress has hosts without a certificate"
        secrets = {entry["secretName"] for entry in ingress["spec"].get("tls", [])}
        made = {certificate["spec"]["secretName"] for certificate in certificates}
        annotated = any(
            key.startswith("cert-manager.io/") for key in ingress["metadata"].get("annotations", {})
        )
        existing = any(not secret.endswith("-tls") for secret in secrets)
        if not (annotated or existing or secrets <= made):
            yield "no issuer creates the certificate of Ingress"
    for certificate in certificates:
        if set(certificate["spec"]["dnsNames"]) != set(names):
            yield "Certificate has other names"


@rule(
    ("default", "Service", "metadata.labels", {}),
    ("default", "Service", "kind", "ServiceAccount"),
)
def resources_have_labels_and_unique_names(documents):
    wanted = (
        "app.kubernetes.io/name",
        "app.kubernetes.io/instance",
        "app.kubernetes.io/managed-by",
        "helm.sh/chart",
    )
    for document in documents:
        missing = [label for label in wanted if label not in document["metadata"]["labels"]]
        if missing:
            yield f"{document['kind']} lacks {missing}"
    names = [(document["kind"], document["metadata"]["name"]) for document in documents]
    if len(names) != len(set(names)):
        yield "two resources of a kind have the same name"


@rule(
    ("default", "Pod", "spec.restartPolicy", "Always"),
    ("default", "Pod", "spec.activeDeadlineSeconds", REMOVED),
    ("default", "Pod", "metadata.annotations", {}),
)
def the_helm_test_pod_terminates(documents):
    pod = only(documents, "Pod")
    if pod["metadata"].get("annotations", {}).get("helm.sh/hook") != "test":
        yield "the helm test pod has no test hook"
    if pod["spec"].get("restartPolicy") != "Never" or not pod["spec"].get("activeDeadlineSeconds"):
        yield "the helm test pod may run indefinitely"


def changed(documents, kind, path, value):
    """Returns a copy of the documents with one field changed."""
    documents = copy.deepcopy(documents)
    place = only(documents, kind)
    *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    for key in parents:
        place = place[key]
    if value is REMOVED:
        del place[last]
    else:
        place[last] = value
    return documents


def findings_of(check, documents):
    """Returns the findings of a rule; an exception about a missing field is a finding too."""
    try:
        return list(check(documents))
    except (AssertionError, KeyError, IndexError, TypeError) as error:
        return [f"{type(error).__name__}: {error}"]


found = []
for version, name, documents in helm_manifests.files():
    for check, _ in RULES:
        found += [
            f"{name} for {version}: {check.__name__}: {finding}"
            for finding in findings_of(check, documents)
        ]

releases = helm_manifests.newest()
count = 0
for check, violations in RULES:
    for name, kind, path, value in violations:
        count += 1
        if not findings_of(check, changed(releases[name], kind, path, value)):
            found.append(f"{check.__name__} does not detect a changed {path} of {kind} in {name}")

if found:
    sys.exit("\n".join(found))
print(f"helm: {len(RULES)} policy rules hold, and detect each of {count} violations")
