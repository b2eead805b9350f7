#!/usr/bin/env bash
# Runs every command of README.md on a fresh clone, in a Debian that has only what the README requires, and compares the
# response with the one it shows. Prints how long each took, and the time from git clone to the first response beside the
# one that the README states, which depends on the machine and on other work. Needs root.
#
# Rust is that of this machine, mounted where rustup puts it, with the crates that cargo has fetched. Commands for a Docker
# daemon are tested by make docker_test; what needs a cluster is rendered.
set -euo pipefail
cd "$(dirname "$0")/.."
source tests/deploy/tools.sh

fail() { echo "readme: $*" >&2; exit 1; }
say() { printf 'readme: %4d s  %s\n' "$((SECONDS - began))" "$*"; }

need mmdebstrap=mmdebstrap unshare=util-linux ip=iproute2 curl=curl
helm_tools
work=$(mktemp -d)
server=''
cleanup() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    for mounted in $(awk -v under="$work" 'index($2, under) == 1 { print $2 }' /proc/mounts | sort -r); do
        umount --lazy "$mounted"
    done
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

root=$work/root
# The requirements as the README has them, git for the clone, and certificates for cargo.
mmdebstrap --quiet --variant=minbase --include=gcc,libc6-dev,make,git,ca-certificates bookworm "$root" 2>"$work/log" ||
    { cat "$work/log" >&2; fail 'no Debian'; }
cp /etc/resolv.conf "$root/etc/resolv.conf"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
toolchain=$(rustc --print sysroot)
mkdir -p "$root/opt/rust" "$root/root/.cargo/registry"
mount --bind -o ro "$(readlink -f "$toolchain")" "$root/opt/rust"
mount --bind "${CARGO_HOME:-$HOME/.cargo}/registry" "$root/root/.cargo/registry"
git clone --quiet --bare . "$root/mnt/fibsrv"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --make-rslave "$root/dev"

# inside COMMAND: runs a shell command in the clone, in the Debian.
inside() {
    env -i HOME=/root PATH=/opt/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive \
        ${PIP_FIND_LINKS:+PIP_FIND_LINKS=$PIP_FIND_LINKS} \
        chroot "$root" /bin/bash -ec "cd ${directory:-/root}; $1"
}

# The lines of the blocks of shell commands, without comments.
commands() { awk '/^```sh$/ { on = 1; next } /^```$/ { on = 0 } on' README.md | sed 's/ *#.*//' | grep -v '^$'; }

# check_response: compares the response of a server on port 3000 with the one in the README.
check_response() {
    local shown=$work/shown got=$work/got
    awk '/^```console$/ { on = 1; next } /^```$/ { on = 0 } on' README.md | sed '1d;s/^Date: .*/Date: now/' >"$shown"
    for _ in $(seq 100); do
        nsenter --net="/proc/$server/ns/net" curl -sf -o "$work/ready" localhost:3000/readyz && break
        sleep 0.05
    done
    nsenter --net="/proc/$server/ns/net" curl -si localhost:3000/api/fibonacci/20 |
        tr -d '\r' | sed 's/^Date: .*/Date: now/' >"$got"
    echo >>"$got"
    diff "$shown" "$got" >&2 || fail 'the response is another one'
}

# say_first_response: says how long after git clone the first response came.
cloned=''
say_first_response() {
    [ -n "$cloned" ] || return 0
    local stated
    stated=$(tr '\n' ' ' <README.md | sed -n 's/.*first response it takes about \([0-9]*\) s .*/\1/p')
    [ -n "$stated" ] || fail 'README.md states no time to the first response'
    say "first response $((SECONDS - cloned)) s after git clone; README.md states $stated s on two idle CPUs"
    say "the clone and its build use $(du -sm "$root/root/fibsrv" | cut -f1) MB"
    cloned=''
}

# serve PROGRAM: runs it with a port 3000 of its own.
serve() {
    unshare --net --fork --kill-child bash -c "ip link set lo up; exec chroot '$root' /bin/bash -c 'cd $directory; exec $1'" \
        >"$work/server" 2>&1 &
    server=$!
    # The namespace is that of the child.
    for _ in $(seq 100); do
        server=$(pgrep --parent "$!" || true)
        [ -z "$server" ] || break
        sleep 0.05
    done
    check_response
    say_first_response
    kill "$server"
    server=''
}

count=0
directory=/root
while read -r command; do
    began=$SECONDS
    count=$((count + 1))
    case "$command" in
    'git clone '*)
        cloned=$SECONDS
        inside "git clone --quiet /mnt/fibsrv"
        ;;
    'cd '*) directory=/root/fibsrv ;;
    'make build') inside "$command" >"$work/log" 2>&1 || { tail "$work/log" >&2; fail "$command"; } ;;
    'bin/fibsrv') serve "$command" ;;
    'make deb' | 'apt install '*)
        inside "${command/apt install/apt install -y}" >"$work/log" 2>&1 || { tail "$work/log" >&2; fail "$command"; }
        case "$command" in apt*) serve /usr/bin/fibsrv ;; esac
        ;;
    'make docker_build' | 'docker run '*)
        grep -q "${command%% *} ${command#* }" README.md && say "not run, tested by make docker_test: $command"
        continue
        ;;
    'helm install '*)
        (cd "$root/root/fibsrv" && bash -ec "${command/install/template}") >"$work/log" || fail "$command"
        grep -q 'image: "\?registry.example.org/fibsrv:' "$work/log" || fail 'the rendered chart has another image'
        ;;
    *) fail "no rule how to run: $command" ;;
    esac
    say "$command"
done < <(commands)
[ "$count" -ge 8 ] || fail "only $count commands"
say 'passed'
