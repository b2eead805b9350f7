#!/usr/bin/env bash
# Tests the unmodified Dockerfile and compose file with a real Docker daemon: build, image checks, up, requests, scrape, stop,
# scale, down; and errors: port in use, invalid variable, unwritable log.
#
# If the registry cannot be reached, a substitute is built and used, with `fibsrv-test/` before its name and without the
# digest: the builder from the host's Rust toolchain, Prometheus and Alertmanager from Debian's packages. An image that
# the registry does not have fails the test. Grafana and cAdvisor have no substitute: only their configuration is checked.
# If no Docker daemon runs, the test starts one with its own data directory.
set -euo pipefail
cd "$(dirname "$0")/../.."
source tests/deploy/tools.sh

say() { printf 'docker: %5.1f s  %s\n' "$(bc <<<"($(date +%s%N) - $began) / 1000000000" -l)" "$*"; }
fail() { echo "docker: $*" >&2; exit 1; }
began=$(date +%s%N)

need bc=bc curl=curl python3=python3 pip=python3-pip dockerd=docker.io mmdebstrap=mmdebstrap iptables=iptables jq=jq
compose_tools
image_tools
# Debian's, whatever else may be called docker: a newer one wants a builder that is a plugin.
docker() { command /usr/bin/docker "$@"; }

