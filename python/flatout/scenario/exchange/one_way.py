"""One-way messages: who sends them, at which tick, and whether that fits together.

What arrives of them the receiver says; it is asked elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flatout.errors import UsageError
from flatout.protocols.base import Protocol, ReceiverLayout
from flatout.scenario import requirement
from flatout.scenario.exchange.base import PLAIN, Exchange
from flatout.scenario.exchange.wording import ONE_WAY
from flatout.scenario.model import Scenario

_MOST_SENDERS = 2**32 - 1
# The default: as many as a busy game has, and few enough for each to send more than once in a short run.
_SENDERS = 10_000


class OneWay(Exchange):
    """Messages of many senders, without replies."""

    name = "one-way"
    wording = ONE_WAY
    one_way = True

    def complete(self, given: Mapping[str, Any], targets: int) -> dict[str, Any]:
        """No warm-up, and as many senders and flows as the format and the threads allow."""
        if "timeout_s" in given:
            raise UsageError("nothing comes back, so there is no time-out to set: leave it out")
        if isinstance(given.get("senders"), int):
            _check_number(given["senders"])
        node = given.get("node")
        threads = given.get("threads", PLAIN.threads) * (node[1] if node else 1)
        identities = _identities(self.protocol, self.options)
        flows = given["flows"] if isinstance(given.get("flows"), int) else PLAIN.flows
        usual = max(min(_SENDERS, flows if identities is None else identities), threads * targets)
        filled = {"warmup_s": 0.0, "senders": usual, **given}
        if given.get("connections") is None and isinstance(filled["senders"], int):
            # A sender has one flow: more flows than senders would never be used.
            filled.setdefault("flows", max(min(filled["senders"], PLAIN.flows), 1))
        return filled

    def check_own(self, scenario: Scenario, targets: int) -> None:
        """Errors: UsageError for settings that do not fit together."""
        if scenario.warmup_s > 0:
            raise UsageError(f"{self.protocol.name} has no warm-up: its receiver counts all that arrives")
        for expression in scenario.require:
            if requirement.on_answers(expression):
                raise UsageError(
                    f"requirement '{expression}': {self.protocol.name} messages are not answered, so it has no meaning"
                )
        _check_senders(scenario)
        _check_distinct_senders(scenario, self.protocol, self.options)
        needed = scenario.threads * (scenario.node[1] if scenario.node else 1) * targets
        if targets > 1 and scenario.senders < needed:
            raise UsageError(
                f"each of {targets} targets needs a sender of each thread: ask for --senders {needed} or more"
            )

    def check_search(self, *, p99: bool) -> None:
        """There is no latency to limit. Errors: UsageError."""
        if p99:
            raise UsageError("--p99 is a goal for answers, and one-way messages have none: leave it out")

    @property
    def receiver_layout(self) -> ReceiverLayout | None:
        """The length of a message, and where the identity and the number are in it."""
        return None if self.protocol.receiver_layout is None else self.protocol.receiver_layout(self.options)


def _identities(protocol: Protocol, protocol_options: Any) -> int | None:
    """How many senders a receiver can distinguish; None: by their addresses only."""
    return protocol.max_senders(protocol_options) if protocol.max_senders is not None else None


def _check_senders(scenario: Scenario) -> None:
    threads = scenario.threads * (scenario.node[1] if scenario.node else 1)
    _check_number(scenario.senders)
    if scenario.senders < threads:
        of = "threads of all nodes" if scenario.node else "threads"
        raise UsageError(f"{threads} {of} need at least one sender each: ask for --senders {threads} or more")
    if not 0.0 <= scenario.spread <= 1.0:
        raise UsageError("--spread is a share of a tick: 0 (all at once) to 1 (evenly over all of it)")
    if scenario.spread < 1.0 and scenario.arrivals != "constant":
        raise UsageError("--spread moves senders within their tick, and random arrivals have none: leave one out")


def _check_distinct_senders(scenario: Scenario, protocol: Protocol, protocol_options: Any) -> None:
    """Senders that a receiver takes for one would seem to repeat each other's numbers."""
    identities = _identities(protocol, protocol_options)
    if scenario.senders <= (scenario.flows if identities is None else identities):
        return
    if identities is None:
        raise UsageError(
            f"{scenario.senders:,} senders over {scenario.flows:,} flows: the format has no identity, so a receiver "
            "tells them apart by address alone: ask for no more --senders than --flows"
        )
    raise UsageError(f"{scenario.senders:,} senders: the format's identity tells no more than {identities:,} apart")


def _check_number(senders: int) -> None:
    if not 1 <= senders <= _MOST_SENDERS:
        raise UsageError(f"the number of senders (--senders) goes from 1 to {_MOST_SENDERS:,}")
