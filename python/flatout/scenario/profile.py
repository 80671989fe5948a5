"""Rate profiles as text: steps, ramps and slopes, in one line or one a line.

1000 8s, 2000 5s        a step each: rate, duration
10k..200k 30s           from one rate to another
1000 8s, +500/s 10s     a slope: the rate grows by 500 a second from where it was (also -500/s)

Three other forms, which have to be named unless they cannot be mistaken:

slopes                  `700 8000ms, -400 5s`: slopes alone, from a rate that is given beside them
tcpscaler-steps         tcpclient's --stdin: the number of lines, then lines of `<ms> <rate>`
tcpscaler-slopes        its --stdin-rateslope: the same with `<ms> <slope>`, from a rate that is given beside them
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

from flatout import units
from flatout.errors import UsageError
from flatout.scenario.model import Segment

Format = Literal["rates", "slopes", "tcpscaler-steps", "tcpscaler-slopes"]
_SLOPE = re.compile(r"([+-][^/\s]+)/s\s+(\S+)")
_RAMP = re.compile(r"(\S+?)\.\.(\S+)(?:\s+(\S+))?")
_STEP = re.compile(r"(\S+)\s+(\S+)")
# A rate is never negative, so a line like this is a slope.
_BARE_SLOPE = re.compile(r"([+-]?)([0-9.]+[kKmM]?)(?:/s)?\s+([0-9.]+\s*[a-zµ]+)")
_FALLING = re.compile(r"-[0-9.]+[kKmM]?\s+\S+")
_COUNTED = re.compile(r"([0-9]+)\s+(-?[0-9]+(?:\.[0-9]+)?)")


def steady(rate_per_s: float, seconds: float) -> tuple[Segment, ...]:
    """One rate all the time."""
    return (_segment(seconds, rate_per_s, rate_per_s),)


def ramp(text: str, seconds: float) -> tuple[Segment, ...]:
    """`10k..200k`: from one rate to another over `seconds`."""
    found = _RAMP.fullmatch(text.strip())
    if not found or found[3]:
        raise UsageError(f"ramp '{text}': write it like 10k..200k")
    return (_segment(seconds, units.rate(found[1]), units.rate(found[2])),)


def parse(text: str, form: Format | None = None, start_per_s: float | None = None) -> tuple[Segment, ...]:
    """A profile from text, from the file that `text` names, or from standard input (`-`).

    `start_per_s` is where slopes begin, and goes with nothing else.
    """
    if not re.search(r"\s", text.strip()):
        text = sys.stdin.read() if text == "-" else _read(text)
    form = form or _form(text)
    if form not in get_args(Format):
        raise UsageError(f"profile format '{form}' is not one of {', '.join(get_args(Format))}")
    if start_per_s is not None and not form.endswith("slopes"):
        raise UsageError("give a rate or a profile, not both (a profile of slopes begins at the rate)")
    segments = _PARSERS[form](text, start_per_s or 0.0)
    if not segments:
        raise UsageError("the profile is empty: write it like '1000 8s, 2000 5s'")
    if not any(segment.from_per_s or segment.to_per_s for segment in segments):
        raise UsageError("the profile asks for nothing at all")
    return tuple(segments)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UsageError(f"profile '{path}' is neither a file that can be read nor like '1000 8s': {error}") from error


def _form(text: str) -> Format:
    """Which form a text has, where only one is possible."""
    parts = _parts(text)
    if parts and re.fullmatch(r"[0-9]+", parts[0]):
        if any(re.search(r"\s-", part) for part in parts):
            return "tcpscaler-slopes"
        raise UsageError(
            "this profile begins with a number alone, as tcpscaler's files do, and those of steps and of slopes look "
            "alike: add --profile-format tcpscaler-steps or tcpscaler-slopes"
        )
    return "slopes" if any(_FALLING.fullmatch(part) for part in parts) else "rates"


def _parts(text: str) -> list[str]:
    parts = (part.strip() for line in text.splitlines() for part in line.split("#")[0].split(","))
    return list(filter(None, parts))


def _rates(text: str, _start_per_s: float) -> Sequence[Segment]:
    segments: list[Segment] = []
    for part in _parts(text):
        segments.append(_parse_part(part, segments[-1].to_per_s if segments else 0.0))
    return segments


def _slopes(text: str, start_per_s: float) -> Sequence[Segment]:
    slopes = []
    for part in _parts(text):
        found = _BARE_SLOPE.fullmatch(part)
        if not found:
            raise UsageError(f"slope '{part}': write slope per s, then time with its unit, like '700 8000ms, -400 5s'")
        steepness = _rate_or_rest(found[2])
        slopes.append((units.duration(found[3]), -steepness if found[1] == "-" else steepness))
    return _follow(slopes, start_per_s)


def _tcpscaler_steps(text: str, _start_per_s: float) -> Sequence[Segment]:
    return [_segment(seconds, _no_less(per_s), per_s) for seconds, per_s in _counted(text)]


def _tcpscaler_slopes(text: str, start_per_s: float) -> Sequence[Segment]:
    return _follow(_counted(text), start_per_s)


def _counted(text: str) -> list[tuple[float, float]]:
    """Lines of `<ms> <number>` after their number, as times in s and numbers."""
    head, *lines = _parts(text) or ["0"]
    if not re.fullmatch(r"[0-9]{1,9}", head) or int(head) != len(lines):
        raise UsageError(f"the profile's first line must be the number of those that follow ({len(lines)}): '{head}'")
    pairs = []
    for number, line in enumerate(lines, 2):
        found = _COUNTED.fullmatch(line)
        if not found:
            raise UsageError(
                f"line {number} of the profile, '{line}': write milliseconds and a number, like '8000 1000'"
            )
        pairs.append((units.duration(f"{found[1]}ms"), float(found[2])))
    return pairs


def _follow(slopes: Sequence[tuple[float, float]], start_per_s: float) -> list[Segment]:
    segments: list[Segment] = []
    per_s = start_per_s
    for seconds, slope in slopes:
        before, per_s = per_s, per_s + slope * seconds
        segments.append(_segment(seconds, before, _no_less(per_s)))
    return segments


def _no_less(per_s: float) -> float:
    # What is a little below 0 is what multiplying with fractions leaves.
    if per_s < -1e-6:
        raise UsageError(f"the profile's rate would fall below 0 (to {per_s:,.0f}/s)")
    if per_s > units.MOST_PER_S:
        raise UsageError(f"the profile's rate would rise to {per_s:,.0f}/s (at most {units.MOST_PER_S:,.0f}/s)")
    return max(per_s, 0.0)


_PARSERS: dict[str, Callable[[str, float], Sequence[Segment]]] = {
    "rates": _rates,
    "slopes": _slopes,
    "tcpscaler-steps": _tcpscaler_steps,
    "tcpscaler-slopes": _tcpscaler_slopes,
}


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
