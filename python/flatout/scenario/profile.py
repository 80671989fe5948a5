"""Rate profiles as text: steps, ramps and slopes, in one line or one a line.

1000 8s, 2000 5s        a step each: rate, duration
10k..200k 30s           from one rate to another
1000 8s, +500/s 10s     a slope: the rate grows by 500 a second from where it was (also -500/s)
"""

from __future__ import annotations

import re
from pathlib import Path

from flatout import units
from flatout.errors import UsageError
from flatout.scenario.model import Segment

_SLOPE = re.compile(r"([+-][^/\s]+)/s\s+(\S+)")
_RAMP = re.compile(r"(\S+?)\.\.(\S+)(?:\s+(\S+))?")
_STEP = re.compile(r"(\S+)\s+(\S+)")


def steady(rate_per_s: float, seconds: float) -> tuple[Segment, ...]:
    """One rate all the time."""
    return (_segment(seconds, rate_per_s, rate_per_s),)


def ramp(text: str, seconds: float) -> tuple[Segment, ...]:
    """`10k..200k`: from one rate to another over `seconds`."""
    found = _RAMP.fullmatch(text.strip())
    if not found or found[3]:
        raise UsageError(f"ramp '{text}': write it like 10k..200k")
    return (_segment(seconds, units.rate(found[1]), units.rate(found[2])),)


def parse(text: str) -> tuple[Segment, ...]:
    """A profile from text, or from the file that `text` names."""
    if not re.search(r"\s", text.strip()):
        text = _read(text)
    parts = [part.strip() for line in text.splitlines() for part in line.split("#")[0].split(",")]
    segments: list[Segment] = []
    for part in filter(None, parts):
        segments.append(_parse_part(part, segments[-1].to_per_s if segments else 0.0))
    if not segments:
        raise UsageError("the profile is empty: write it like '1000 8s, 2000 5s'")
    if not any(segment.from_per_s or segment.to_per_s for segment in segments):
        raise UsageError("the profile asks for no request at all")
    return tuple(segments)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UsageError(f"profile '{path}' is neither a file that can be read nor like '1000 8s': {error}") from error


def _parse_part(part: str, before_per_s: float) -> Segment:
    if found := _SLOPE.fullmatch(part):
        sign = -1 if found[1].startswith("-") else 1
        seconds = units.duration(found[2])
        end = before_per_s + sign * units.rate(found[1][1:]) * seconds
        if end < 0:
            raise UsageError(f"profile '{part}': the rate would fall below 0")
        return _segment(seconds, before_per_s, end)
    if (found := _RAMP.fullmatch(part)) and found[3]:
        return _segment(units.duration(found[3]), _rate_or_rest(found[1]), _rate_or_rest(found[2]))
    if found := _STEP.fullmatch(part):
        per_s = _rate_or_rest(found[1])
        return _segment(units.duration(found[2]), per_s, per_s)
    raise UsageError(f"profile '{part}': write steps like '1000 8s', ramps like '1k..2k 8s', slopes like '+500/s 8s'")


def _rate_or_rest(text: str) -> float:
    return 0.0 if text == "0" else units.rate(text)


def _segment(seconds: float, from_per_s: float, to_per_s: float) -> Segment:
    if seconds <= 0:
        raise UsageError("a load must last longer than 0 s")
    return Segment(seconds, from_per_s, to_per_s)
