"""The options that every load shares, from Python's arguments or the command line's text to a Scenario."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Unpack, get_type_hints

import msgspec

from flatout.errors import UsageError
from flatout.protocols import protocol as by_name
from flatout.scenario import profile as profiles
from flatout.scenario import streams
from flatout.scenario.exchange import exchange_for
from flatout.scenario.model import (
    DEFAULT_CONNECTIONS,
    Scenario,
    Segment,
)
from flatout.scenario.settings import LoadOptions, Number, count, parsed, seconds
from flatout.scenario.settings import rate as rate_per_s
from flatout.scenario.target import split_targets


def scenario_of(
    protocol: str,
    target: str,
    *,
    rate: Number | None,
    duration: Number,
    profile: Sequence[Segment] | str | None,
    profile_format: profiles.Format | None = None,
    **options: Unpack[LoadOptions],
) -> Scenario:
    """A scenario from arguments. Errors: UsageError."""
    given: dict[str, Any] = dict(options)
    if unknown := set(given) - LoadOptions.__annotations__.keys():
        raise UsageError(f"a load has no option {', '.join(sorted(unknown))}")
    given = parsed(given)
    given["options"] = _all_options(protocol, given.get("options", {}))
    tick, many = given.pop("tick", None), given.pop("count", None)
    if tick is not None:
        rate = _ticking(rate, profile, given.get("senders"), tick)
    known = by_name(protocol)
    exchange = exchange_for(known, known.options(**given["options"]), given.get("arrivals"))
    has_rate = rate is not None or profile is not None or many is not None
    segments = exchange.own_schedule(seconds=seconds(duration), has_rate=has_rate) or _profile(
        rate, duration, profile, profile_format
    )
    if many is not None:
        if profile is not None:
            raise UsageError("a count goes with one steady rate: leave the profile out, or the count")
        segments = _counted(segments[0].from_per_s, many, given.get("arrivals"))
    known.for_engine(exchange.options)  # what is wrong with them comes out here
    given = exchange.complete(given, len(split_targets(target)))
    given = streams.completed(_with_transport(protocol, given), known)
    fields = {"protocol": protocol, "target": target, "profile": segments, **given}
    try:
        return msgspec.convert(fields, Scenario)
    except msgspec.ValidationError as error:
        raise UsageError(f"this scenario makes no sense: {error}") from error


def _ticking(rate: Number | None, profile: Any, senders: Any, tick: Number) -> float:
    """The rate of all senders together."""
    if rate is not None or profile is not None:
        raise UsageError("senders at a tick set the rate: give a rate, a profile or a tick")
    if not isinstance(senders, int):
        raise UsageError("a tick is that of each sender: say how many there are (--senders 10k --tick 20)")
    return senders * rate_per_s(tick)


def _counted(per_s: float, many: int | str, arrivals: Any) -> Sequence[Segment]:
    """A steady rate for as long as so many requests take."""
    number = count(many)
    if arrivals not in (None, "constant"):
        raise UsageError("random arrivals have no exact count: leave one out")
    if not isinstance(number, int) or number < 1:
        raise UsageError("a count is a number from 1 on")
    return profiles.steady(per_s, number / per_s)


def _with_transport(protocol: str, given: dict[str, Any]) -> dict[str, Any]:
    """With the transport that the protocol prefers, and as many connections or flows as that has."""
    given["transport"] = given.get("transport") or by_name(protocol).links[0]
    connections = given.pop("connections", None)
    if given["transport"] != "udp":
        if "flows" in given:
            raise UsageError("flows are for datagrams: say --connections instead")
        return {**given, "connections": DEFAULT_CONNECTIONS if connections is None else connections}
    if connections is not None and "flows" in given:
        raise UsageError("over udp --connections means --flows: give one of them")
    return given if connections is None else {**given, "flows": connections}


def _profile(
    rate: Number | None,
    duration: Number,
    profile: Sequence[Segment] | str | None,
    profile_format: profiles.Format | None,
) -> Sequence[Segment]:
    if isinstance(profile, str):
        return profiles.parse(profile, profile_format, None if rate is None else rate_per_s(rate))
    if profile is not None:
        if rate is not None:
            raise UsageError("give a rate or a profile, not both")
        return tuple(profile)
    if rate is None:
        raise UsageError("a load needs a rate (such as 100k) or a profile")
    return profiles.steady(rate_per_s(rate), seconds(duration))


def _all_options(protocol: str, given: dict[str, Any]) -> dict[str, Any]:
    """The protocol's options with defaults filled in and types checked."""
    protocol_options = by_name(protocol).options
    hints = get_type_hints(protocol_options)
    names = {field.name for field in dataclasses.fields(protocol_options)}
    if unknown := set(given) - names:
        raise UsageError(
            f"{protocol} has no option {', '.join(sorted(unknown))} (it has: {', '.join(sorted(names)) or 'none'})"
        )
    try:
        checked = {name: msgspec.convert(value, hints[name]) for name, value in given.items()}
    except msgspec.ValidationError as error:
        raise UsageError(f"options of {protocol}: {error}") from error
    return dataclasses.asdict(protocol_options(**checked))
