# Source it: starts bin/fibsrv on a free port and stops it when the script exits. Sets server, address, url and files.
files=$(mktemp -d)
: >"$files/log" # it is read before the server has opened it
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
