"""What a scenario asks where each request leaves when the last one has ended: one at a time for each thread.

Pure: settings in, words out. It times single round trips and is no load: a target that is slow is asked slowly.
"""

from __future__ import annotations

from typing import Any

from flatout.errors import UsageError
from flatout.scenario.model import Scenario

_PLAIN = Scenario(protocol="", target="", profile=())
# What only such runs have, with the flag that asks for it.
_SETTINGS = {"wait": "--wait", "busy_poll_us": "--busy-poll"}
_LONGEST_BUSY_POLL_US = 1_000_000


def completed(given: dict[str, Any], targets: int) -> dict[str, Any]:
    """The arguments of such a run, with as many flows as can have a request under way where no number is named."""
    node = given.get("node")
    threads = given.get("threads", _PLAIN.threads) * (node[1] if node else 1)
    return given if given.get("connections") is not None else {"flows": threads * targets, **given}


def check(scenario: Scenario, *, one_way: bool) -> None:
    """Errors: UsageError for settings that do not fit together."""
    if not scenario.ping_pong:
        for name, flag in _SETTINGS.items():
            if getattr(scenario, name) != getattr(_PLAIN, name):
                raise UsageError(f"{flag} is for --arrivals ping-pong: leave it out")
        return
    if one_way:
        raise UsageError("ping-pong needs answers, and nobody answers these messages")
    if scenario.streams:
        raise UsageError("ping-pong goes over udp alone: there is none over connections")
    if scenario.gso:
        raise UsageError("ping-pong sends one at a time, so there is nothing for --gso to cut apart")
    if not 0 <= scenario.busy_poll_us <= _LONGEST_BUSY_POLL_US:
        raise UsageError("--busy-poll: give 1us to 1s")


def notes(scenario: Scenario, *, loopback: bool) -> list[str]:
    """What is worth knowing of such a run before it begins."""
    if scenario.busy_poll_us and loopback:
        return ["loopback has no receive queue to poll: --busy-poll changes nothing here"]
    return []
