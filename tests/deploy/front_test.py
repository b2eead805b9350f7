#!/usr/bin/env python3
"""`make front_test`: the front pair under load while its parts are killed, frozen, cut off and changed.

    front_test.py [--rounds 3] [--only WORD]...

Prints a table of time without service and failed requests, as users.py sees them, against the goals, and fails if one is
missed. A round in which the bystander of users.py was not served either has measured the machine and not the front, and is
played again.
"""

import argparse
import json
import signal
import sys
import time

import figures
import front
import lab
import rules
import users

SHIPPED = front.DEPLOY / "haproxy"

TIME_LIMIT = 540
SECONDS = 3.0
"""How long a round looks, from the disturbance on."""
DEAD_PROXY, DEAD_MACHINE, NONE = 2.0, 1.0, 0.3
"""The goals, in seconds without service. `NONE` is none but for the pace of the clients and the noise of a machine."""


class Drills:
    """Plays drills, and keeps what they came to."""

    def __init__(self, net, rounds, only):
        self.rounds, self.only = rounds, only
        self.front = front.Front(net)
        self.users = users.Users(self.front, TIME_LIMIT)
        self.bystander = users.Bystander(self.front, TIME_LIMIT)
        self.rows, self.faults, self.noisy = [], [], 0
        self.untold = []

    def wanted(self, name):
        return not self.only or any(word in name for word in self.only)

    def drill(self, name, act, goal, lost=None, undo=None, undone=None, undone_goal=(NONE, 0),
              rounds=None, seconds=SECONDS):
        """Rounds of `act`, with the active proxy, and of `undo` with what `act` returned. `lost` is how many requests may fail.
        `undone` is the name of a row for what the undoing costs: no time without service and no request, or else
        `undone_goal`."""
        if not self.wanted(name):
            return
        forth, back = [], []
        rounds = rounds or self.rounds
        for more in reversed(range(rounds * 3)):
            if len(forth) == rounds:
                break
            self._calm()
            done, what = self._play(act, self.front.settled(), seconds)
            undoing, _ = self._play(undo, what, seconds) if undo else (None, None)
            stood_still = any(self.bystander.standstill(*window) for window in (done, undoing) if window)
            if stood_still and more >= rounds - len(forth):
                self.noisy += 1
            else:
                forth.append(done)
                back.append(undoing)
        self.tell()
        self.untold = [(name, forth, goal, lost)] + ([(undone, back, *undone_goal)] if undone else [])

    def tell(self):
        """Makes rows of the drill before: by now all of its requests have ended, and nobody has to wait for them."""
        for name, windows, goal, lost in self.untold:
            self._row(name, [self.users.saw(*window) for window in windows], goal, lost)
        self.untold = []

    def _calm(self):
        """Waits, but not for ever, for a second in which the machine does not stand still."""
        end = time.monotonic() + 20
        while time.monotonic() < end and self.bystander.standstill(time.monotonic() - 1, time.monotonic()):
            time.sleep(0.2)

    @staticmethod
    def _play(act, subject, seconds):
        """From when to when there is something to be seen, and what the act returned."""
        since = time.monotonic()
        what = act(subject)
        time.sleep(max(0.0, since + seconds - time.monotonic()))
        return (since, time.monotonic()), what

    def _row(self, name, rounds, goal, lost):
        met = bool(rounds) and max(seen.gap for seen in rounds) <= goal \
            and (lost is None or max(seen.failed for seen in rounds) <= lost)
        worst = max(rounds, key=lambda seen: seen.failed, default=None)
        told = ", ".join(f"{count} {outcome}" for outcome, count in worst.failures.most_common()) if worst else ""
        self.rows.append((name, " ".join(f"{seen.gap:.2f}" for seen in rounds), f"{goal:.1f}",
                          " ".join(f"{seen.failed}/{seen.requests}" for seen in rounds), "" if lost is None else str(lost),
                          told, "yes" if met else "NO"))
        print(" | ".join(self.rows[-1]), flush=True)
        if not met:
            self.faults.append(f"{name}: a goal was missed")

    def check(self, name, holds, saw=""):
        """A fact that has no figures."""
        print(f"{'ok  ' if holds else 'NOT '} {name}{'' if holds else f': {saw!r}'}", flush=True)
        if not holds:
            self.faults.append(name)

    def table(self):
        head = ("drill", "without service, s", "goal", "failed of requests", "goal", "how the worst failed", "met")
        return figures.markdown(head, self.rows)


