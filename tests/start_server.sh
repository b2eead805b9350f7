# To be sourced: starts bin/fibsrv on a free port, and ends it with the script. Sets server, url and files.
files=$(mktemp -d)
: >"$files/log" # which is read before the server may have opened it
bin/fibsrv --listen 127.0.0.1:0 >"$files/log" &
server=$!
trap 'kill "$server" 2>/dev/null || true; rm -rf "$files"' EXIT

for _ in $(seq 200); do
    address=$(sed -n 's/.*listening on //p' "$files/log")
    [ -n "$address" ] && break
    kill -0 "$server"
    sleep 0.05
done
url="http://$address"
