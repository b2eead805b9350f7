"""Continuous traffic to the proxy pair during failure drills, and a control client.

Two clients send 50 requests per second each: one with a new connection for each request, the other on four keep-alive
connections. The outage is the longest time between two good responses to the first; failed requests are those of both. The
control client measures stalls of the host itself.
"""

import collections
import dataclasses

import proxy_pair
import load_client


@dataclasses.dataclass
class Seen:
    """Results of both clients for the requests started in a time window."""

    gap: float
    requests: int
    failed: int
    failures: collections.Counter
    answered: dict
    """Numbers of the successful requests by client."""


class Traffic:
    def __init__(self, pair, seconds, url=proxy_pair.URL):
        self.each = pair.load(url=url, seconds=seconds, number="each")
        self.keep_alive = pair.load(pair.new_client("keeper", 106), url, seconds=seconds, keep_alive=4, number="keep-alive")

    def results(self, since, until):
        """Returns the results for the requests started in a window, after all of them have ended."""
        each, keep_alive = (client.during(since, until - since) for client in (self.each, self.keep_alive))
        return Seen(each.gap, each.requests + keep_alive.requests, each.failed + keep_alive.failed, each.failures + keep_alive.failures,
                    {"each": each.answered, "keep-alive": keep_alive.answered})

    def stop(self):
        for client in (self.each, self.keep_alive):
            client.stop()


class ControlClient:
    """A machine with its own server and client, which only a stall of the whole host affects."""

    STALL_THRESHOLD = 0.25
    """Shorter gaps between responses are not counted as a stall."""

    def __init__(self, pair, seconds):
        machine = pair.net.machine("control", (pair.public, "10.77.0.90/24"))
        machine.start(proxy_pair.BINARY)
        self.client = load_client.start(machine, "http://10.77.0.90:3000/api/fibonacci/20", seconds=seconds)

    def stall(self, since, until):
        """Returns the duration of a stall in the window in seconds, or 0."""
        gap = load_client.Summary(self.client.records(), since, until).gap
        return gap if gap >= self.STALL_THRESHOLD else 0.0