work=$(mktemp -d)
daemon=''
project=fibsrv-test-$$
cleanup() {
    local status=$?
    set +e
    if [ "$status" -ne 0 ]; then
        docker ps --all --format '{{.Names}} {{.Status}}'
        compose logs --tail 20
        [ -z "$daemon" ] || tail -5 "$work/daemon.log"
    fi >&2
    compose down --volumes --timeout 5 >/dev/null 2>&1
    [ ! -s "$work/containers" ] || xargs docker rm --force --volumes <"$work/containers" >/dev/null 2>&1
    docker image rm --force "fibsrv:$version" fibsrv:latest >/dev/null 2>&1
    if [ -n "$daemon" ]; then
        kill "$daemon" && wait "$daemon" 2>/dev/null
        for mounted in $(awk -v under="$work" 'index($2, under) == 1 { print $2 }' /proc/mounts | sort -r); do
            umount "$mounted"
        done
        ip link delete fibsrv-test0 2>/dev/null
    else
        [ ! -s "$work/images" ] || xargs docker image rm --force <"$work/images" >/dev/null 2>&1
    fi
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
export FIBSRV_VERSION=$version FIBSRV_REVISION=0123456789ab
files=(--file docker-compose.yml)
compose() { docker compose --project-name "$project" --progress quiet "${files[@]}" "$@"; }

# await SECONDS WHAT COMMAND...: until it succeeds.
await() {
    local until=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [ "$SECONDS" -lt "$until" ] || fail "timeout: $what"
        sleep 0.2
    done
}

if ! docker info >/dev/null 2>&1; then
    # Own directories, bridge and addresses, to avoid conflicts with other daemons.
    ip link add fibsrv-test0 type bridge
    ip address add 172.31.254.1/24 dev fibsrv-test0
    ip link set fibsrv-test0 up
    export DOCKER_HOST=unix://$work/daemon.sock
    dockerd --host "$DOCKER_HOST" --data-root "$work/daemon" --exec-root "$work/run" --pidfile "$work/daemon.pid" \
        --bridge fibsrv-test0 --default-address-pool base=172.31.240.0/20,size=24 >"$work/daemon.log" 2>&1 &
    daemon=$!
    await 30 'a Docker daemon' docker info >/dev/null 2>&1
    say "started a Docker daemon: $(docker version --format '{{.Server.Version}}')"
fi

# pull IMAGE: returns an error if the registry cannot be reached. A wrong name or digest fails the test.
pull() {
    timeout 20 docker pull --quiet "$1" >/dev/null 2>"$work/pull" && return
    ! grep -qE 'manifest unknown|: not found$' "$work/pull" || fail "$1: $(<"$work/pull")"
    return 1
}

# substitute IMAGE COMMAND: runs the command to build a substitute if the image cannot be pulled. Sets `chosen` to the image
# to use.
substitute() {
    chosen=$1
    docker image inspect "$1" >/dev/null 2>&1 && return
    pull "$1" && return
    # A name of its own: an image of the same name and version stays as it is.
    chosen=fibsrv-test/${1%@*}
    echo "$chosen" >>"$work/images"
    "$2" "$chosen"
    say "built a substitute for $1"
}

# substitute_service SERVICE COMMAND: the same for the image of a service.
substitute_service() {
    local image
    image=$(docker compose --file docker-compose.yml config --format json | jq --raw-output ".services[\"$1\"].image")
    substitute "$image" "$2"
    [ "$chosen" != "$image" ] || return 0
    printf 'services: {"%s": {"image": "%s"}}\n' "$1" "$chosen" >"$work/$1.yml"
    files+=(--file "$work/$1.yml")
}

# debian PACKAGES...: writes a minimal Debian with these packages as an archive to stdout.
debian() {
    local packages=$1
    shift
    mmdebstrap --quiet --variant=minbase --include="$packages" --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/man/*' "$@" bookworm -
}

make_rust() {
    tar -C "$(rustc --print sysroot)" --exclude='llvm-*' --exclude='*/share/doc' -cf "$work/toolchain.tar" bin lib
    debian gcc,libc6-dev,ca-certificates \
        --customize-hook="tar-in $work/toolchain.tar /usr/local" \
        --customize-hook='upload /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt' |
        docker import --change 'ENV PATH=/usr/local/cargo/bin:/usr/local/bin:/usr/bin:/bin' \
            --change 'ENV CARGO_HOME=/usr/local/cargo' - "$1" >/dev/null
    rm "$work/toolchain.tar"
}

make_prometheus() {
    debian prometheus | docker import --change 'USER nobody' --change 'EXPOSE 9090' \
        --change 'ENTRYPOINT ["/usr/bin/prometheus"]' --change 'WORKDIR /prometheus' - "$1" >/dev/null
    # The official image has a volume directory that its user owns.
    printf 'FROM %s\nUSER root\nRUN mkdir -p /prometheus && chown 65534:65534 /prometheus\nUSER nobody\nVOLUME /prometheus\n' "$1" |
        docker build --quiet --tag "$1" - >/dev/null
}

make_alertmanager() {
    debian prometheus-alertmanager | docker import --change 'USER nobody' --change 'EXPOSE 9093' \
        --change 'ENTRYPOINT ["/usr/bin/prometheus-alertmanager"]' - "$1" >/dev/null
    printf 'FROM %s\nUSER root\nRUN mkdir -p /alertmanager && chown 65534:65534 /alertmanager\nUSER nobody\nVOLUME /alertmanager\n' "$1" |
        docker build --quiet --tag "$1" - >/dev/null
}

hadolint Dockerfile
say 'hadolint: no findings'
compose --profile '*' config --quiet
say "the compose file is valid: $(compose config --services | sort | paste -sd ' ')"

substitute "$(sed -n 's/^ARG BUILDER=//p' Dockerfile)" make_rust
builder=$chosen
substitute_service prometheus make_prometheus
substitute_service alertmanager make_alertmanager

# Passes proxy settings to the build.
arguments=()
for name in http_proxy https_proxy HTTP_PROXY HTTPS_PROXY no_proxy NO_PROXY; do
    [ -z "${!name:-}" ] || arguments+=(--build-arg "$name")
done
DOCKER_BUILDKIT=0 docker build --network host "${arguments[@]}" --build-arg VERSION="$version" --build-arg REVISION="$FIBSRV_REVISION" \
    --build-arg BUILDER="$builder" --tag "fibsrv:$version" --tag fibsrv:latest . >"$work/build.log" 2>&1 || { tail -30 "$work/build.log" >&2; fail 'docker build'; }
size=$(docker image inspect --format '{{.Size}}' "fibsrv:$version")
say "image size: $size bytes"
[ "$size" -le $((6 << 20)) ] || fail "image size $size exceeds 6 MiB"

container-structure-test test --image "fibsrv:$version" --config tests/deploy/image.yml --quiet || fail 'container-structure-test'
docker save --output "$work/image.tar" "fibsrv:$version"
syft scan --quiet --output json "docker-archive:$work/image.tar" >"$work/sbom.json"
crates=$(jq '[.artifacts[] | select(.type == "rust-crate") | .name] | sort' "$work/sbom.json")
for crate in mio httparse ibig log simple_logger fibsrv; do
    jq --exit-status --arg crate "$crate" 'index($crate)' <<<"$crates" >/dev/null || fail "the SBOM lacks $crate"
done
say "SBOM: $(jq length <<<"$crates") crates"

run() { # run NAME ARGUMENT...: starts a container as the compose file does, without a port.
    local name=$1
    shift
    docker run --detach --read-only --cap-drop ALL --security-opt no-new-privileges --pids-limit 32 "$@" >"$work/$name"
    cat "$work/$name" >>"$work/containers"
}
started=$(date +%s%N)
run plain "fibsrv:$version"
address=$(docker inspect --format '{{.NetworkSettings.IPAddress}}' "$(<"$work/plain")")
await 10 'a response' curl -fsS -o "$work/response" "http://$address:3000/api/fibonacci/20" 2>/dev/null
ready=$(date +%s%N)
[ "$(<"$work/response")" = 6765 ] || fail "F(20) is $(<"$work/response")"
inside=$(docker inspect --format '{{.State.StartedAt}}' "$(<"$work/plain")")
rss=$(awk '/^VmRSS/ { print $2 }' "/proc/$(docker inspect --format '{{.State.Pid}}' "$(<"$work/plain")")/status")
say "F(20) $(((ready - started) / 1000000)) ms after docker run, $(((ready - $(date -d "$inside" +%s%N)) / 1000000)) ms after process start; $rss KiB resident"
stopped=$(date +%s%N)
docker stop "$(<"$work/plain")" >/dev/null
[ "$(docker inspect --format '{{.State.ExitCode}}' "$(<"$work/plain")")" = 0 ] || fail 'exit status after docker stop is not 0'
say "docker stop: exit status 0 after $((($(date +%s%N) - stopped) / 1000000)) ms"

# fails NAME WORDS ARGUMENT...: the container exits with an error and one log line with these words.
fails() {
    local name=$1 words=$2 code
    shift 2
    run "$name" "$@"
    code=$(timeout 20 docker wait "$(<"$work/$name")") || fail "$name: still running"
    docker logs "$(<"$work/$name")" >"$work/output" 2>&1
    [ "$code" != 0 ] || fail "$name: status 0"
    [ "$(wc -l <"$work/output")" -eq 1 ] && grep -q -- "$words" "$work/output" || { cat "$work/output" >&2; fail "$name: expected one line with '$words'"; }
    say "$name: status $code, $(<"$work/output")"
}
fails 'an invalid variable' "'many' for '--table-max-n" --env FIBSRV_TABLE_MAX_N=many "fibsrv:$version"
fails 'an unwritable log' 'access log' --env FIBSRV_ACCESS_LOG=json --env FIBSRV_ACCESS_LOG_FILE=/access.log "fibsrv:$version"

# 256 MiB hold the cache and a computation of one worker.
docker run --rm --memory 256m "fibsrv:$version" --workers auto --check >"$work/check" || fail '--check'
grep -qx -- '--workers 1' "$work/check" || { cat "$work/check" >&2; fail 'workers that do not fit into the memory limit'; }
say '--workers auto respects the memory limit'

compose up --detach --wait fibsrv
[ "$(curl -fsS http://127.0.0.1:3000/api/fibonacci/20)" = 6765 ] || fail 'F(20) on port 3000'
say 'up: fibsrv is healthy and serves F(20) on port 3000'
taken=$(docker run --rm --publish 3000:3000 "fibsrv:$version" 2>&1) && fail 'port 3000 was published twice'
[ "$(grep -c 'port is already allocated' <<<"$taken")" = 1 ] || fail "unexpected error: $taken"
say 'a second container on port 3000 is rejected by Docker'

# The load under which eight workers in the same limit were killed: 48 clients with three of the largest numbers each.
tests/deploy/large_numbers.py 3000 || fail 'requests without a response'
container=$(compose ps --quiet fibsrv)
[ "$(docker inspect --format '{{.State.OOMKilled}}' "$container")" = false ] || fail 'the container was killed for lack of memory'
address=$(docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$container")
status=$(curl -sS -o /dev/null -w '%{http_code}' http://127.0.0.1:3000/metrics)
[ "$status" = 404 ] || fail "/metrics on the public port: $status"
restarts=$(curl -fsS "http://$address:9464/metrics" | sed -n 's/^fibsrv_worker_restarts_total //p')
[ "$restarts" = 0 ] || fail "$restarts workers were killed"
say 'large numbers: every request has a response, and no worker was killed'

# The most that --workers auto starts in this limit, whatever the number of CPUs.
run three --memory 512m --env FIBSRV_WORKERS=3 "fibsrv:$version"
address=$(docker inspect --format '{{.NetworkSettings.IPAddress}}' "$(<"$work/three")")
await 10 'three workers' curl -fsS -o /dev/null "http://$address:3000/readyz"
tests/deploy/large_numbers.py "$address:3000" || fail 'requests to three workers without a response'
[ "$(docker inspect --format '{{.State.OOMKilled}}' "$(<"$work/three")")" = false ] || fail 'three workers were killed for lack of memory'
restarts=$(curl -fsS "http://$address:3000/metrics" | sed -n 's/^fibsrv_worker_restarts_total //p')
[ "$restarts" = 0 ] || fail "$restarts of three workers were killed"
docker stop "$(<"$work/three")" >/dev/null
say 'the same with three workers'

compose up --detach --wait prometheus alertmanager
query() { curl -fsS --get --data-urlencode "query=$1" http://127.0.0.1:9000/api/v1/query | jq --exit-status ".data.result | $2" >/dev/null; }
await 30 'the target is up' query 'up{job="fibsrv"} == 1' 'length == 1'
say 'Prometheus on port 9000: target is up'
for _ in $(seq 50); do curl -fsS -o /dev/null http://127.0.0.1:3000/api/fibonacci/20; done
await 30 'the request counter' query 'sum(fibsrv_requests_total{handler="fibonacci",code="200"}) >= 51' 'length == 1'
say 'the requests are counted'
rules=$(curl -fsS http://127.0.0.1:9000/api/v1/rules | jq '[.data.groups[].rules[] | select(.health == "err")] | length')
[ "$rules" = 0 ] || fail "$rules rules fail to evaluate"
notified() { curl -fsS http://127.0.0.1:9093/api/v2/alerts | jq --exit-status --arg name "$1" 'any(.labels.alertname == $name)' >/dev/null; }
# Prometheus repeats an alert after a minute if Alertmanager was not discovered yet at its first attempt.
await 100 'Watchdog in Alertmanager' notified Watchdog
say 'Alertmanager on port 9093 receives alerts'
for port in 9000 9093; do
    [ "$(ss -Hltn "sport = :$port" | awk '{ print $4 }' | sort -u)" = "127.0.0.1:$port" ] || fail "port $port is public"
done
compose stop --timeout 10 fibsrv
pending() { curl -fsS http://127.0.0.1:9000/api/v1/alerts | jq --exit-status '[.data.alerts[].labels.alertname] | any(. == "FibsrvDown" or . == "FibsrvTargetsMissing")' >/dev/null; }
await 40 'a pending alert' pending
say 'server stopped: an alert is pending'
# Docker's DNS no longer lists a stopped container, so the target disappears instead of being down.
outage_notified() { notified FibsrvDown || notified FibsrvTargetsMissing; }
await 180 'the alert in Alertmanager' outage_notified
say 'server stopped: the alert has reached Alertmanager'

# Several containers cannot publish the same host port, so scaling needs it removed.
printf 'services:\n  fibsrv:\n    ports: !reset []\n' >"$work/scale.yml"
compose --file "$work/scale.yml" up --detach --wait --scale fibsrv=3 fibsrv
await 40 'three targets' query 'up{job="fibsrv"} == 1' 'length == 3'
say 'scaled: three targets are up'
compose down --volumes --timeout 10
[ -z "$(docker ps --all --quiet --filter "label=com.docker.compose.project=$project")" ] || fail 'containers are left'
say 'down: no containers are left'
