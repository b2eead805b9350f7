#!/usr/bin/env bash
# Tests the chart without a cluster: lint, rendering with each file of ci/, schemas, policy, rejected values.
set -euo pipefail
cd "$(dirname "$0")/../.."
source tests/deploy/tools.sh

fail() { echo "helm: $*" >&2; exit 1; }

tests/deploy/tools_test.sh

need python3=python3 pip=python3-pip node=nodejs npm=npm
helm_tools
python_tools
model_tools
chart=deploy/helm/fibsrv
for linked in rules dashboards; do
    [ -d "$chart/files/$linked/" ] || fail "$chart/files/$linked is a dangling link"
done

files=$(mktemp -d)
trap 'rm -rf "$files"' EXIT
export HELM_CACHE_HOME=$files/helm HELM_CONFIG_HOME=$files/helm HELM_DATA_HOME=$files/helm

# quietly COMMAND...: writes stdout to a file, and shows output only on failure.
quietly() { "$@" >"$files/out" 2>"$files/stderr" || { cat "$files/out" "$files/stderr" >&2; fail "$*"; }; }

quietly helm lint --strict "$chart"
count=0
for values in "$chart"/ci/*.yaml; do
    quietly helm lint --strict "$chart" --values "$values"
    for version in 1.25.0 1.30.0 1.37.0; do
        mkdir -p "$files/rendered/$version"
        quietly helm template release "$chart" --namespace numbers --kube-version "$version" --values "$values"
        cp "$files/out" "$files/rendered/$version/$(basename "$values")"
        count=$((count + 1))
    done
done
echo "helm: linted, and rendered $count times"

python tests/deploy/helm_schemas.py "$files/rendered"
python tests/deploy/helm_manifests.py "$files/rendered" | node tests/deploy/helm_custom.mjs "$models"
python tests/deploy/helm_policy.py "$files/rendered"
python tests/deploy/helm_sources.py "$files/rendered"

# The kustomize base and its example: the same schemas, and the changes that the example names.
quietly deploy/kustomize/render --check
mkdir -p "$files/kustomize/1.37.0"
for directory in base example; do
    quietly kubectl kustomize "deploy/kustomize/$directory"
    cp "$files/out" "$files/kustomize/1.37.0/$directory.yaml"
done
python tests/deploy/helm_schemas.py "$files/kustomize"
for changed in 'namespace: numbers' 'replicas: 3' 'image: registry.example.org/fibsrv:' 'name: FIBSRV_MAX_N'; do
    grep -q -- "$changed" "$files/kustomize/1.37.0/example.yaml" || fail "the example of kustomize lacks '$changed'"
    grep -q -- "$changed" "$files/kustomize/1.37.0/base.yaml" && fail "the base of kustomize has '$changed'"
done
echo "helm: kustomize base and example are as rendered"

# The package contains the link targets and renders the same.
quietly helm package "$chart" --destination "$files"
helm template release "$files"/fibsrv-*.tgz --namespace numbers --kube-version 1.37.0 \
    --values "$chart/ci/monitoring-values.yaml" 2>/dev/null |
    cmp - "$files/rendered/1.37.0/monitoring-values.yaml" || fail "the package differs from the directory"
tar -tzf "$files"/fibsrv-*.tgz | grep -q '^fibsrv/ci/' && fail "the package contains the test values"

# Values that must be rejected, each with a word of the expected message.
count=0
while read -r word settings; do
    count=$((count + 1))
    # shellcheck disable=SC2086 # several settings are several words
    if helm template release "$chart" $settings >/dev/null 2>"$files/stderr"; then fail "not rejected: $settings"; fi
    grep -q -- "$word" "$files/stderr" || { cat "$files/stderr" >&2; fail "rejected without '$word': $settings"; }
done <<'REJECTED'
replicas --set replicas=3
replicaCount --set replicaCount=two
replicaCount --set replicaCount=-1
maxnn --set config.maxnn=3
idleTimeout --set config.idleTimeout=forever
cacheSize --set config.cacheSize=much
listen --set config.listen=[::]:80
delaySeconds --set drain.delaySeconds=5s
extraEnv --set extraEnv[0].name=FIBSRV_DRAIN_TIMEOUT
extraEnv --set extraEnv[0].name=FIBSRV_ADMIN_LISTEN
tag --set image.tag=latest
digest --set image.digest=sha256:12
maxUnavailable --set podDisruptionBudget.maxUnavailable=0
maxSurge --set maxSurge=0
publicPaths --set publicPaths={/}
publicPaths --set publicPaths={/metrics}
hosts --set ingress.enabled=true
hosts --set ingress.enabled=true,ingress.hosts={http://a}
parentRefs --set httpRoute.enabled=true
issuer --set certManager.enabled=true
certificate --set certManager.enabled=true,certManager.issuer.name=a,certManager.certificate=true
minReplicas --set autoscaling.enabled=true,autoscaling.minReplicas=5,autoscaling.maxReplicas=4
targetCPU --set autoscaling.enabled=true,autoscaling.targetCPUUtilizationPercentage=null
ipFamilies --set service.ipFamilies={IPv5}
workers --set workers=all
interval --set serviceMonitor.interval=often
memory --set workers=16
memory --set workers=auto,resources.limits.cpu=8
memory --set config.cacheSize=400MiB
memory --set config.maxConnections=null
memory --set config.tableMaxN=60000
memory --set resources.limits.memory=256Mi
extraVolumes --set extraVolumes[0].name=host,extraVolumes[0].hostPath.path=/
liveness --set probes.liveness.periodSeconds=0
runbookUrl --set prometheusRule.runbookUrl=runbooks.md
REJECTED
echo "helm: $count invalid values rejected"
