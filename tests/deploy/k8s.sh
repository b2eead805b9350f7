#!/usr/bin/env bash
# Tests the chart under load in a real single-node cluster: install, restart, upgrade, eviction, autoscaling, uninstall.
#
# Everything runs in namespaces that disappear with the script. The first run builds Kubernetes, which takes many minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
source tests/deploy/tools.sh
source tests/deploy/k8s/build.sh

fail() { echo "k8s: $*" >&2; exit 1; }
say() { printf 'k8s: %5.1f s  %s\n' "$(bc <<<"$(date +%s.%N) - $began")" "$*"; }

[ "$(id -u)" = 0 ] || fail "needs root"
need python3=python3 pip=python3-pip curl=curl openssl=openssl bc=bc jq=jq pgrep=procps unshare=util-linux ip=iproute2 \
    iptables=iptables conntrack=conntrack etcd=etcd-server containerd=containerd runc=runc \
    /usr/lib/cni/ptp=containernetworking-plugins
helm_tools
kubernetes_programs

work=$(mktemp -d "${TMPDIR:-/tmp}/fibsrv-k8s.XXXXXX")
cgroup=$(basename "$work")
node='' loads=() files=()
end() {
    local status=$? pid
    trap - EXIT
    for pid in "${loads[@]}"; do kill "$pid" 2>/dev/null || true; done
    if [ "$status" != 0 ] && [ -n "$node" ]; then explain >&2 || true; fi
    # Killing the first process of the PID namespace kills all others.
    if [ -n "$node" ]; then
        kill -KILL "$node" 2>/dev/null || true
        wait "$node" 2>/dev/null || true
    fi
    # A cgroup can be removed after its last process has exited.
    for _ in $(seq 50); do
        find /sys/fs/cgroup -depth -type d -path "*/$cgroup*" -exec rmdir {} + 2>/dev/null || true
        [ -z "$(find /sys/fs/cgroup -maxdepth 2 -name "$cgroup")" ] && break
        sleep 0.1
    done
    rm -rf "$work" || true
    exit "$status"
}
trap end EXIT
trap 'exit 1' INT TERM

