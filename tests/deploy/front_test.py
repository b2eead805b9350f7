#!/usr/bin/env python3
"""`make front_test`: failure drills for the proxy pair under load.

    front_test.py [--rounds 3] [--only WORD]...

Prints a table of outages and failed requests, as measured by traffic.py, against the objectives, and fails if one is missed. A
round in which the control client of traffic.py detected a stall of the host is repeated.
"""

import argparse
import json
import re
import signal
import sys
import time

import results
import proxy_pair
import netns
import rule_checks
import traffic

SHIPPED = proxy_pair.DEPLOY / "haproxy"

TIME_LIMIT = 540
SECONDS = 3.0
"""Duration of a round, from the failure on."""
DEAD_PROXY, DEAD_MACHINE, NONE = 2.0, 1.0, 0.3
"""Objectives for the outage in seconds. `NONE` allows for the request interval and scheduling noise."""


class Drills:
    """Runs drills and collects their results."""

    def __init__(self, net, rounds, only):
        self.rounds, self.only = rounds, only
        self.front = proxy_pair.Front(net)
        self.traffic = traffic.Traffic(self.front, TIME_LIMIT)
        self.control = traffic.ControlClient(self.front, TIME_LIMIT)
        self.rows, self.faults, self.noisy = [], [], 0
        self.pending = []

    def wanted(self, name):
        return not self.only or any(word in name for word in self.only)

    def drill(self, name, act, goal, lost=None, undo=None, undone=None, undone_goal=(NONE, 0),
              rounds=None, seconds=SECONDS):
        """Runs rounds of `act` with the active proxy, and of `undo` with the result of `act`. `lost` is the maximum number of
        failed requests. `undone` names a row for the effect of `undo`, with the objective `undone_goal`."""
        if not self.wanted(name):
            return
        forth, back = [], []
        rounds = rounds or self.rounds
        for more in reversed(range(rounds * 3)):
            if len(forth) == rounds:
                break
            self._calm()
            done, what = self._run(act, self.front.wait_ready(), seconds)
            undoing, _ = self._run(undo, what, seconds) if undo else (None, None)
            stalled = any(self.control.stall(*window) for window in (done, undoing) if window)
            if stalled and more >= rounds - len(forth):
                self.noisy += 1
            else:
                forth.append(done)
                back.append(undoing)
        self.report()
        self.pending = [(name, forth, goal, lost)] + ([(undone, back, *undone_goal)] if undone else [])

    def report(self):
        """Adds the rows of the previous drill, whose requests have all ended by now."""
        for name, windows, goal, lost in self.pending:
            self._row(name, [self.traffic.results(*window) for window in windows], goal, lost)
        self.pending = []

    def _calm(self):
        """Waits up to 20 s for a second without a stall of the host."""
        end = time.monotonic() + 20
        while time.monotonic() < end and self.control.stall(time.monotonic() - 1, time.monotonic()):
            time.sleep(0.2)

    @staticmethod
    def _run(act, subject, seconds):
        """Runs `act`; returns the time window of its effect and its result."""
        since = time.monotonic()
        what = act(subject)
        time.sleep(max(0.0, since + seconds - time.monotonic()))
        return (since, time.monotonic()), what

    def _row(self, name, rounds, goal, lost):
        met = bool(rounds) and max(seen.gap for seen in rounds) <= goal \
            and (lost is None or max(seen.failed for seen in rounds) <= lost)
        worst = max(rounds, key=lambda seen: seen.failed, default=None)
        failures = ", ".join(f"{count} {outcome}" for outcome, count in worst.failures.most_common()) if worst else ""
        self.rows.append((name, " ".join(f"{seen.gap:.2f}" for seen in rounds), f"{goal:.1f}",
                          " ".join(f"{seen.failed}/{seen.requests}" for seen in rounds), "" if lost is None else str(lost),
                          failures, "yes" if met else "NO"))
        print(" | ".join(self.rows[-1]), flush=True)
        if not met:
            self.faults.append(f"{name}: a goal was missed")

    def check(self, name, holds, saw=""):
        """Adds a check without a measured value."""
        print(f"{'ok  ' if holds else 'NOT '} {name}{'' if holds else f': {saw!r}'}", flush=True)
        if not holds:
            self.faults.append(name)

    def table(self):
        head = ("drill", "outage, s", "objective", "failed requests", "objective", "failures of the worst round", "met")
        return results.markdown(head, self.rows)


