#!/usr/bin/env bash
# Tests tools.sh with a temporary home and cache directory.
set -euo pipefail
cd "$(dirname "$0")/../.."

fail() { echo "tools: $*" >&2; exit 1; }

files=$(mktemp -d)
trap 'rm -rf "$files"' EXIT
export HOME=$files/home FIBSRV_TEST_CACHE=$files/cache
plugin=$HOME/.docker/cli-plugins/docker-compose
mkdir -p "$FIBSRV_TEST_CACHE/compose-2.40.3" "${plugin%/*}"
touch "$FIBSRV_TEST_CACHE/compose-2.40.3/docker-compose"
source tests/deploy/tools.sh

ln -s "$files/removed/docker-compose" "$plugin"
compose_tools || fail 'a dangling link is not replaced'
[ -e "$plugin" ] || fail 'the link is still dangling'
rm "$plugin"
echo installed >"$plugin"
compose_tools || fail 'an installed plugin is an error'
[ "$(<"$plugin")" = installed ] || fail 'an installed plugin is overwritten'

# The server's variables do not select the cache directory of the tests.
(export FIBSRV_CACHE=1 FIBSRV_CACHE_SIZE=64MiB && source tests/deploy/tools.sh && [ "$cache" = "$FIBSRV_TEST_CACHE" ]) ||
    fail 'a variable of the server changes the cache directory'

once half false 2>/dev/null && fail 'a failed installation succeeds'
[ ! -e "$FIBSRV_TEST_CACHE/half" ] || fail 'a failed installation is kept'
echo 'tools: passed'
