#!/usr/bin/env bash
# The units of deploy/systemd as systemd's own tools see them: nothing to complain of, little given to the service;
# and the built server started by systemd's tool for trying socket activation.
set -euo pipefail
export SYSTEMD_EMOJI=0
cd "$(dirname "$0")/.."
files=$(mktemp -d)
activator=
trap '[ -z "$activator" ] || kill "$activator" 2>/dev/null || true; rm -rf "$files"' EXIT

fail() { echo "units: $*" >&2; exit 1; }

# lay_out FOLDER [UNIT:DROP-IN]...: the units as they would be installed, with a program that is there.
lay_out() {
    local folder=$files/$1 dropin
    shift
    mkdir -p "$folder"
    cp deploy/systemd/fibsrv.service deploy/systemd/fibsrv.socket "$folder"
    sed -i "s#^ExecStart=/usr/bin/fibsrv\$#ExecStart=$PWD/bin/fibsrv#" "$folder/fibsrv.service"
    grep -q "^ExecStart=$PWD" "$folder/fibsrv.service" || fail "the program is somewhere else"
    for dropin in "$@"; do
        mkdir -p "$folder/${dropin%%:*}.d"
        cp "deploy/systemd/examples/${dropin#*:}" "$folder/${dropin%%:*}.d"
    done
}

# verify FOLDER EXPOSURE: the latter in tenths, at most.
verify() {
    local said
    said=$(systemd-analyze verify "$files/$1/fibsrv.service" "$files/$1/fibsrv.socket" 2>&1) || fail "$1: $said"
    [ -z "$said" ] || fail "$1: $said"
    said=$(systemd-analyze security --no-pager --offline=true --threshold="$2" "$files/$1/fibsrv.service") ||
        fail "$1 gives too much: $said"
    echo "units: $1: ${said##*→ }"
}

lay_out plain
verify plain 13
lay_out all fibsrv.socket:socket-per-worker.conf fibsrv.service:workers.conf fibsrv.service:no-network.conf
verify all 5

# Every variable is one that the server knows, and it is given more time to end than it takes.
settings=$(cat deploy/systemd/fibsrv.service deploy/systemd/examples/*.conf)
mapfile -t environment < <(sed -n 's/^Environment=//p' <<<"$settings")
for setting in "${environment[@]}"; do
    bin/fibsrv --help | grep -q "${setting%%=*}=" || fail "$setting: no such variable"
    env "$setting" bin/fibsrv --check >/dev/null
done
seconds() { sed -n "s/^$1[ =]\([0-9]*\)s\$/\1/p"; }
drain=$(bin/fibsrv --check | seconds '--drain-timeout')
patience=5 # of the supervisor
[ "$(seconds TimeoutStopSec <<<"$settings")" -gt $((drain + patience)) ] || fail "killed while it drains"

# A port that is free now; systemd's tool cannot be asked which one it got.
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
systemd-socket-activate -E FIBSRV_WORKERS=2 --fdname=web -l "127.0.0.1:$port" bin/fibsrv >"$files/log" 2>&1 &
activator=$!
for _ in $(seq 200); do
    grep -q Listening "$files/log" && break
    kill -0 "$activator"
    sleep 0.05
done
[ "$(curl -fsS --noproxy '*' --max-time 20 "http://127.0.0.1:$port/api/fibonacci/20")" = 6765 ] || fail "not activated"
grep -q 'using 1 sockets passed by the service manager' "$files/log" || fail "not passed: $(cat "$files/log")"
kill -TERM "$activator" # which has become the server
wait "$activator" || fail "status $? after TERM"
activator=
echo "units: all well"
