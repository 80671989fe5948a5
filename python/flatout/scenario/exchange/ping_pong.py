"""Ping-pong: each thread has one outstanding request, and the next leaves when that has ended.

It times single round trips and is no load: a slow target gets few requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flatout.errors import UsageError
from flatout.scenario.exchange.base import PLAIN, Exchange, steady_without_rate
from flatout.scenario.model import Scenario, Segment

_LONGEST_BUSY_POLL_US = 1_000_000


class PingPong(Exchange):
    """One request at a time for each thread."""

    name = "ping-pong"
    may_sleep = True

    def complete(self, given: Mapping[str, Any], targets: int) -> dict[str, Any]:
        """As many flows as can have an outstanding request, where no number is named."""
        if (given.get("transport") or self.protocol.links[0]) != "udp" or given.get("connections") is not None:
            return dict(given)
        node = given.get("node")
        threads = given.get("threads", PLAIN.threads) * (node[1] if node else 1)
        return {"flows": threads * targets, **given}

    def own_schedule(self, *, seconds: float, has_rate: bool) -> Sequence[Segment] | None:
        """A stretch of time without a rate."""
        if has_rate:
            raise UsageError("ping-pong goes at the pace of the answers: leave the rate, the profile and the count out")
        return steady_without_rate(seconds)

    def check_own(self, scenario: Scenario, targets: int) -> None:  # noqa: ARG002
        """Errors: UsageError for settings that do not fit together."""
        if self.protocol.one_way is not None and self.protocol.one_way(self.options):
            raise UsageError("ping-pong needs answers, and these are one-way messages")
        if scenario.streams:
            raise UsageError("ping-pong goes over udp alone: there is none over connections")
        if scenario.gso:
            raise UsageError("ping-pong sends one at a time, so there is nothing for --gso to cut apart")
        if not 0 <= scenario.busy_poll_us <= _LONGEST_BUSY_POLL_US:
            raise UsageError("--busy-poll: give 1us to 1s")

    def notes(self, scenario: Scenario, *, loopback: bool) -> list[str]:
        """Whether busy polling has an effect."""
        if scenario.busy_poll_us and loopback:
            return ["loopback has no receive queue to poll: --busy-poll changes nothing here"]
        return []