def proxies(drills):
    """A part of the active proxy dies or stops, and comes back."""

    def kill_haproxy(active):
        active.signal_haproxy(signal.SIGKILL)
        return active

    def freeze_haproxy(active):
        active.signal_haproxy(signal.SIGSTOP)
        return active

    def kill_keepalived(active):
        lab.signal_all(active.of_program("keepalived"), signal.SIGKILL)
        active.keepalived.wait()
        return active

    def stop_keepalived(active):
        active.keepalived.signal(signal.SIGTERM)
        return active

    drills.drill("haproxy killed", kill_haproxy, DEAD_PROXY,
                 undo=lambda proxy: proxy.start_haproxy(), undone="haproxy started again")
    # Two checks that each wait for an answer; on a busy machine one more.
    drills.drill("haproxy frozen", freeze_haproxy, 3.0,
                 undo=lambda proxy: proxy.signal_haproxy(signal.SIGCONT), undone="haproxy thawed", seconds=4)
    drills.drill("keepalived killed", kill_keepalived, DEAD_MACHINE,
                 undo=lambda proxy: proxy.start_keepalived(), undone="keepalived started again")
    drills.drill("keepalived stopped in order", stop_keepalived, DEAD_MACHINE, undo=lambda proxy: proxy.start_keepalived())


def machines(drills):
    """The machine of the active proxy dies, stands still, or is cut off, and comes back."""

    def power_off(active):
        active.machine.power_off()
        return active

    def freeze(active):
        active.freeze()
        return active

    def cut(cable, silently):
        def act(active):
            active.machine.cut(cable, silently=silently)
            return active

        return act

    def mend(proxy):
        proxy.mend()

    drills.drill("machine killed", power_off, DEAD_MACHINE,
                 undo=lambda proxy: proxy.power_on(), undone="machine started again")
    drills.drill("machine frozen", freeze, DEAD_MACHINE, undo=lambda proxy: proxy.thaw(), undone="machine thawed",
                 undone_goal=(DEAD_MACHINE, None))
    drills.drill("cable pulled", cut(0, False), DEAD_MACHINE, undo=mend, undone="cable put back")
    drills.drill("cut off, link up", cut(0, True), DEAD_MACHINE, undo=mend, undone="cut mended",
                 undone_goal=(DEAD_MACHINE, None))
    drills.drill("cable to the workers pulled", cut(1, False), 5.0, undo=mend, undone="cable to the workers put back",
                 seconds=6)


def stays_fit(drills, reloads=8):
    """A reload is no reason to give the address away: if both proxies did, at the same time, nobody would have it."""
    spare = next(proxy for proxy in drills.front.proxies if proxy is not drills.front.settled())
    check = spare.machine.start("bash", "-c", "while :; do /etc/keepalived/check-proxy 127.0.0.1 || echo unfit; done")
    for _ in range(reloads):
        spare.reload()
        time.sleep(0.3)
    check.kill()
    drills.check(f"a proxy stays fit through {reloads} reloads", not check.log(), check.log())


