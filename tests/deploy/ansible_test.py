#!/usr/bin/env python3
"""`make ansible_test`: the Ansible role sets up servers, proxies and log host on a test network, and they serve.

The machines of proxy_pair.py with the addresses of the example inventory. ansible-playbook runs on each machine, without packages
and services, as the machines share the packages of the host and have no systemd; deb_test.sh applies the role to a server with
systemd. Then the programs are started with the files that the role has installed.
"""

import json
import re
import sys
import time

import netns
import proxy_pair
import results
import rsyslog

TIME_LIMIT = 200
ROLE = proxy_pair.DEPLOY / "ansible"
LOG_HOST, ACCESS_LOG = "10.77.1.31", "/var/log/fibsrv/access.log"
EVERYWHERE = {
    "ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": "/usr/bin/python3",
    "fibsrv_manage_packages": False, "fibsrv_manage_services": False,
    # The machines share the journal of the host.
    "fibsrv_log_source": "file",
    "fibsrv_environment": {"FIBSRV_WORKERS": "2", "FIBSRV_ACCESS_LOG_FILE": ACCESS_LOG},
}


def apply(machine, *arguments, **variables):
    """Applies the playbook on a machine; returns the number of changed tasks and the output."""
    done = machine.run(
        "ansible-playbook", "--inventory", ROLE / "inventory.yml", ROLE / "site.yml", "--limit", machine.name,
        "--extra-vars", json.dumps({**EVERYWHERE, **variables}), *arguments, seconds=120,
        env={"HOME": "/run", "ANSIBLE_REMOTE_TEMP": "/run/ansible", "ANSIBLE_ROLES_PATH": str(ROLE / "roles"), "ANSIBLE_NOCOLOR": "1"})
    recap = re.search(rf"^{machine.name} .*changed=(\d+) .*failed=0 ", done.stdout, re.MULTILINE)
    if done.returncode or not recap:
        raise AssertionError(f"{machine.name}: {done.stdout}{done.stderr}")
    return int(recap[1]), done.stdout


class Server(proxy_pair.Worker):
    """A server whose settings and log shipper come from the role."""

    def start(self):
        rsyslog.prepare(self.machine)
        self.machine.mount_tmpfs("/etc/systemd/system")
        self.machine.path("/var/log/fibsrv").mkdir()
        self.machine.path(proxy_pair.TEXTFILES).mkdir(parents=True)
        self.changed, _ = apply(self.machine)
        drop_in = self.machine.path("/etc/systemd/system/fibsrv.service.d/50-ansible.conf").read_text()
        variables = dict(re.findall(r'^Environment="?(\w+)=([^"\n]*)"?$', drop_in, re.MULTILINE))
        self.process = self.machine.start(proxy_pair.BINARY, env=variables)


class Proxy(proxy_pair.Proxy):
    """A proxy whose files come from the role."""

    def install(self, number, certificate):
        self.certificate = f"/run/{self.machine.name}.pem"
        self.machine.write(self.certificate, certificate)
        for directory in ("/etc/rsyslog.d", "/usr/local/sbin"):
            self.machine.mount_tmpfs(directory)
        self.changed, _ = apply(self.machine, fibsrv_certificate=self.certificate)


def differing(pair):
    """Returns installed files that differ from the shipped ones: the example inventory has the addresses of the shipped files."""
    pairs = [("/etc/haproxy/haproxy.cfg", "haproxy/haproxy.cfg"), ("/etc/keepalived/keepalived.conf", "keepalived/keepalived.conf"),
             ("/etc/keepalived/check-proxy", "keepalived/check-proxy"), ("/etc/rsyslog.d/40-fibsrv-shipper.conf", "rsyslog/shipper.conf")]
    return [inside for inside, shipped in pairs
            if pair.proxies[0].machine.path(inside).read_bytes() != (proxy_pair.DEPLOY / shipped).read_bytes()]


def check(net, table):
    logs = net.machine("logs")
    rsyslog.prepare(logs)
    logs.mount_tmpfs("/etc/logrotate.d")
    changed, _ = apply(logs)
    table.row("log host: changed tasks", changed, exactly=1)
    began = time.monotonic()
    pair = proxy_pair.Front(net, 3, Server, Proxy)
    table.row("servers and proxies set up and serving", time.monotonic() - began, unit="s")
    logs.plug(pair.internal, f"{LOG_HOST}/24")
    receiver = rsyslog.start(logs)
    for worker in pair.workers:
        worker.machine.set_hosts(f"{LOG_HOST} logs.example\n")
        rsyslog.start(worker.machine)

    table.row("files of a proxy that differ from the shipped ones", differing(pair) or 0, exactly=0)
    response = pair.curl("-w", " %{http_code} %{http_version}").stdout
    table.row("F(20) over the floating address", response, exactly="6765 200 2")
    table.row("/metrics over the floating address", pair.curl("-o", "/dev/null", "-w", "%{http_code}", path="/metrics").stdout, exactly="404")
    stored = logs.path("/var/log/fibsrv/access.jsonl")
    netns.until("the line of the request on the log host", lambda: stored.exists() and re.search(r"fibonacci\\?/20", stored.read_text()), 40)
    table.row("the line of the request is on the log host", receiver.running(), exactly=True)

    again = [apply(worker.machine)[0] for worker in pair.workers]
    again += [apply(proxy.machine, fibsrv_certificate=proxy.certificate)[0] for proxy in pair.proxies]
    table.row("changed tasks when applied again", sum(again), exactly=0)

    site = {"fibsrv_workers": [{"name": "a", "address": "192.0.2.1"}], "fibsrv_internal_sources": ["192.0.2.0/24"]}
    proxy = pair.proxies[0]
    _, text = apply(proxy.machine, "--check", "--diff", fibsrv_certificate=proxy.certificate, **site)
    table.row("servers of another site", re.findall(r"^\+ +server (.*)", text, re.MULTILINE), exactly=["a 192.0.2.1:3000"])
    table.row("removed servers", len(re.findall(r"^- +server worker", text, re.MULTILINE)), exactly=3)
    sources = re.findall(r"^\+.*unless \{ src (.*) \}", text, re.MULTILINE)
    table.row("internal sources of another site", sources, exactly=["127.0.0.1 192.0.2.0/24"])


def main():
    netns.enter(seconds=TIME_LIMIT)
    netns.need("ansible-core rsyslog rsyslog-relp", "ansible-playbook", "rsyslogd")
    with results.Table("ansible_test") as table, netns.Network() as net:
        check(net, table)
    sys.exit(table.status)


if __name__ == "__main__":
    main()
