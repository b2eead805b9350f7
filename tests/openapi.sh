#!/usr/bin/env bash
# Lints the description of the API, and tests the server against it.
set -euo pipefail
cd "$(dirname "$0")/.."
source tests/deploy/tools.sh

need python3=python3 pip=python3-pip node=nodejs npm=npm curl=curl
openapi_tools

# What is not ready when this ends is stopped with it.
files=$(mktemp -d)
servers=()
stop() {
    kill -KILL "${servers[@]}" && wait "${servers[@]}"
} 2>/dev/null
trap 'stop || true; rm -rf "$files"' EXIT

# start NAME FLAGS...: starts a server, and sets url and admin_url.
start() {
    local log=$files/$1
    shift
    : >"$log"
    bin/fibsrv --listen 127.0.0.1:0 "$@" >"$log" &
    servers+=("$!")
    for _ in $(seq 200); do
        url=http://$(sed -n 's/.*listening on \([^,]*\).*/\1/p' "$log")
        admin_url=http://$(sed -n 's/.*admin on //p' "$log")
        [ "$url" != http:// ] && return
        sleep 0.05
    done
    echo "openapi: the server is not ready" >&2
    exit 1
}

start draining --drain-delay 60s
draining=$url
kill -TERM "${servers[-1]}"
for _ in $(seq 200); do
    [ "$(curl -q -sS --noproxy '*' "$draining/readyz")" = draining ] && break
    sleep 0.05
done
start large --max-n 100000000 --max-computations 1
large=$url
start apart --admin-listen 127.0.0.1:0
apart=("$url" "$admin_url")
start ordinary
ordinary=$url

curl -q -sS --noproxy '*' "$ordinary/openapi.json" >"$files/openapi.json"
python -m openapi_spec_validator "$files/openapi.json"
# Not every operation can fail, and a redirection has no other success.
"$redocly" lint --extends recommended-strict --skip-rule operation-4xx-response \
    --skip-rule operation-2xx-response "$files/openapi.json" >"$files/lint" 2>&1 ||
    { cat "$files/lint" >&2; exit 1; }

python tests/openapi/statuses.py "$large" "$draining" "${apart[@]}"
python -m schemathesis.cli --config-file tests/openapi/schemathesis.toml \
    run "$ordinary/openapi.json" --max-examples "${EXAMPLES:-50}" --no-color