def changes(drills):
    """What is done on purpose, under load, and must cost nothing."""
    pair = drills.front

    def reload(active):
        active.reload()

    def swap(_):
        certificate = pair.authority.issue(front.NAME)
        pair.certify(certificate)
        drills.check("the new certificate is served at once", pair.serves(certificate))

    def break_file(active):
        good = active.machine.path("/etc/haproxy/haproxy.cfg").read_text()
        active.machine.write("/etc/haproxy/haproxy.cfg", good.replace("mode http", "mode https"))
        checked = active.machine.run("haproxy", "-c", "-f", "/etc/haproxy/haproxy.cfg")
        drills.check("a wrong file is found before a reload", checked.returncode != 0)
        active.haproxy.signal(signal.SIGUSR2)
        return active, good

    def mend_file(what):
        active, good = what
        active.machine.write("/etc/haproxy/haproxy.cfg", good)
        active.reload()

    drills.drill("haproxy reloaded", reload, NONE, lost=0)
    if drills.wanted("reload"):
        stays_fit(drills)
    drills.drill("certificate swapped", swap, NONE, lost=0, rounds=1)
    drills.drill("reload of a wrong file", break_file, NONE, lost=0, undo=mend_file, undone="reload of the mended file",
                 rounds=1)


def workers(drills):
    """What happens behind the front and is not to be seen before it."""
    pair = drills.front

    def kill(_):
        pair.workers[0].process.kill()
        return pair.workers[0]

    def restart_each(_):
        for worker in pair.workers:
            if (status := worker.process.stop(20)) != 0:
                drills.check("a worker leaves in order", False, status)
            worker.start()
            lab.until("the worker is back", lambda: worker.up(pair.active()))

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
    """Many slow clients, from one address and from eight, while honest ones are served."""
    pair = drills.front
    if not drills.wanted("slow"):
        return
    attacker = pair.new_client("attacker", 110)
    addresses = [f"10.77.0.{number}" for number in range(111, 119)]
    for address in addresses:
        attacker.must("ip", "address", "add", f"{address}/24", "dev", "eth0")
    script = front.ROOT / "tests" / "deploy" / "slow_clients.py"

    def attack(kind, count, sources):
        def act(_):
            out = attacker.must(sys.executable, script, "--kind", kind, "--count", count, "--sources", ",".join(sources),
                                front.FLOATING, seconds=60)
            outcome.update(json.loads(out))

        return act

    for kind, count, sources, ends, limit in (
            ("head", 200, addresses[:1], {"status 408": 100, "turned away": 100}, 4.5),
            ("head", 400, addresses, {"status 408": 400}, 4.5),
            ("body", 400, addresses, {"status 408": 400}, 4.5),
            ("silent", 400, addresses, {"status 408": 400}, 4.5),
            ("handshake", 400, addresses, {"closed": 400}, 16.5)):
        outcome = {}
        drills.drill(f"slow clients: {count}, {kind}, {len(sources)} addresses", attack(kind, count, sources), 1.0,
                     lost=0, rounds=1, seconds=0)
        drills.check(f"slow clients ({kind}, {len(sources)} addresses) were cut off after {outcome['longest']} s",
                     outcome["counts"] == ends and outcome["longest"] <= limit, outcome)


def greedy_client(drills):
    """One address asks for more than its share."""
    pair = drills.front
    if not drills.wanted("greedy"):
        return
    greedy = pair.new_client("greedy", 102)
    codes = []

    def ask(_):
        out = greedy.must("curl", "-s", "--cacert", "/run/ca.pem", "--connect-to", f"{front.NAME}:443:{front.FLOATING}:443",
                          "-o", "/dev/null", "-w", "%{http_code} ", f"https://{front.NAME}/api/fibonacci/[1-3000]", seconds=60)
        codes.extend(out.split())

    drills.drill("greedy client", ask, NONE, lost=0, rounds=1, seconds=0)
    drills.check(f"a greedy client gets {codes.count('200')} answers, then 429",
                 set(codes) == {"200", "429"} and codes.index("429") >= 2000, codes[-3:])