def proxies(drills):
    """Processes of the active proxy are killed, frozen or stopped, and restarted."""

    def kill_haproxy(active):
        active.signal_haproxy(signal.SIGKILL)
        return active

    def freeze_haproxy(active):
        active.signal_haproxy(signal.SIGSTOP)
        return active

    def kill_keepalived(active):
        netns.signal_all(active.of_program("keepalived"), signal.SIGKILL)
        active.keepalived.wait()
        return active

    def stop_keepalived(active):
        active.keepalived.signal(signal.SIGTERM)
        return active

    drills.drill("haproxy killed", kill_haproxy, DEAD_PROXY,
                 undo=lambda proxy: proxy.start_haproxy(), undone="haproxy started again")
    # Two checks that time out, and on a busy machine a third.
    drills.drill("haproxy frozen", freeze_haproxy, 3.0,
                 undo=lambda proxy: proxy.signal_haproxy(signal.SIGCONT), undone="haproxy thawed", seconds=4)
    drills.drill("keepalived killed", kill_keepalived, DEAD_MACHINE,
                 undo=lambda proxy: proxy.start_keepalived(), undone="keepalived started again")
    drills.drill("keepalived stopped gracefully", stop_keepalived, DEAD_MACHINE, undo=lambda proxy: proxy.start_keepalived())


def machines(drills):
    """The machine of the active proxy is powered off, frozen or disconnected, and restored."""

    def power_off(active):
        active.machine.power_off()
        return active

    def freeze(active):
        active.freeze()
        return active

    def cut(cable, silently):
        def act(active):
            active.machine.disconnect(cable, silently=silently)
            return active

        return act

    def mend(proxy):
        proxy.reconnect()

    drills.drill("machine killed", power_off, DEAD_MACHINE,
                 undo=lambda proxy: proxy.power_on(), undone="machine started again")
    drills.drill("machine frozen", freeze, DEAD_MACHINE, undo=lambda proxy: proxy.thaw(), undone="machine thawed",
                 undone_goal=(DEAD_MACHINE, None))
    drills.drill("cable disconnected", cut(0, False), DEAD_MACHINE, undo=mend, undone="cable reconnected")
    drills.drill("packets dropped, link up", cut(0, True), DEAD_MACHINE, undo=mend, undone="packets pass again",
                 undone_goal=(DEAD_MACHINE, None))
    drills.drill("cable to the workers disconnected", cut(1, False), 5.0, undo=mend, undone="cable to the workers reconnected",
                 seconds=6)


def stays_eligible(drills, reloads=8):
    """A reload must not make the health check fail: with both proxies reloading, neither would hold the address."""
    spare = next(proxy for proxy in drills.front.proxies if proxy is not drills.front.wait_ready())
    check = spare.machine.start("bash", "-c", "while :; do /etc/keepalived/check-proxy 127.0.0.1 || echo failed; done")
    for _ in range(reloads):
        spare.reload()
        time.sleep(0.3)
    check.kill()
    drills.check(f"the health check succeeds during {reloads} reloads", not check.log(), check.log())


def changes(drills):
    """Reloads and certificate changes under load, which must not fail any request."""
    pair = drills.front

    def reload(active):
        active.reload()

    def replace(_):
        certificate = pair.authority.issue(proxy_pair.NAME)
        pair.install_certificate(certificate)
        drills.check("the new certificate is served at once", pair.serves(certificate))

    def break_configuration(active):
        good = active.machine.path("/etc/haproxy/haproxy.cfg").read_text()
        active.machine.write("/etc/haproxy/haproxy.cfg", good.replace("mode http", "mode https"))
        checked = active.machine.run("haproxy", "-c", "-f", "/etc/haproxy/haproxy.cfg")
        drills.check("an invalid configuration is rejected", checked.returncode != 0)
        active.haproxy.signal(signal.SIGUSR2)
        return active, good

    def restore_configuration(what):
        active, good = what
        active.machine.write("/etc/haproxy/haproxy.cfg", good)
        active.reload()

    drills.drill("haproxy reloaded", reload, NONE, lost=0)
    if drills.wanted("reload"):
        stays_eligible(drills)
    drills.drill("certificate replaced", replace, NONE, lost=0, rounds=1)
    drills.drill("reload of an invalid configuration", break_configuration, NONE, lost=0, undo=restore_configuration, undone="reload of the restored configuration",
                 rounds=1)


