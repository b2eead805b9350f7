#!/usr/bin/env bash
# The built server with curl, promtool and wrk, and its memory under load.
set -euo pipefail
cd "$(dirname "$0")/.."
source tests/start_server.sh

fail() { echo "smoke: $*" >&2; exit 1; }

[ "$(curl -fsS "$url/api/fibonacci/20")" = 6765 ] || fail "F(20)"
[ "$(curl -fsS "$url/api/fibonacci/20" | wc -c)" -eq 4 ] || fail "the body is not exactly the digits"
[ "$(curl -sS -o /dev/null -w '%{http_code}' "$url/api/fibonacci/x")" = 400 ] || fail "an invalid n"
[ "$(curl -fsS -I "$url/api/fibonacci/20" | tr -d '\r' | sed -n 's/^Content-Length: //p')" = 4 ] || fail HEAD

problems=$(curl -fsS "$url/metrics" | promtool check metrics 2>&1) || fail "promtool: $problems"
[ -z "$problems" ] || fail "promtool: $problems"

errors=$(wrk -t1 -c32 -d1s "$url/api/fibonacci/20" | grep -E 'Socket errors|Non-2xx' || true)
[ -z "$errors" ] || fail "wrk: $errors"

resident_kib=$(awk '/^VmRSS/ { print $2 }' "/proc/$server/status")
[ "$resident_kib" -le 20480 ] || fail "$resident_kib KiB resident, more than 20 MiB"

kill -TERM "$server"
wait "$server" || fail "status $? after TERM"
echo "smoke: passed, $resident_kib KiB resident under load"
