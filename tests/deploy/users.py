"""Two users of the front pair, who ask all the time, and what they saw of a disturbance.

Each asks fifty times a second: one with a connection for each request, the other on four kept connections. The longest
time between two good answers to the first is the time without service; failed requests are those of both.
"""

import collections
import dataclasses

import front


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
