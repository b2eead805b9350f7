#!/usr/bin/env bash
# Tests the Debian package under load with systemd as PID 1: install, reload, upgrade, restart with socket activation, remove,
# purge. No request may be lost.
#
# systemd boots in new namespaces on an overlay of the host's file system: no image is downloaded, and installed files and
# processes disappear with the test.
set -euo pipefail
cd "$(dirname "$0")/../.."
source tests/deploy/tools.sh

say() { printf 'deb: %s\n' "$*"; }
fail() { echo "deb: $*" >&2; exit 1; }

need ansible-playbook=ansible-core rsyslogd=rsyslog "$(compgen -G '/usr/lib/*/rsyslog/omrelp.so' || echo omrelp)=rsyslog-relp" \
    prometheus-node-exporter=prometheus-node-exporter /usr/lib/python3/dist-packages/apt=python3-apt
need /lib/systemd/systemd=systemd dpkg=dpkg unshare=util-linux ip=iproute2 curl=curl python3=python3 lintian=lintian
first=$(deploy/deb/build)
second=$(VERSION=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)+test deploy/deb/build)
say "made $first and $second"
lintian --fail-on error,warning --allow-root "$first" || fail 'lintian'
say 'lintian: no findings'

work=$(mktemp -d)
mount -t tmpfs tmpfs "$work"
mkdir "$work/upper" "$work/work" "$work/root" "$work/share"
cp "$first" "$work/share/first.deb"
cp "$second" "$work/share/second.deb"
cp tests/deploy/load_client.py "$work/share/"
cp -r deploy "$work/share/"
init=''
cleanup() {
    local status=$?
    set +e
    [ "$status" -eq 0 ] || { tail -20 "$work/boot.log"; inside journalctl --no-pager --lines 30; } >&2
    [ -z "$init" ] || kill -KILL "$init" 2>/dev/null
    [ -z "${holder:-}" ] || wait "$holder" 2>/dev/null
    umount --lazy "$work"
    rmdir "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

cat >"$work/boot" <<'BOOT'
#!/bin/bash
# Sets up the root file system in the new namespaces, and executes init.
set -e
work=$1
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" "$work/root"
cd "$work/root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount --rbind /dev dev
for folder in run tmp var/tmp; do mount -t tmpfs tmpfs "$folder"; done
mkdir -p run/share
mount --bind "$work/share" run/share
mkdir -p run/old
pivot_root . run/old
umount --lazy run/old
hostname fibsrv-deb-test
ip link set lo up
# Starts basic.target only, not the other services of the host.
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=fibsrv-test /lib/systemd/systemd --unit=basic.target --log-target=console
BOOT
chmod 755 "$work/boot"
unshare --mount --uts --ipc --net --pid --cgroup --fork --kill-child "$work/boot" "$work" >"$work/boot.log" 2>&1 &
holder=$!
init=''
for _ in $(seq 100); do
    init=$(pgrep --parent "$holder" || true)
    [ -z "$init" ] || break
    sleep 0.05
done
[ -n "$init" ] || fail 'init did not start'
inside() { nsenter --target "$init" --mount --uts --ipc --net --pid --cgroup --root --wd env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"; }
await() { # await SECONDS WHAT COMMAND...
    local until=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$until" ] || fail "timeout: $what"
        sleep 0.1
    done
}
await 30 'systemd booted' inside systemctl is-active basic.target
say "$(inside systemctl --version | head -1) is PID 1"

serves() { [ "$(inside curl -fsS -m 2 http://127.0.0.1:3000/api/fibonacci/20)" = 6765 ]; }
main_pid() { inside systemctl show --property MainPID --value fibsrv.service; }

inside dpkg --path-include='/usr/share/*' --install /run/share/first.deb >"$work/dpkg.log" 2>&1 || { cat "$work/dpkg.log" >&2; fail 'dpkg --install'; }
await 10 'the service responds' serves
inside curl -fsS -m 2 http://127.0.0.1:9464/readyz >/dev/null || fail 'no readiness on the admin address'
inside curl -fsS -m 2 http://127.0.0.1:3000/metrics >/dev/null 2>&1 && fail '/metrics is on the public port'
inside systemctl is-enabled --quiet fibsrv.service || fail 'the service is not enabled'
inside zcat /usr/share/man/man1/fibsrv.1.gz >"$work/page"
for word in 'access\\-log' FIBSRV_ACCESS_LOG_FILE 'SH SIGNALS' 'SH EXIT STATUS'; do
    grep -q "$word" "$work/page" || fail "the manual page lacks $word"
done
inside bash -c 'source /usr/share/bash-completion/completions/fibsrv && complete -p fibsrv' | grep -q _fibsrv || fail 'no completions'
for file in /usr/share/zsh/vendor-completions/_fibsrv /usr/share/fish/vendor_completions.d/fibsrv.fish; do
    inside grep -q max-pipelined "$file" || fail "no completions in $file"
done
say "installed, enabled and started as PID $(main_pid); manual page and completions are installed"

# Two clients for the rest of the test: one with a new connection for each request, one with four keep-alive connections.
for keep_alive in 0 4; do
    inside python3 /run/share/load_client.py --seconds 120 --every 0.005 --keep-alive "$keep_alive" --expect 6765 \
        http://127.0.0.1:3000/api/fibonacci/20 >"$work/load-$keep_alive" 2>&1 &
    eval "load_$keep_alive=$!"
done
clients() { inside pgrep -f load_client.py; }
two_clients() { [ "$(clients | wc -l)" -eq 2 ]; }
await 20 'two clients' two_clients
sleep 1

workers() { inside pgrep --parent "$(main_pid)" | sort | paste -sd ' '; }
renewed() { # renewed PID WORKERS: succeeds when new workers serve under the same supervisor and the old ones have exited.
    [ "$(main_pid)" = "$1" ] && [ "$(inside systemctl show --property ActiveState --value fibsrv.service)" = active ] &&
        [ -n "$(workers)" ] && ! grep -qwF -f <(tr ' ' '\n' <<<"$2") <(workers)
}
pid=$(main_pid)
before=$(workers)
inside systemctl reload fibsrv.service
await 40 'the reload completed' renewed "$pid" "$before"
say "reloaded: supervisor $pid has new workers"

before=$(workers)
inside dpkg --path-include='/usr/share/*' --install /run/share/second.deb >"$work/dpkg.log" 2>&1 || { cat "$work/dpkg.log" >&2; fail 'dpkg --install'; }
await 40 'the upgrade completed' renewed "$pid" "$before"
[ "$(inside dpkg-query --show --showformat '${Version}' fibsrv)" = "$(sed 's/.*fibsrv_\(.*\)_.*/\1/' <<<"$second")" ] || fail 'wrong version'
say 'upgraded: same supervisor, new workers'

# With socket activation a restart loses no request either. Switching to the socket does, as the port is free for a moment.
inside pkill -TERM -f load_client.py
wait "$load_0" || { cat "$work/load-0" >&2; fail 'requests were lost'; }
wait "$load_4" || { cat "$work/load-4" >&2; fail 'requests were lost on keep-alive connections'; }
say "new connection for each request: $(<"$work/load-0")"
say "keep-alive connections: $(<"$work/load-4")"
inside systemctl stop fibsrv.service
inside systemctl start fibsrv.socket fibsrv.service
await 10 'the socket-activated service responds' serves
inside python3 /run/share/load_client.py --seconds 60 --every 0.005 --timeout 10 --expect 6765 \
    http://127.0.0.1:3000/api/fibonacci/20 >"$work/load-socket" 2>&1 &
load=$!
await 10 'a client' clients
sleep 1
inside systemctl restart fibsrv.service
sleep 1
inside pkill -TERM -f load_client.py
wait "$load" || { cat "$work/load-socket" >&2; fail 'requests were lost in a restart with socket activation'; }
say "restarted with socket activation: $(<"$work/load-socket")"

# The Ansible role sets a variable and starts log forwarding; applied again it changes nothing.
inside systemctl stop fibsrv.socket fibsrv.service
apply_role() {
    inside ansible-playbook --connection local --inventory worker1, /run/share/role.yml >"$work/role.log" 2>&1 ||
        { cat "$work/role.log" >&2; fail 'ansible-playbook'; }
    sed -n 's/^worker1 .* changed=\([0-9]*\) .*/\1/p' "$work/role.log"
}
cat >"$work/share/role.yml" <<'PLAYBOOK'
- hosts: all
  vars:
    ansible_python_interpreter: /usr/bin/python3
    fibsrv_parts: [server, shipper]
    fibsrv_environment: { FIBSRV_MAX_N: "300", NOTE: 'a "quoted" \n 100%n' }
    fibsrv_log_target: 127.0.0.1
  roles: [/run/share/deploy/ansible/roles/fibsrv]
PLAYBOOK
[ "$(apply_role)" -ge 5 ] || fail 'the role changed too little'
await 10 'the service with the settings of the role responds' serves
[ "$(inside curl -sS -o /dev/null -w '%{http_code}' http://127.0.0.1:3000/api/fibonacci/301)" = 422 ] || fail 'the variable of the role is not set'
inside cat "/proc/$(main_pid)/environ" | tr '\0' '\n' | grep -xF 'NOTE=a "quoted" \n 100%n' >/dev/null ||
    fail 'systemd has changed a value of the role'
for service in fibsrv rsyslog prometheus-node-exporter; do
    inside systemctl is-active --quiet "$service.service" && inside systemctl is-enabled --quiet "$service.service" ||
        fail "$service is not running and enabled"
done
[ "$(apply_role)" = 0 ] || { cat "$work/role.log" >&2; fail 'the role changed something when applied again'; }
inside systemctl stop rsyslog.service prometheus-node-exporter.service
say 'the Ansible role has set a variable, and started log forwarding'

inside mkdir -p /etc/systemd/system/fibsrv.service.d
inside cp /usr/share/doc/fibsrv/examples/workers.conf /etc/systemd/system/fibsrv.service.d/
inside dpkg --remove fibsrv >/dev/null 2>&1 || fail 'dpkg --remove'
serves 2>/dev/null && fail 'the service responds after removal'
[ -z "$(inside pgrep --exact fibsrv || true)" ] || fail 'processes are left after removal'
inside dpkg --purge fibsrv >/dev/null 2>&1 || fail 'dpkg --purge'
inside test -e /etc/systemd/system/fibsrv.service.d/workers.conf || fail "purge removed the administrator's drop-in"
inside rm -r /etc/systemd/system/fibsrv.service.d
# What the Ansible role has installed is not of the package.
of_role=(
    -path '/etc/rsyslog.d/4[0-2]-fibsrv-*.conf' -o -path /usr/local/sbin/fibsrv-queue-metrics
    -o -path '/var/spool/rsyslog/fibsrv*' -o -path '/var/lib/prometheus/node-exporter/fibsrv-logs.*'
)
# Other programs of the host write here meanwhile.
of_host=(
    -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /root -o -path /var/log -o -path /var/cache
    -o -path /var/lib/systemd -o -path "$PWD"
)
left=$(inside find / -xdev \( "${of_role[@]}" -o "${of_host[@]}" \) -prune \
    -o -newer /run/share/second.deb -name '*fibsrv*' -print 2>/dev/null || true)
[ -z "$left" ] || fail "left behind: $left"
say 'removed and purged: no files or processes are left'
