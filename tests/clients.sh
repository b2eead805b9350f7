#!/usr/bin/env bash
# The built server with common clients: curl, wrk, hey, Python's http.client, and recorded requests of browsers.
set -euo pipefail
cd "$(dirname "$0")/.."
source tests/start_server.sh

# check NAME FOUND EXPECTED
check() { [ "$2" = "$3" ] || { echo "clients: $1: '$2', not '$3'" >&2; exit 1; }; }
curl() { command curl -q -sS --noproxy '*' --max-time 20 "$@"; }
status() { curl -o /dev/null -w '%{http_code}' "$@"; }
responses() { curl "$url/metrics" | sed -n 's/^fibsrv_requests_total{handler="fibonacci",method="GET",code="200"} //p'; }

f20=$url/api/fibonacci/20
check GET "$(curl "$f20")" 6765
check HEAD "$(curl -I "$f20" | tr -d '\r' | sed -n '1p; /^Content-Length/p' | paste -sd' ')" "HTTP/1.1 200 OK Content-Length: 4"
check "HTTP/1.0" "$(curl --http1.0 "$f20")" 6765
check "several requests on one connection" \
    "$(curl -o /dev/null -o /dev/null -o /dev/null -w '%{http_code}/%{num_connects} ' "$f20" "$url/nothing" "$url/healthz")" \
    "200/1 404/0 200/0 "
check "concurrent requests" "$(curl -Z "$url/api/fibonacci/"'[11-30]' 2>"$files/progress" | wc -c)" 88
check POST "$(status -d 'a body' "$f20")" 405
head -c 2000000 /dev/zero >"$files/long"
check "a body beyond the limit" "$(status -H 'Expect: 100-continue' --data-binary "@$files/long" "$f20")" 413
head -c 1000000 /dev/zero >"$files/short"
check "a body within the limit" "$(status -H 'Expect: 100-continue' --data-binary "@$files/short" "$f20")" 405
head -c 20000000 /dev/zero >"$files/huge"
check "an upload that is rejected, without Expect" "$(status -H 'Expect:' -T "$files/huge" "$f20")" 413
check chunks "$(status -H 'Transfer-Encoding: chunked' --data-binary "@$files/short" "$f20")" 405
check "an upload" "$(status -T "$files/short" "$f20")" 405
check "dot segments removed by curl" "$(status "$url/api/../api/fibonacci/20")" 200
check "dot segments in the request" "$(status --path-as-is "$url/api/../api/fibonacci/20")" 404
check "a matching entity tag" "$(status -H 'If-None-Match: "20"' "$f20")" 304
check "another entity tag" "$(status -H 'If-None-Match: "21"' "$f20")" 200
check "a range" "$(curl -r 1-2 "$f20")" 76
large=$url/api/fibonacci/1000000
curl -o "$files/whole" "$large"
head -c 100000 "$files/whole" >"$files/resumed"
curl -C - -o "$files/resumed" "$large"
check "a download that is resumed" "$(cksum <"$files/resumed")" "$(cksum <"$files/whole")"
complete=$(curl -C - -o "$files/resumed" -w "%{http_code}" "$large")
check "a complete download that is resumed" "$complete" 416
check "a number that curl decompresses" "$(curl --compressed "$large" | cksum)" "$(cksum <"$files/whole")"
curl -D "$files/head" -H 'Accept-Encoding: gzip' -o "$files/whole.gz" "$large"
check "a number that gzip decompresses" "$(gzip -dc "$files/whole.gz" | cksum)" "$(cksum <"$files/whole")"
check "the fields of a compressed number" \
    "$(tr -d '\r' <"$files/head" | sed -n '/^Content-Encoding/p; /^ETag/p' | paste -sd' ')" \
    'Content-Encoding: gzip ETag: "1000000-gzip"'
check "a matching tag of a compressed number" \
    "$(status -H 'Accept-Encoding: gzip' -H 'If-None-Match: "1000000-gzip"' "$large")" 304
check "a range of a number that could be compressed" \
    "$(curl -r 0-9 -H 'Accept-Encoding: gzip' "$large")" "$(head -c 10 "$files/whole")"
check OPTIONS "$(status -X OPTIONS "$f20")" 204
check "Accept-Encoding" "$(curl --compressed "$f20")" 6765

python3 tests/clients.py "${address##*:}"

before=$(responses)
hey -n 2000 -c 20 "$f20" >"$files/hey"
check "hey" "$(sed -n 's/^ *\[\(.*\)\][[:space:]]/\1 /p' "$files/hey")" "200 2000 responses"
hey -n 200 -c 10 -disable-keepalive "$f20" >"$files/hey"
check "hey, one connection per request" "$(sed -n 's/^ *\[\(.*\)\][[:space:]]/\1 /p' "$files/hey")" "200 200 responses"
check "counted responses" "$(($(responses) - before))" 2200

for script in "" "-s tests/fixtures/pipeline.lua"; do
    # shellcheck disable=SC2086 # zero or two words
    wrk -t1 -c16 -d1s $script "$f20" >"$files/wrk"
    check "wrk $script" "$(grep -E 'Socket errors|Non-2xx' "$files/wrk" || true)" ""
    grep -qE '[1-9][0-9]* requests in' "$files/wrk" || check "wrk $script" "no requests" "some requests"
done

kill -TERM "$server"
wait "$server" || check "status after TERM" $? 0
check "warnings in the log" "$(grep -cE ' (WARN|ERROR) ' "$files/log" || true)" 0
echo "clients: passed"
