"""What a scenario asks of messages that nobody answers: who sends them, at which tick, whether that fits together.

Pure: settings in, words out. What arrives of them is asked elsewhere.
"""

from __future__ import annotations

from typing import Any

from flatout.errors import UsageError
from flatout.protocols.base import Protocol
from flatout.scenario import requirement
from flatout.scenario.model import Scenario

_PLAIN = Scenario(protocol="", target="", profile=())
# What only such messages have, with the flag that asks for it.
_SETTINGS = {"senders": "--senders", "spread": "--spread"}
_MOST_SENDERS = 2**32 - 1
# Unless told: as many as a busy game has, and few enough for each to send more than once in a short run.
_SENDERS = 10_000


def is_one_way(spoken: Protocol, protocol_options: Any) -> bool:
    """Whether nothing comes back for messages with these knobs."""
    return spoken.one_way is not None and spoken.one_way(protocol_options)


def check(scenario: Scenario, spoken: Protocol, protocol_options: Any, *, one_way: bool, targets: int) -> None:
    """Errors: UsageError for settings that do not fit together."""
    if not one_way:
        for name, flag in _SETTINGS.items():
            if getattr(scenario, name) != getattr(_PLAIN, name):
                raise UsageError(f"{flag} is for messages that nobody answers: leave it out")
        return
    if scenario.warmup_s > 0:
        raise UsageError(f"{spoken.name} has no warm-up: its receiver counts all that arrives")
    for expression in scenario.require:
        if requirement.on_answers(expression):
            raise UsageError(
                f"requirement '{expression}': {spoken.name} messages are not answered, so it has no meaning"
            )
    _check_senders(scenario)
    _check_distinct_senders(scenario, spoken, protocol_options)
    needed = scenario.threads * (scenario.node[1] if scenario.node else 1) * targets
    if targets > 1 and scenario.senders < needed:
        raise UsageError(f"each of {targets} targets needs a sender of each thread: ask for --senders {needed} or more")


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


def _check_distinct_senders(scenario: Scenario, spoken: Protocol, protocol_options: Any) -> None:
    """Senders that a receiver takes for one would seem to repeat each other's numbers."""
    names = spoken.max_senders(protocol_options) if spoken.max_senders is not None else None
    if scenario.senders <= (scenario.flows if names is None else names):
        return
    if names is None:
        raise UsageError(
            f"{scenario.senders:,} senders over {scenario.flows:,} flows: the format has no identity, so a receiver "
            "tells them apart by address alone: ask for no more --senders than --flows"
        )
    raise UsageError(f"{scenario.senders:,} senders: the format's identity tells no more than {names:,} apart")


def _check_number(senders: int) -> None:
    if not 1 <= senders <= _MOST_SENDERS:
        raise UsageError(f"the number of senders (--senders) goes from 1 to {_MOST_SENDERS:,}")


def completed(given: dict[str, Any], targets: int, spoken: Protocol, protocol_options: Any) -> dict[str, Any]:
    """The arguments of such a load with what it has instead of the usual defaults."""
    if "timeout_s" in given:
        raise UsageError("nothing comes back, so there is no time-out to set: leave it out")
    if isinstance(given.get("senders"), int):
        _check_number(given["senders"])
    node = given.get("node")
    threads = given.get("threads", _PLAIN.threads) * (node[1] if node else 1)
    names = spoken.max_senders(protocol_options) if spoken.max_senders is not None else None
    flows = given["flows"] if isinstance(given.get("flows"), int) else _PLAIN.flows
    usual = max(min(_SENDERS, flows if names is None else names), threads * targets)
    filled = {"warmup_s": 0.0, "senders": usual, **given}
    if given.get("connections") is None and isinstance(filled["senders"], int):
        # A sender has one flow: more flows than senders would never be used.
        filled.setdefault("flows", max(min(filled["senders"], _PLAIN.flows), 1))
    return filled