def facts(drills):
    """What needs no load: TLS, what is closed to the outside, limits, the log."""
    pair, client, check = drills.front, drills.front.client, drills.check
    if not drills.wanted("facts"):
        return

    def code(*arguments, **options):
        return pair.curl("-o", "/dev/null", "-w", "%{http_code}", *arguments, **options).stdout

    answer = pair.curl("-w", " %{http_code} %{http_version}")
    check("curl with --cacert gets F(20) over HTTP/2", answer.stdout == "6765 200 2", answer)
    check("and over HTTP/1.1", pair.curl("--http1.1", "-w", " %{http_version}").stdout == "6765 1.1")
    check("curl without it refuses the certificate", pair.curl(trust=False).returncode == 60)
    check("curl by another name refuses it",
          client.run("curl", "-s", "--cacert", "/run/ca.pem", f"https://{front.FLOATING}/").returncode == 60)
    for version, accepted in (("tls1_1", False), ("tls1_2", True), ("tls1_3", True)):
        said = client.run("openssl", "s_client", f"-{version}", "-cipher", "DEFAULT@SECLEVEL=0", "-connect",
                          f"{front.FLOATING}:443", "-servername", front.NAME, "-CAfile", "/run/ca.pem",
                          "-verify_return_error")
        check(f"{version} is {'accepted' if accepted else 'refused'}", (said.returncode == 0) == accepted, said.stderr)
    head = pair.curl("-I").stdout.lower()
    check("browsers are told to stay with HTTPS", "strict-transport-security: max-age=31536000" in head, head)
    plain = client.must("curl", "-s", "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}",
                        f"http://{front.FLOATING}/api/fibonacci/20")
    check("plain HTTP is sent to HTTPS", plain == f"308 https://{front.FLOATING}/api/fibonacci/20", plain)

    closed = ("/metrics", "/%6detrics", "//metrics", "/api/../metrics", "/api/%2e%2e/metrics", "/healthz", "/readyz",
              "/read%79z", "/alive", "/workers")
    for version in ("--http1.1", "--http2"):
        codes = {path: code(version, "--path-as-is", path=path) for path in closed}
        check(f"{version[2:]}: what is for the inside is 404 outside", set(codes.values()) == {"404"}, codes)
    absolute = code("--http1.1", "--request-target", f"https://{front.NAME}/metrics")
    check("also for a target with a scheme", absolute == "404", absolute)
    inner = client.run("curl", "-s", f"http://{front.FLOATING}:8404/metrics")
    check("the inner port is shut to the outside", inner.returncode != 0 and not inner.stdout, inner)
    address = pair.active().machine.cables[1][2].partition("/")[0]
    metrics = pair.workers[0].machine.must("curl", "-s", f"http://{address}:8404/metrics")
    check("the inside reads haproxy's metrics", 'haproxy_backend_active_servers{proxy="workers"} 3' in metrics)
    check("alerts are about metrics that there are", not (untold := rules.untold(SHIPPED, "haproxy", metrics)), untold)
    rules.check(SHIPPED)

    check("content of 100 bytes passes to a worker, which has no use for it", code("-d", "x" * 100) == "405")
    for words in (["-d", "x" * 5000], ["-H", "Transfer-Encoding: chunked", "-d", "@/bin/ls"]):
        check("larger content is 413", (saw := code("--http1.1", *words)) == "413", saw)
    check("a head beyond 16 KiB is refused", (saw := code("--http1.1", "-H", "X-Long: " + "x" * 20000)) in ("400", "431"), saw)

    log = pair.active().syslog.log()
    check("requests are in the log", '200 208 - - ---- ' in log and '"GET /api/fibonacci/20 HTTP/1.1"' in log, log[-500:])
    check("with a client's address", "10.77.0.101:" in log)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--only", action="append", metavar="WORD", help="drills with this word in their name; `facts`")
    options = options.parse_args()
    lab.enter(seconds=TIME_LIMIT)
    began = time.monotonic()
    with lab.Lab() as net:
        drills = Drills(net, options.rounds, options.only)
        for play in (facts, proxies, machines, changes, workers, slow_clients, greedy_client):
            play(drills)
        drills.tell()
        drills.users.stop()
    print(f"\n{drills.table()}\n\n{drills.noisy} rounds played again, as the machine stood still in them; "
          f"{time.monotonic() - began:.0f} s in all")
    if drills.faults:
        sys.exit("front_test: " + "; ".join(drills.faults))
    print("front_test: all well")


if __name__ == "__main__":
    main()