def workers(drills):
    """Failures of workers, which clients must not notice."""
    pair = drills.front

    def kill(_):
        pair.workers[0].process.kill()
        return pair.workers[0]

    def restart_each(_):
        for worker in pair.workers:
            if (status := worker.process.stop(20)) != 0:
                drills.check("a worker stops gracefully", False, status)
            worker.start()
            netns.until("the worker is back", lambda: worker.up(pair.active()))

    def freeze(_):
        pair.workers[1].process.freeze()
        return pair.workers[1]

    def power_off(_):
        pair.workers[2].machine.power_off()
        return pair.workers[2]

    def power_on(worker):
        worker.machine.power_on()
        worker.start()

    drills.drill("worker killed", kill, NONE, lost=0, undo=lambda worker: worker.start(), undone="worker started again")
    drills.drill("all workers restarted, one by one", restart_each, NONE, lost=0, rounds=1, seconds=1)
    drills.drill("worker's machine killed", power_off, NONE, undo=power_on, undone="worker's machine started again")
    drills.drill("worker frozen", freeze, NONE, undo=lambda worker: worker.process.thaw(), undone="worker thawed")


def slow_clients(drills):
    """Slow clients from one and from eight addresses, while other clients are served."""
    pair = drills.front
    if not drills.wanted("slow"):
        return
    attacker = pair.new_client("attacker", 110)
    addresses = [f"10.77.0.{number}" for number in range(111, 119)]
    for address in addresses:
        attacker.must("ip", "address", "add", f"{address}/24", "dev", "eth0")
    script = proxy_pair.ROOT / "tests" / "deploy" / "slow_clients.py"

    def attack(kind, count, sources):
        def act(_):
            out = attacker.must(sys.executable, script, "--kind", kind, "--count", count, "--sources", ",".join(sources),
                                proxy_pair.FLOATING, seconds=60)
            outcome.update(json.loads(out))

        return act

    for kind, count, sources, ends, limit in (
            ("head", 200, addresses[:1], {"status 408": 100, "rejected": 100}, 4.5),
            ("head", 400, addresses, {"status 408": 400}, 4.5),
            ("body", 400, addresses, {"status 408": 400}, 4.5),
            ("silent", 400, addresses, {"status 408": 400}, 4.5),
            ("handshake", 400, addresses, {"closed": 400}, 16.5)):
        outcome = {}
        drills.drill(f"slow clients: {count}, {kind}, {len(sources)} addresses", attack(kind, count, sources), 1.0,
                     lost=0, rounds=1, seconds=0)
        drills.check(f"slow clients ({kind}, {len(sources)} addresses) were disconnected after {outcome['longest']} s",
                     outcome["counts"] == ends and outcome["longest"] <= limit, outcome)


def flood_of_port_80(drills):
    """Connection floods of the plain HTTP port leave HTTPS, the health check and the floating address alone."""
    pair = drills.front
    if not drills.wanted("flood"):
        return
    attacker = pair.new_client("flooder", 120)
    addresses = [f"10.77.0.{number}" for number in range(121, 161)]
    for address in addresses:
        attacker.must("ip", "address", "add", f"{address}/24", "dev", "eth0")
    script = proxy_pair.ROOT / "tests" / "deploy" / "slow_clients.py"

    def flood(count, sources):
        def act(_):
            attacker.must(sys.executable, script, "--kind", "handshake", "--port", "80", "--count", count, "--seconds", "4",
                          "--sources", ",".join(sources), proxy_pair.FLOATING, seconds=60)

        return act

    before = pair.active()
    for count, sources in ((8500, addresses[:1]), (2000, addresses)):
        drills.drill(f"flood of port 80: {count} connections, {len(sources)} addresses", flood(count, sources), 1.0, lost=0,
                     rounds=1, seconds=0)
    drills.check("the floating address does not move during a flood", pair.active() is before)


