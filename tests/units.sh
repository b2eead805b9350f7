#!/usr/bin/env bash
# The units of deploy/systemd, checked with systemd-analyze, and the built server started by systemd-socket-activate.
set -euo pipefail
export SYSTEMD_EMOJI=0
cd "$(dirname "$0")/.."
files=$(mktemp -d)
activator=
trap '[ -z "$activator" ] || kill "$activator" 2>/dev/null || true; rm -rf "$files"' EXIT

fail() { echo "units: $*" >&2; exit 1; }

# install_units DIRECTORY [UNIT:DROP-IN]...: copies the units, with the path of the built server.
install_units() {
    local directory=$files/$1 dropin
    shift
    mkdir -p "$directory"
    cp deploy/systemd/fibsrv.service deploy/systemd/fibsrv.socket deploy/systemd/fibsrv-admin.socket "$directory"
    sed -i "s#^ExecStart=/usr/bin/fibsrv\$#ExecStart=$PWD/bin/fibsrv#" "$directory/fibsrv.service"
    grep -q "^ExecStart=$PWD" "$directory/fibsrv.service" || fail "the unit does not run the built server"
    for dropin in "$@"; do
        mkdir -p "$directory/${dropin%%:*}.d"
        cp "deploy/systemd/examples/${dropin#*:}" "$directory/${dropin%%:*}.d"
    done
}

# verify DIRECTORY EXPOSURE: checks the units; EXPOSURE is the maximum in tenths.
verify() {
    local output
    output=$(systemd-analyze verify "$files/$1"/fibsrv{.service,.socket,-admin.socket} 2>&1) || fail "$1: $output"
    [ -z "$output" ] || fail "$1: $output"
    output=$(systemd-analyze security --no-pager --offline=true --threshold="$2" "$files/$1/fibsrv.service") ||
        fail "$1 is too exposed: $output"
    echo "units: $1: ${output##*→ }"
}

install_units plain
verify plain 13
install_units all fibsrv.socket:socket-per-worker.conf fibsrv.service:workers.conf fibsrv.service:no-network.conf
verify all 5

# The server knows every variable, and systemd waits longer than the server drains.
settings=$(cat deploy/systemd/fibsrv.service deploy/systemd/examples/*.conf)
mapfile -t environment < <(sed -n 's/^Environment=//p' <<<"$settings")
for setting in "${environment[@]}"; do
    bin/fibsrv --help | grep -q "${setting%%=*}=" || fail "$setting: no such variable"
    env "$setting" bin/fibsrv --check >/dev/null
done
seconds() { sed -n "s/^$1[ =]\([0-9]*\)s\$/\1/p"; }
drain=$(bin/fibsrv --check | seconds '--drain-timeout')
supervisor=5 # seconds that a supervisor adds
[ "$(seconds TimeoutStopSec <<<"$settings")" -gt $((drain + supervisor)) ] || fail "systemd kills the server while it drains"

# Ports that are free now: systemd-socket-activate does not print the ports that it got.
free_port() { python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
port=$(free_port)
admin=$(free_port)
systemd-socket-activate -E FIBSRV_WORKERS=2 --fdname=web:admin -l "127.0.0.1:$port" -l "127.0.0.1:$admin" bin/fibsrv >"$files/log" 2>&1 &
activator=$!
for _ in $(seq 200); do
    grep -q Listening "$files/log" && break
    kill -0 "$activator"
    sleep 0.05
done
[ "$(curl -fsS --noproxy '*' --max-time 20 "http://127.0.0.1:$port/api/fibonacci/20")" = 6765 ] || fail "not activated"
[ "$(curl -fsS --noproxy '*' --max-time 20 "http://127.0.0.1:$admin/readyz")" = ready ] || fail "no admin address"
grep -q 'using 2 sockets passed by the service manager' "$files/log" || fail "not passed: $(cat "$files/log")"
kill -TERM "$activator" # it has executed the server
wait "$activator" || fail "status $? after TERM"
activator=
echo "units: passed"
