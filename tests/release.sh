#!/usr/bin/env bash
# Builds a release from two clones in two directories, compares all files, and tries each.
set -euo pipefail
cd "$(dirname "$0")/.."
source tests/deploy/tools.sh

fail() { echo "release: $*" >&2; exit 1; }

work=$(mktemp -d)
server=''
trap '[ -z "$server" ] || kill "$server"; rm -rf "$work"' EXIT
need dpkg-deb=dpkg python3=python3 curl=curl
nfpm_tools
helm_tools

# Generators of the manual page are built once, with the crates that the tests have built already.
export CARGO_TARGET_DIR=$PWD/target
first=$work/a
second=$work/a/much/longer/path
git clone --quiet . "$first/clone"
git clone --quiet . "$second/clone"
# Other modification times than those of the first.
find "$second/clone" -path '*/.git' -prune -o -type f -exec touch --date '2001-02-03' {} +
builds=()
for clone in "$first/clone" "$second/clone"; do
    make --no-print-directory -C "$clone" release >"$clone/../log" 2>&1 &
    builds+=($!)
done
for build in "${builds[@]}"; do
    wait "$build" || { tail -30 "$first/log" "$second/log" >&2; fail 'a build failed'; }
done

dist=$first/clone/target/dist
diff "$dist/SHA256SUMS" "$second/clone/target/dist/SHA256SUMS" >&2 || fail 'two builds differ'
(cd "$dist" && sha256sum --check --quiet SHA256SUMS) || fail 'SHA256SUMS'

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
mkdir "$work/binary" "$work/package"
tar -xzf "$dist"/fibsrv-"$version"-*-linux-*.tar.gz --strip-components 1 -C "$work/binary"
! readelf --program-headers "$work/binary/fibsrv" | grep -q INTERP || fail 'the binary is not static'
! grep -q "$work" "$work/binary/fibsrv" || fail 'the binary names the directory of its build'
"$work/binary/fibsrv" --version | grep -q "^fibsrv $version ($(git -C "$first/clone" rev-parse --short=12 HEAD)" || fail '--version'
"$work/binary/fibsrv" --listen '127.0.0.1:0' >"$work/log" &
server=$!
for _ in $(seq 100); do
    url=$(sed -n 's/.*listening on \(.*\)/\1/p' "$work/log")
    [ -z "$url" ] || break
    sleep 0.05
done
[ "$(curl -fsS "http://$url/api/fibonacci/20")" = 6765 ] || fail 'F(20)'

dpkg-deb --extract "$dist/fibsrv_${version}_"*.deb "$work/package"
cmp <(objdump -s -j .rodata "$work/package/usr/bin/fibsrv" | tail -n +4) \
    <(objdump -s -j .rodata "$work/binary/fibsrv" | tail -n +4) || fail 'the package has another binary'
zcat "$work/package/usr/share/man/man1/fibsrv.1.gz" | grep -q 'max\\-n' || fail 'the manual page'
! dpkg-deb --field "$dist/fibsrv_${version}_"*.deb Depends | grep -q libc || fail 'the package needs a C library'

helm template fib "$dist/fibsrv-chart-$version.tgz" | grep -q "image: .*fibsrv:$version" || fail 'the chart'
python3 - "$dist/fibsrv-$version.cdx.json" <<'PYTHON'
import json, sys, tomllib

bom = json.load(open(sys.argv[1]))
locked = {(p["name"], p["version"]) for p in tomllib.load(open("Cargo.lock", "rb"))["package"]}
crates = {(c["name"], c["version"]) for c in bom["components"] if c["bom-ref"].startswith("pkg:cargo/")}
assert crates <= locked, crates - locked
assert {"mio", "httparse", "ibig"} <= {name for name, _ in crates}, crates
assert not {"criterion", "proptest", "clap_derive"} & {name for name, _ in crates}, crates
PYTHON
echo "release: passed, $(wc -l <"$dist/SHA256SUMS") files are the same from two clones: $(sha256sum <"$dist/SHA256SUMS" | head -c 16)"
