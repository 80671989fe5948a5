"""The options that every load shares, from Python's arguments or the command line's text to a Scenario."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypedDict, Unpack, get_type_hints

import msgspec

from flatout import units
from flatout.errors import UsageError
from flatout.scenario import profile as profiles
from flatout.scenario.model import Arrivals, Scenario, Segment, Stamps
from flatout.scenario.plan import protocol as by_name

Number = float | int | str


class LoadOptions(TypedDict, total=False):
    """Keyword arguments of `load` and `limit`, with the command line's names and defaults.

    `warmup`, `timeout`: s or text; `options`: the protocol's own knobs by name.
    """

    warmup: Number
    timeout: Number
    flows: int
    sources: Sequence[str]
    arrivals: Arrivals
    seed: int
    threads: int
    cpus: Sequence[int]
    stamps: Stamps
    gso: bool
    require: Sequence[str]
    log: str | None
    allow_public: bool
    options: dict[str, Any]


def scenario_of(
    protocol: str,
    target: str,
    *,
    rate: Number | None,
    duration: Number,
    profile: Sequence[Segment] | str | None,
    **options: Unpack[LoadOptions],
) -> Scenario:
    """A scenario from arguments. Errors: UsageError."""
    given: dict[str, Any] = dict(options)
    if unknown := set(given) - LoadOptions.__annotations__.keys():
        raise UsageError(f"a load has no option {', '.join(sorted(unknown))}")
    for name in ("warmup", "timeout"):
        if name in given:
            given[f"{name}_s"] = seconds(given.pop(name))
    given["options"] = _all_knobs(protocol, given.get("options", {}))
    fields = {"protocol": protocol, "target": target, "profile": _profile(rate, duration, profile), **given}
    try:
        return msgspec.convert(fields, Scenario)
    except msgspec.ValidationError as error:
        raise UsageError(f"this scenario makes no sense: {error}") from error


def seconds(value: Number) -> float:
    """A duration in s, from a number or text."""
    return units.duration(value) if isinstance(value, str) else float(value)


def _profile(rate: Number | None, duration: Number, profile: Sequence[Segment] | str | None) -> Sequence[Segment]:
    if profile is not None:
        if rate is not None:
            raise UsageError("give a rate or a profile, not both")
        return profiles.parse(profile) if isinstance(profile, str) else tuple(profile)
    if rate is None:
        raise UsageError("a load needs a rate (such as 100k) or a profile")
    return profiles.steady(_rate(rate), seconds(duration))


def _rate(value: Number) -> float:
    return units.rate(value if isinstance(value, str) else repr(float(value)))


def _all_knobs(protocol: str, given: dict[str, Any]) -> dict[str, Any]:
    """The protocol's knobs with defaults filled in and types checked."""
    knobs = by_name(protocol).knobs
    hints = get_type_hints(knobs)
    names = {field.name for field in dataclasses.fields(knobs)}
    if unknown := set(given) - names:
        raise UsageError(
            f"{protocol} has no option {', '.join(sorted(unknown))} (it has: {', '.join(sorted(names)) or 'none'})"
        )
    try:
        checked = {name: msgspec.convert(value, hints[name]) for name, value in given.items()}
    except msgspec.ValidationError as error:
        raise UsageError(f"options of {protocol}: {error}") from error
    return dataclasses.asdict(knobs(**checked))
