"""What a scenario asks of connections: whether its protocol has them, defaults, whether the settings fit together.

Pure: settings in, words out; what the host can give is looked at elsewhere.
"""

from __future__ import annotations

import datetime
import math
from typing import Any

from flatout.errors import ArgumentError, UsageError
from flatout.protocols.base import Protocol
from flatout.scenario import nodes, requirement
from flatout.scenario.model import Scenario

_PLAIN = Scenario(protocol="", target="", profile=())
# What only connections have, with the flag that asks for it.
_STREAM_SETTINGS = {
    "connect_rate_per_s": "--connect-rate",
    "connect_timeout_s": "--connect-timeout",
    "churn": "--churn",
    "hold": "--hold",
    "reconnect": "--reconnect",
    "io": "--io",
    "tls": "--tls-…",
}
_LONGEST_CONNECT_S = 600.0
_FASTEST_PER_S = 10e6
# Connections may take longer to open than asked.
_OPENING_FACTOR = 1.3


def has_streams(spoken: Protocol) -> bool:
    """Whether connections can carry it."""
    return any(link != "udp" for link in spoken.links)


def completed(given: dict[str, Any], spoken: Protocol) -> dict[str, Any]:
    """The settings with the protocol's own default for connections that the target ends."""
    if given.get("reconnect") is None:
        return {**given, "reconnect": spoken.reopens and given["transport"] != "udp"}
    return given


def check(scenario: Scenario, spoken: Protocol) -> None:
    """Errors: UsageError for settings that do not fit together."""
    _check_link(scenario, spoken)
    if scenario.node is not None:
        nodes.check(scenario.node)
    if scenario.share is not None:
        nodes.check_share(scenario.share)
    if scenario.queries is not None and not spoken.default_lines:
        raise UsageError(f"{spoken.name} reads no query file: leave --queries out")
    if scenario.streams:
        _check_numbers(scenario)
    elif found := [text for text in scenario.require if requirement.on_connections(text)]:
        raise UsageError(f"requirement '{found[0]}' is about connections, which udp does not have")
    if scenario.tls != _PLAIN.tls and scenario.transport != "tls":
        raise UsageError("settings of TLS need --transport tls")
    if scenario.start_at is not None:
        unix_ns(scenario.start_at)


def _check_link(scenario: Scenario, spoken: Protocol) -> None:
    if scenario.transport not in spoken.links:
        known = ", ".join(spoken.links)
        raise UsageError(f"{spoken.name} is not spoken over {scenario.transport} here: it has {known}")
    if scenario.streams:
        if scenario.gso:
            raise UsageError("--gso is for datagrams: leave it out over connections")
        return
    for name, flag in _STREAM_SETTINGS.items():
        if getattr(scenario, name) != getattr(_PLAIN, name):
            others = [link for link in spoken.links if link != "udp"]
            remedy = f"add --transport {others[0]}" if others else f"{spoken.name} has none"
            raise UsageError(f"{flag} is for connections, which udp does not have: {remedy}")


def _check_numbers(scenario: Scenario) -> None:
    if scenario.askers < 1:
        raise UsageError("a load needs at least one connection")
    if scenario.churn < 0 or scenario.hold < 0 or scenario.churn >= 2**32:
        raise UsageError("--churn and --hold are numbers from 0 on")
    if not 0 < scenario.connect_rate_per_s <= _FASTEST_PER_S:
        raise ArgumentError(
            "connect_rate", f"={scenario.connect_rate_per_s:g}: give a rate above 0 and at most {_FASTEST_PER_S:,.0f}/s"
        )
    if not 0 < scenario.connect_timeout_s <= _LONGEST_CONNECT_S:
        raise ArgumentError(
            "connect_timeout",
            f"={scenario.connect_timeout_s:g}: give a time above 0 s and at most {_LONGEST_CONNECT_S:.0f} s",
        )


def askers(scenario: Scenario) -> int:
    """How many connections or flows of this node send requests."""
    return nodes.part(scenario.askers, scenario.node, scenario.share)


def connections(scenario: Scenario) -> int:
    """How many connections or flows this node keeps open, those that only wait among them."""
    return askers(scenario) + nodes.part(scenario.hold, scenario.node, scenario.share)


def opening_s(scenario: Scenario) -> float:
    """How long opening them takes at least."""
    return connections(scenario) / scenario.connect_rate_per_s if scenario.streams else 0.0


def longest_opening_s(scenario: Scenario) -> float:
    """How long it may take until each connection of a node is open or has failed, on a host that is in time."""
    if not scenario.streams:
        return 0.0
    # Each node has its part of the connections and of the rate; the target may have two addresses.
    return (
        _OPENING_FACTOR * (scenario.askers + scenario.hold) / scenario.connect_rate_per_s
        + 2 * scenario.connect_timeout_s
    )


def unix_ns(moment: str) -> int:
    """A moment from text: seconds since 1970, or RFC 3339 with its zone."""
    try:
        seconds = float(moment)
    except ValueError:
        seconds = _rfc3339_s(moment)
    if not (math.isfinite(seconds) and 0 < seconds < 2**33):
        raise UsageError(f"start '{moment}': write it like 2026-03-14T15:09:26Z or 1773500966")
    return round(seconds * 1e9)


def _rfc3339_s(moment: str) -> float:
    try:
        found = datetime.datetime.fromisoformat(moment)
    except ValueError:
        return math.nan
    if found.tzinfo is None:
        raise UsageError(f"start '{moment}' names no time zone: add Z or an offset such as +01:00")
    return found.timestamp()