def client_beyond_rate_limit(drills):
    """One address exceeds its request rate limit."""
    pair = drills.front
    if not drills.wanted("rate"):
        return
    client = pair.new_client("fast", 102)
    codes = []

    def send(_):
        out = client.must("curl", "-s", "--cacert", "/run/ca.pem", "--connect-to", f"{proxy_pair.NAME}:443:{proxy_pair.FLOATING}:443",
                          "-o", "/dev/null", "-w", "%{http_code} ", f"https://{proxy_pair.NAME}/api/fibonacci/[1-3000]", seconds=60)
        codes.extend(out.split())

    drills.drill("client beyond the rate limit", send, NONE, lost=0, rounds=1, seconds=0)
    drills.check(f"a client beyond the rate limit gets {codes.count('200')} responses, then 429",
                 set(codes) == {"200", "429"} and codes.index("429") >= 2000, codes[-3:])


def client_with_costly_requests(drills):
    """One address requests many large numbers within its request rate limit."""
    pair = drills.front
    if not drills.wanted("costly"):
        return
    client = pair.new_client("costly", 103)
    codes = []

    def send(_):
        # In parallel, so that more are requested than can be computed.
        out = client.must("curl", "-s", "-Z", "--parallel-max", "30", "--cacert", "/run/ca.pem", "--connect-to",
                          f"{proxy_pair.NAME}:443:{proxy_pair.FLOATING}:443", "-o", "/dev/null", "-w", "%{http_code} ",
                          f"https://{proxy_pair.NAME}/api/fibonacci/[9999001-9999300]", seconds=60)
        codes.extend(out.split())

    drills.drill("client with costly requests", send, 1.0, lost=0, rounds=1, seconds=0)
    counts = {code: codes.count(code) for code in set(codes)}
    drills.check(f"a client with 300 costly requests gets {counts}",
                 set(counts) == {"200", "429"} and 50 <= counts["200"] <= 110, counts)


def facts(drills):
    """Checks without load: TLS, private paths, limits, the log."""
    pair, client, check = drills.front, drills.front.client, drills.check
    if not drills.wanted("facts"):
        return

    def code(*arguments, **options):
        return pair.curl("-o", "/dev/null", "-w", "%{http_code}", *arguments, **options).stdout

    response = pair.curl("-w", " %{http_code} %{http_version}")
    check("curl with --cacert gets F(20) over HTTP/2", response.stdout == "6765 200 2", response)
    check("and over HTTP/1.1", pair.curl("--http1.1", "-w", " %{http_version}").stdout == "6765 1.1")
    check("curl without it refuses the certificate", pair.curl(trust=False).returncode == 60)
    check("curl by another name refuses it",
          client.run("curl", "-s", "--cacert", "/run/ca.pem", f"https://{proxy_pair.FLOATING}/").returncode == 60)
    for version, accepted in (("tls1_1", False), ("tls1_2", True), ("tls1_3", True)):
        handshake = client.run("openssl", "s_client", f"-{version}", "-cipher", "DEFAULT@SECLEVEL=0", "-connect",
                          f"{proxy_pair.FLOATING}:443", "-servername", proxy_pair.NAME, "-CAfile", "/run/ca.pem",
                          "-verify_return_error")
        check(f"{version} is {'accepted' if accepted else 'rejected'}", (handshake.returncode == 0) == accepted, handshake.stderr)
    head = pair.curl("-I").stdout.lower()
    check("responses have Strict-Transport-Security", "strict-transport-security: max-age=31536000" in head, head)
    for what, head in (("404", pair.curl("-I", path="/metrics").stdout.lower()),
                       ("413", pair.curl("-o", "/dev/null", "-D", "-", "-d", "x" * 5000).stdout.lower())):
        check(f"the proxy's own {what} has Strict-Transport-Security and X-Request-ID",
              f" {what}" in head and "strict-transport-security:" in head and "x-request-id:" in head, head)
    plain = client.must("curl", "-s", "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}",
                        f"http://{proxy_pair.FLOATING}/api/fibonacci/20")
    check("plain HTTP is redirected to HTTPS", plain == f"308 https://{proxy_pair.FLOATING}/api/fibonacci/20", plain)

    codes = {path: code(path=path) for path in ("/", "/openapi.json", "/robots.txt", "/favicon.ico")}
    check("the page and its files are public", set(codes.values()) == {"200"}, codes)
    closed = ("/metrics", "/%6detrics", "//metrics", "/api/../metrics", "/api/%2e%2e/metrics", "/healthz", "/readyz",
              "/read%79z", "/alive", "/workers")
    for version in ("--http1.1", "--http2"):
        codes = {path: code(version, "--path-as-is", path=path) for path in closed}
        check(f"{version[2:]}: private paths get 404", set(codes.values()) == {"404"}, codes)
    absolute = code("--http1.1", "--request-target", f"https://{proxy_pair.NAME}/metrics")
    check("also with an absolute-form target", absolute == "404", absolute)
    internal = client.run("curl", "-s", f"http://{proxy_pair.FLOATING}:8404/metrics")
    check("the internal port is closed on the public network", internal.returncode != 0 and not internal.stdout, internal)
    address = pair.active().machine.cables[1][2].partition("/")[0]
    metrics = pair.workers[0].machine.must("curl", "-s", f"http://{address}:8404/metrics")
    check("haproxy's metrics are available on the internal network", 'haproxy_backend_active_servers{proxy="workers"} 3' in metrics)
    check("all metrics of the alerts exist", not (missing := rule_checks.missing_metrics(SHIPPED, "haproxy", metrics)), missing)
    rule_checks.check(SHIPPED)

    check("a body of 100 bytes reaches a worker, which responds with 405", code("-d", "x" * 100) == "405")
    for words in (["-d", "x" * 5000], ["-H", "Transfer-Encoding: chunked", "-d", "@/bin/ls"]):
        check("a larger body gets 413", (saw := code("--http1.1", *words)) == "413", saw)
    check("a request head beyond 16 KiB is rejected", (saw := code("--http1.1", "-H", "X-Long: " + "x" * 20000)) in ("400", "431"), saw)

    check_log(pair, check)
    address = f"[{proxy_pair.FLOATING6}]"
    client.must("ip", "address", "add", "fd00:77::65/64", "dev", "eth0", "nodad")
    over_ipv6 = client.run("curl", "-sS", "-m", "10", "--connect-to", f"{proxy_pair.NAME}:443:{address}:443", "--cacert",
                           "/run/ca.pem", "-w", " %{remote_ip}", proxy_pair.URL)
    check("the floating IPv6 address serves", over_ipv6.stdout == f"6765 {proxy_pair.FLOATING6}", over_ipv6)
    check("and is on the active proxy only", pair.holders6() == [pair.active()], pair.holders6())


