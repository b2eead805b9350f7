"""Two users of the front pair, who ask all the time, and what they saw of a disturbance.

Each asks fifty times a second: one with a connection for each request, the other on four kept connections. The longest
time between two good answers to the first is the time without service; failed requests are those of both. A bystander
tells what of that was the machine's fault, on which all of the laboratory runs.
"""

import collections
import dataclasses

import front
import load_client


@dataclasses.dataclass
class Seen:
    """By both of them together, of the requests that began within a time."""

    gap: float
    requests: int
    failed: int
    failures: collections.Counter
    answered: dict
    """The numbers of the requests that were answered well, by who has asked."""


class Users:
    def __init__(self, pair, seconds, url=front.URL):
        self.each = pair.load(url=url, seconds=seconds, number="each")
        self.kept = pair.load(pair.new_client("keeper", 106), url, seconds=seconds, kept=4, number="kept")

    def saw(self, since, until):
        """Of the requests that began between two moments; waits until all of them have ended."""
        each, kept = (client.during(since, until - since) for client in (self.each, self.kept))
        return Seen(each.gap, each.requests + kept.requests, each.failed + kept.failed, each.failures + kept.failures,
                    {"each": each.answered, "kept": kept.answered})

    def stop(self):
        for client in (self.each, self.kept):
            client.stop()


class Bystander:
    """A machine with a server and a client of its own, which nothing disturbs but a standstill of the whole laboratory."""

    CALM = 0.25
    """The longest gap between its answers that is no such standstill."""

    def __init__(self, pair, seconds):
        machine = pair.net.machine("bystander", (pair.outside, "10.77.0.90/24"))
        machine.start(front.BINARY)
        self.client = load_client.start(machine, "http://10.77.0.90:3000/api/fibonacci/20", seconds=seconds)

    def standstill(self, since, until):
        """How long it was not served either, in seconds; nothing if that is within bounds."""
        gap = load_client.Summary(self.client.records(), since, until).gap
        return gap if gap >= self.CALM else 0.0
