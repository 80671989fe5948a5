"""The options that every load shares, from Python's arguments or the command line's text to a Scenario."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import msgspec

from flatout import arguments, units
from flatout.errors import ArgumentError, UsageError
from flatout.protocols import protocol as by_name
from flatout.protocols.base import checked_options
from flatout.scenario import profile as profiles
from flatout.scenario import streams
from flatout.scenario.exchange import exchange_for
from flatout.scenario.model import (
    DEFAULT_CONNECTIONS,
    Scenario,
    Segment,
)
from flatout.scenario.settings import LoadOptions, Number, Path, parsed
from flatout.scenario.target import split_targets


def scenario_of(
    protocol: str,
    target: str,
    *,
    rate: Number | None,
    duration: Number,
    profile: Sequence[Segment] | Path | None,
    profile_format: profiles.Format | None = None,
    **options: Unpack[LoadOptions],
) -> Scenario:
    """A scenario from arguments. Errors: UsageError."""
    targets = split_targets(target)
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
    segments = exchange.own_schedule(seconds=units.seconds("duration", duration), has_rate=has_rate) or _profile(
        rate, duration, profile, profile_format
    )
    if many is not None:
        if profile is not None:
            raise UsageError("a count goes with one steady rate: leave the profile out, or the count")
        segments = _counted(segments[0].from_per_s, many, given.get("arrivals"))
    known.for_engine(exchange.options)  # what is wrong with them comes out here
    given = exchange.complete(given, len(targets))
    given = streams.completed(_with_transport(protocol, given), known)
    fields = {"protocol": protocol, "target": target, "profile": segments, **given}
    try:
        return msgspec.convert(fields, Scenario)
    except msgspec.ValidationError as error:
        raise UsageError(f"this scenario makes no sense: {error}") from error


def _ticking(rate: Number | None, profile: Any, senders: Any, tick: float) -> float:
    """The rate of all senders together."""
    if rate is not None or profile is not None:
        raise UsageError("senders at a tick set the rate: give a rate, a profile or a tick")
    if not isinstance(senders, int):
        raise UsageError("a tick is that of each sender: say how many there are (--senders 10k --tick 20)")
    return senders * tick


def _counted(per_s: float, many: int, arrivals: Any) -> Sequence[Segment]:
    """A steady rate for as long as so many requests take."""
    if arrivals not in (None, "constant"):
        raise UsageError("random arrivals have no exact count: leave one out")
    if many < 1:
        raise ArgumentError("count", f"={many}: give a number from 1 on")
    return profiles.steady(per_s, many / per_s)


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
    if connections == 0:
        raise ArgumentError("connections", "=0: over udp they are flows, and a load needs one: give at least 1")
    return given if connections is None else {**given, "flows": connections}


def _profile(
    rate: Number | None,
    duration: Number,
    profile: Sequence[Segment] | Path | None,
    profile_format: profiles.Format | None,
) -> Sequence[Segment]:
    if isinstance(profile, str | bytes | os.PathLike):
        # Slopes may begin at nothing.
        start_per_s = None if rate is None else arguments.rate("rate", rate, or_none=True)
        return profiles.parse(profile, profile_format, start_per_s)
    if profile_format is not None:
        raise ArgumentError("profile_format", f"={profile_format!r}: it says how a profile's text is read: give one")
    if profile is not None:
        if rate is not None:
            raise UsageError("give a rate or a profile, not both")
        return _segments(profile)
    if rate is None:
        raise UsageError("a load needs a rate (such as 100k) or a profile")
    lasting_s = units.seconds("duration", duration)
    if not lasting_s:
        raise ArgumentError("duration", f"={duration!r}: give a time above 0 s")
    return profiles.steady(arguments.rate("rate", rate), lasting_s)


def _segments(profile: Sequence[Segment]) -> Sequence[Segment]:
    """The segments themselves. Errors: ArgumentError for anything else."""
    takes = "give text, the name of a file, or a list of flatout.Segment(seconds, from_per_s, to_per_s)"
    segments = tuple(profile) if hasattr(type(profile), "__iter__") else None
    if segments is None or not all(isinstance(segment, Segment) for segment in segments):
        raise ArgumentError("profile", f"={profile!r}: {takes}")
    for number, segment in enumerate(segments):
        if any(math.isnan(units.real(value)) for value in msgspec.structs.astuple(segment)):
            raise ArgumentError(f"profile[{number}]", f"={segment!r}: give three numbers")
    return segments


def _all_options(protocol: str, given: dict[str, Any]) -> dict[str, Any]:
    """The protocol's options with defaults filled in and types checked."""
    known = by_name(protocol)
    if not isinstance(given, Mapping):
        raise ArgumentError("options", f"={given!r}: give the options of {protocol} by name")
    return dataclasses.asdict(checked_options(known.options, given, known.name, "options[{!r}]"))