# Prints diagnostics after a failure.
explain() {
    echo "--- pods, events"
    kubectl -n numbers get pods -o wide
    kubectl -n numbers get events --sort-by=.lastTimestamp | tail -20
    kubectl -n numbers describe hpa | tail -15
    for log in "$work"/log/*; do
        echo "--- $(basename "$log")"
        grep -v -E '^[IW][0-9]{4}' "$log" | tail -5
    done
}

version=$(sed -n 's/^appVersion: "\(.*\)"/\1/p' deploy/helm/fibsrv/Chart.yaml)
server_image "$work/server.tar" "fibsrv.test/server:$version"
pause_image "$work/pause.tar" fibsrv.test/pause:1

began=$(date +%s.%N)
# The kernel kills the node if this script is killed.
setpriv --pdeathsig KILL unshare --fork --kill-child --pid --mount-proc --mount --net --ipc \
    tests/deploy/k8s/node.sh "$work" "$programs" "$cgroup" >"$work/node.log" 2>&1 &
unshare=$!
for _ in $(seq 50); do
    node=$(pgrep -P "$unshare" || true)
    [ -n "$node" ] && break
    sleep 0.1
done
[ -n "$node" ] || fail "$(cat "$work/node.log")"

# within SECONDS COMMAND...: runs the command in the node's network namespace.
within() { timeout --kill-after=5 "$1" nsenter --target "$node" --net "${@:2}"; }
kubectl() { within 60 kubectl --kubeconfig "$work/kubeconfig" "$@" 2> >(grep -v '^Warning: version difference' >&2); }
export HELM_CACHE_HOME=$work/helm HELM_CONFIG_HOME=$work/helm HELM_DATA_HOME=$work/helm
helm() {
    within 180 helm --kubeconfig "$work/kubeconfig" --namespace numbers "$@" >"$work/log/helm" 2>&1 || {
        cat "$work/log/helm" >&2
        fail "helm $1"
    }
}

# await SECONDS WHAT COMMAND...: until the command succeeds.
await() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || fail "timeout: $what"
        kill -0 "$node" 2>/dev/null || fail "the node exited: $(cat "$work/node.log")"
        sleep 0.3
    done
}
pods() { kubectl -n numbers get pods -l app.kubernetes.io/component=server -o name | sed 's/^pod.//'; }
pods_are() { [ "$(pods | wc -l)" = "$1" ]; }
ready() { kubectl -n numbers get deployment fibsrv -o 'jsonpath={.status.readyReplicas}'; }
ready_are() { [ "$(ready)" = "$1" ]; }
at_least_ready() { [ "$(ready)" -ge "$1" ]; }

await 180 node test -e "$work/started"
await 60 "ready node" kubectl wait --for=condition=Ready node/node --timeout=1s
say "node is ready"

kubectl create namespace numbers >/dev/null
kubectl apply -f - >/dev/null <<'YAML'
apiVersion: v1
kind: Service
metadata: {name: metrics, namespace: kube-system}
spec: {ports: [{port: 443, targetPort: 4443}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: metrics, namespace: kube-system}
subsets: [{addresses: [{ip: 192.0.2.1}], ports: [{port: 4443}]}]
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1beta1.metrics.k8s.io}
spec:
  group: metrics.k8s.io
  version: v1beta1
  groupPriorityMinimum: 100
  versionPriority: 100
  insecureSkipTLSVerify: true
  service: {name: metrics, namespace: kube-system}
YAML
await 60 "metrics API" kubectl get --raw /apis/metrics.k8s.io/v1beta1/namespaces/numbers/pods

settings=(--values tests/deploy/k8s/values.yaml)
helm install fibsrv deploy/helm/fibsrv "${settings[@]}" --set "ingress.enabled=true,ingress.hosts={fib.example.org}" \
    --set networkPolicy.enabled=true --wait --timeout 120s
address=$(kubectl -n numbers get service fibsrv -o 'jsonpath={.spec.clusterIP}')
[ "$(within 10 curl -fsS "http://$address/api/fibonacci/20")" = 6765 ] || fail "F(20)"
say "installed; F(20) is 6765"

if "$work/fibsrv" health --help >/dev/null 2>&1 || [ -n "${K8S_IMAGE:-}" ]; then
    helm test fibsrv --timeout 60s
    say "helm test passes"
else
    say "SKIPPED: helm test, as this image has no 'health' command"
fi

# load NAME KEEPALIVE FRESH RATE FIRST LAST: starts clients, which stop after at most 5 minutes.
load() {
    nsenter --target "$node" --net \
        python3 tests/deploy/k8s/load.py "$address" 80 "${@:2}" 300 >"$work/load.$1" 2>&1 &
    files[$!]=$work/load.$1
    loads+=($!)
}
# unload WHAT PID: stops clients and fails if they lost a request.
unload() {
    local result
    kill -TERM "$2"
    wait "$2" || fail "the load: $(cat "${files[$2]}")"
    result=$(cat "${files[$2]}")
    [ "$(jq .lost <<<"$result")" = 0 ] || fail "$1: $result"
    [ "$(jq .answered <<<"$result")" -ge 500 ] || fail "$1: too little load: $result"
    say "$1: $result"
}

load restart 10 10 20 1 3000
sleep 2
kubectl -n numbers rollout restart deployment/fibsrv >/dev/null
kubectl -n numbers rollout status deployment/fibsrv --timeout=50s >/dev/null || fail "the rollout did not complete"
await 60 "termination of the old pods" pods_are 2
unload restart "${loads[-1]}"

load upgrade 10 10 20 1 3000
sleep 2
helm upgrade fibsrv deploy/helm/fibsrv "${settings[@]}" --set config.logLevel=debug --wait --timeout 120s
await 60 "termination of the old pods" pods_are 2
helm rollback fibsrv 1 --wait --timeout 120s
await 60 "termination of the old pods" pods_are 2
unload "upgrade and rollback" "${loads[-1]}"

# The PodDisruptionBudget allows one eviction at a time.
evict() {
    kubectl create --raw "/api/v1/namespaces/numbers/pods/$1/eviction" -f - <<JSON
{"apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": {"name": "$1", "namespace": "numbers"}}
JSON
}
may_evict() { [ "$(kubectl -n numbers get pdb fibsrv -o 'jsonpath={.status.disruptionsAllowed}')" = 1 ]; }
await 30 "an allowed disruption" may_evict
load eviction 10 10 20 1 3000
mapfile -t names < <(pods)
evict "${names[0]}" >/dev/null || fail "a pod cannot be evicted"
evict "${names[1]}" >"$work/log/evict" 2>&1 && fail "both pods were evicted"
await 60 "second pod" ready_are 2
await 60 "termination of the old pod" pods_are 2
unload "eviction of one of two pods, the second rejected" "${loads[-1]}"

# A constant low load detects losses when pods terminate; a high load triggers scaling.
load autoscaler 5 5 5 1 3000
few=${loads[-1]}
helm upgrade fibsrv deploy/helm/fibsrv "${settings[@]}" --set autoscaling.enabled=true --wait --timeout 120s
scales() {
    kubectl get --raw /apis/autoscaling/v2beta2/namespaces/numbers/horizontalpodautoscalers/fibsrv |
        jq -e '.status.conditions[] | select(.type == "ScalingActive") | .status == "True"'
}
await 60 "autoscaler with metrics" scales
await 60 "two pods" ready_are 2
up=$SECONDS
load many 20 20 20 300000 350000
many=${loads[-1]}
await 120 "more pods under load" at_least_ready 4
up=$((SECONDS - up))
say "autoscaler: 2 to $(ready) pods in $up s"
unload many "$many"
down=$SECONDS
await 150 "fewer pods without load" pods_are 2
down=$((SECONDS - down))
say "autoscaler: back to 2 pods in $down s"
unload autoscaler "$few"

helm uninstall fibsrv --wait --timeout 120s
kinds=deploy,rs,pods,svc,endpoints,sa,hpa,pdb,ingress,networkpolicy
gone() { [ -z "$(kubectl -n numbers get "$kinds" -o name -l app.kubernetes.io/instance=fibsrv)" ]; }
await 60 "removal of all resources" gone
say "uninstalled; no resources are left"
echo "k8s: passed"
