#!/usr/bin/env bash
# A single-node cluster, as the first process of new namespaces: when it exits, its processes, mounts and network disappear.
# Arguments: work directory, directory of the Kubernetes programs, cgroup.
set -euo pipefail
work=$1 programs=$2 cgroup=$3
here=$(dirname "$0")
address=192.0.2.1 # reserved for documentation (RFC 5737)
services=198.51.100.0/24
pods=203.0.113.0/24
mkdir -p "$work"/{pki,log,cni,kubelet,run}

start() {
    local name=$1
    shift
    "$@" >"$work/log/$name" 2>&1 &
}

# await SECONDS WHAT COMMAND...
await() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || { echo "node: timeout: $what" >&2; exit 1; }
        sleep 0.2
    done
}

# Shared mount propagation within the namespace only.
mount --make-rshared /
mkdir -p /run/netns /run/containerd
mount -t tmpfs none /run/netns
mount -t tmpfs none /run/containerd
# The kubelet sets these global sysctls; bind-mounted files protect the host.
for setting in vm/overcommit_memory kernel/panic kernel/panic_on_oops; do
    cp "/proc/sys/$setting" "$work/run/$(basename "$setting")"
    mount --bind "$work/run/$(basename "$setting")" "/proc/sys/$setting"
done

# A veth pair for the node's address, as the API server rejects loopback addresses.
ip link set lo up
ip link add node0 type veth peer name node1
ip address add "$address/24" dev node0
ip link set node0 up
ip link set node1 up
ip route add "$services" dev node0 # kube-proxy redirects it
sysctl -qw net.ipv4.ip_forward=1

# One CA, one server certificate, and one client certificate with administrator rights.
certificate() {
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$1.csr" -subj "$2" 2>/dev/null
    openssl x509 -req -in "$1.csr" -CA authority.crt -CAkey authority.key -CAcreateserial -days 2 -out "$1.crt" \
        -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$3") 2>/dev/null
}
cd "$work/pki"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout authority.key -out authority.crt -days 2 \
    -subj /CN=authority 2>/dev/null
certificate server /CN=server "IP:127.0.0.1,IP:$address,IP:${services%.*}.1,DNS:kubernetes.default.svc"
certificate admin /O=system:masters/CN=admin DNS:admin
certificate front /CN=front DNS:front
openssl genrsa -out accounts.key 2048 2>/dev/null
cat >"$work/kubeconfig" <<YAML
apiVersion: v1
kind: Config
current-context: node
contexts: [{name: node, context: {cluster: node, user: admin}}]
clusters:
  - name: node
    cluster: {server: "https://127.0.0.1:6443", certificate-authority: "$work/pki/authority.crt"}
users:
  - name: admin
    user: {client-certificate: "$work/pki/admin.crt", client-key: "$work/pki/admin.key"}
YAML
cd - >/dev/null
api() { curl -fsS --cacert "$work/pki/authority.crt" --cert "$work/pki/admin.crt" --key "$work/pki/admin.key" "$@"; }

start etcd etcd --data-dir "$work/etcd" --listen-client-urls http://127.0.0.1:2379 \
    --advertise-client-urls http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380
await 30 etcd curl -fsS http://127.0.0.1:2379/health

start apiserver "$programs/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 --advertise-address="$address" \
    --secure-port=6443 --tls-cert-file="$work/pki/server.crt" --tls-private-key-file="$work/pki/server.key" \
    --client-ca-file="$work/pki/authority.crt" --cert-dir="$work/pki" --authorization-mode=RBAC \
    --service-cluster-ip-range="$services" --service-account-issuer=https://kubernetes.default.svc \
    --service-account-key-file="$work/pki/accounts.key" --service-account-signing-key-file="$work/pki/accounts.key" \
    --kubelet-client-certificate="$work/pki/admin.crt" --kubelet-client-key="$work/pki/admin.key" \
    --requestheader-client-ca-file="$work/pki/authority.crt" --requestheader-allowed-names=front \
    --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
    --requestheader-extra-headers-prefix=X-Remote-Extra- \
    --proxy-client-cert-file="$work/pki/front.crt" --proxy-client-key-file="$work/pki/front.key"
await 120 "API server" api https://127.0.0.1:6443/readyz

# Autoscaler: 2 s sync period, and 10 s instead of 5 minutes of downscale stabilization.
start controllers "$programs/kube-controller-manager" --kubeconfig="$work/kubeconfig" --leader-elect=false \
    --service-account-private-key-file="$work/pki/accounts.key" --root-ca-file="$work/pki/authority.crt" \
    --port=0 --cert-dir="$work/pki" --horizontal-pod-autoscaler-sync-period=2s \
    --horizontal-pod-autoscaler-downscale-stabilization=10s \
    --horizontal-pod-autoscaler-cpu-initialization-period=5s --horizontal-pod-autoscaler-initial-readiness-delay=1s
start scheduler "$programs/kube-scheduler" --kubeconfig="$work/kubeconfig" --leader-elect=false --port=0 \
    --cert-dir="$work/pki"

cat >"$work/proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: "$work/kubeconfig"}
hostnameOverride: node
mode: iptables
clusterCIDR: $pods
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
YAML
start proxy "$programs/kube-proxy" --config="$work/proxy.yaml"

# Point-to-point links, so that all pod traffic passes the node's iptables.
cat >"$work/cni/pods.conflist" <<JSON
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "ptp", "ipam": {"type": "host-local", "subnet": "$pods", "dataDir": "$work/run/addresses",
   "routes": [{"dst": "0.0.0.0/0"}]}}]}
JSON
# restrict_oom_score_adj, as the container may not lower OOM scores.
cat >"$work/containerd.toml" <<TOML
version = 2
root = "$work/containerd/root"
state = "$work/containerd/state"
[grpc]
  address = "$work/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "$work/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "fibsrv.test/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$work/cni"
TOML
start containerd containerd --config "$work/containerd.toml"
await 60 containerd ctr --address "$work/containerd.sock" version
for image in "$work"/*.tar; do
    ctr --address "$work/containerd.sock" --namespace k8s.io images import "$image" >"$work/log/import" 2>&1
done

# cgroup v2, or v1 with one hierarchy per controller.
if [ -e /sys/fs/cgroup/cgroup.procs ]; then trees=(/sys/fs/cgroup); else trees=(/sys/fs/cgroup/*/); fi
for tree in "${trees[@]}"; do
    [ ! -e "$tree/cgroup.procs" ] || mkdir -p "$tree/$cgroup"
done
cat >"$work/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
cgroupRoot: /$cgroup
enforceNodeAllocatable: []
clusterDNS: ["${services%.*}.10"] # no DNS server: unused
failSwapOn: false
syncFrequency: 5s
readOnlyPort: 10255
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {memory.available: 1%}
YAML
start kubelet "$programs/kubelet" --kubeconfig="$work/kubeconfig" --config="$work/kubelet.yaml" \
    --container-runtime=remote --container-runtime-endpoint="unix://$work/containerd.sock" \
    --root-dir="$work/kubelet" --cert-dir="$work/pki" --hostname-override=node --node-ip="$address" \
    --housekeeping-interval=2s

start metrics python3 "$here/metrics_api.py" "$address" 4443 "$work/pki/server.crt" "$work/pki/server.key" \
    https://127.0.0.1:6443 "$work/pki/authority.crt" "$work/pki/admin.crt" "$work/pki/admin.key"

touch "$work/started"
# Runs until it is killed by the test.
while :; do wait -n || sleep 1; done