def check_log(pair, check):
    """Checks that a line of the log is JSON, also for hostile targets, and has the request ID of the response."""
    pair.curl("--path-as-is", "--globoff", "--http1.1", path="/api/%22%5c\"\\{}")
    identifier = re.search(r"^x-request-id: (\S+)", pair.curl("-I").stdout.lower(), re.MULTILINE)
    entries = []

    def found():
        lines = pair.active().syslog.log().splitlines()
        entries[:] = [json.loads(line[line.index("{"):]) for line in lines if '"request_id"' in line]
        return identifier and any(entry["request_id"] == identifier[1] for entry in entries)

    check("the request ID of the response is in the log", netns.until("the log line", found))
    served = [entry for entry in entries if entry["status"] == 200 and entry["target"] == "/api/fibonacci/20"]
    check("requests are in the log, as JSON", served and served[0]["method"] == "GET" and served[0]["remote_addr"] == "10.77.0.101"
          and served[0]["backend"] == "workers", entries[-3:])
    check("with the target as sent", any(entry["target"] == '/api/%22%5c"\\{}' for entry in entries), entries[-3:])


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--only", action="append", metavar="WORD", help="run only drills with this word in their name, or `facts`")
    options = options.parse_args()
    netns.enter(seconds=TIME_LIMIT)
    began = time.monotonic()
    with netns.Network() as net:
        drills = Drills(net, options.rounds, options.only)
        for run in (facts, proxies, machines, changes, workers, slow_clients, flood_of_port_80,
                    client_beyond_rate_limit, client_with_costly_requests):
            run(drills)
        drills.check("at the end the floating IPv6 address is on the active proxy",
                     drills.front.holders6() == [drills.front.active()], drills.front.holders6())
        drills.report()
        drills.traffic.stop()
    print(f"\n{drills.table()}\n\n{drills.noisy} rounds repeated because of host stalls; "
          f"{time.monotonic() - began:.0f} s in total")
    if drills.faults:
        sys.exit("front_test: " + "; ".join(drills.faults))
    print("front_test: passed")


if __name__ == "__main__":
    main()
