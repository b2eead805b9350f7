#!/usr/bin/env bash
# Rejected uploads with real clients: each sends 20 MB without Expect and must receive the response, a 413. Then load
# generators. A client that is not installed is skipped; Debian has curl, python3-requests, python3-aiohttp, nodejs,
# default-jdk-headless, golang-go, apache2-utils, siege, nghttp2-client and hey.
set -euo pipefail
cd "$(dirname "$0")/.."
source tests/start_server.sh

ROUNDS=3
skipped=()

# uploads NAME COMMAND...
uploads() {
    local name=$1 found
    shift
    for _ in $(seq "$ROUNDS"); do
        found=$(timeout 60 "$@" 2>&1 | tail -n 1) || true
        [ "$found" = "413 30" ] || { echo "uploads: $name: '$found', not '413 30'" >&2; exit 1; }
    done
    echo "uploads: $name: passed"
}

# loads NAME EXPECTED COMMAND...: the output has a line that matches.
loads() {
    local name=$1 expected=$2
    shift 2
    timeout 60 "$@" >"$files/load" 2>&1 || true
    grep -qE "$expected" "$files/load" || { echo "uploads: $name: no '$expected'" >&2; cat "$files/load" >&2; exit 1; }
    echo "uploads: $name: passed"
}

has() { "$@" >"$files/has" 2>&1 || { skipped+=("$1"); return 1; }; }

head -c 20000000 /dev/zero >"$files/body"
python=$(command -v /usr/bin/python3 || command -v python3)
client=tests/uploads
uploads curl curl -q -s -o "$files/response" -w '%{http_code} %{size_download}' -H Expect: -T "$files/body" "$url/healthz"
uploads http.client "$python" "$client/upload.py" http.client "$url"
has "$python" -c 'import requests' && uploads requests "$python" "$client/upload.py" requests "$url"
has "$python" -c 'import aiohttp' && uploads aiohttp "$python" "$client/upload.py" aiohttp "$url"
if has node --version; then
    uploads "Node fetch" node "$client/upload.mjs" fetch "$url"
    uploads "Node http" node "$client/upload.mjs" http "$url"
fi
has java --version && uploads "Java HttpClient" java "$client/Upload.java" "$url"
has go version && GO111MODULE=off uploads "Go net/http" go run "$client/upload.go" "$url"

f20=$url/api/fibonacci/20
has ab -V && loads ab 'Failed requests: *0$' ab -k -q -n 20000 -c 20 "$f20"
has siege -V && loads siege '"failed_transactions":[[:space:]]*0,' siege -b -c 10 -r 200 --no-parser "$f20"
has h2load --version && loads h2load ' 20000 succeeded, 0 failed, 0 errored' h2load --h1 -n 20000 -c 20 -t 1 "$f20"
has hey -n 1 -c 1 "$f20" && loads hey '\[200\][[:space:]]*20000 responses' hey -n 20000 -c 20 "$f20"

kill -TERM "$server"
wait "$server"
[ "${#skipped[@]}" -eq 0 ] || echo "uploads: not installed: ${skipped[*]}"
echo "uploads: passed"
