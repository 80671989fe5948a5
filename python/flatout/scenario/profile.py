"""Rate profiles as text: steps, ramps and slopes, in one line or one a line.

1000 8s, 2000 5s        a step each: rate, duration
10k..200k 30s           from one rate to another
1000 8s, +500/s 10s     a slope: the rate grows by 500 a second from where it was (also -500/s)

Three other forms, which have to be named:

slopes                  `700 8000ms, -400 5s`: slopes alone, from a rate that is given beside them
tcpscaler-steps         tcpclient's --stdin: the number of lines, then lines of `<ms> <rate>`
tcpscaler-slopes        its --stdin-rateslope: the same with `<ms> <slope>`, from a rate that is given beside them

What an entry means depends on the form alone, never on other entries. A slope begins at the rate of the entry before
it; one that comes first begins at the rate that is given beside the profile, and without one it is refused.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Literal, get_args

from flatout import arguments, text_files, units
from flatout.errors import UsageError
from flatout.scenario.model import Segment

Format = Literal["rates", "slopes", "tcpscaler-steps", "tcpscaler-slopes"]
_SLOPE = re.compile(r"([+-][^/\s]+)/s\s+(\S+)")
_RAMP = re.compile(r"(\S+?)\.\.(\S+)(?:\s+(\S+))?")
_STEP = re.compile(r"(\S+)\s+(\S+)")
_BARE_SLOPE = re.compile(r"([+-]?)([0-9.]+[kKmM]?)(?:/s)?\s+([0-9.]+\s*[a-zµ]+)")
# A rate has no sign, so this may be a slope, or an entry of the form that has slopes alone.
_SIGNED = re.compile(r"([+-]\S+)\s+(\S+)")
_COUNTED = re.compile(r"([0-9]+)\s+(-?[0-9]+(?:\.[0-9]+)?)")
# What a profile begins with that is no file's name.
_BEGINNING = re.compile(r"[\s,#+\ufeff-]*\.{0,2}[0-9]")


def steady(rate_per_s: float, seconds: float) -> tuple[Segment, ...]:
    """One rate all the time."""
    return (_segment(seconds, rate_per_s, rate_per_s),)


def ramp(text: str, seconds: float) -> tuple[Segment, ...]:
    """`10k..200k`: from one rate to another over `seconds`."""
    found = _RAMP.fullmatch(text.strip())
    if not found or found[3]:
        raise UsageError(f"ramp '{text}': write it like 10k..200k")
    first, last = (units.named("ramp", units.rate, rate) for rate in (found[1], found[2]))
    return (_segment(seconds, first, last),)


def parse(
    text: str | bytes | os.PathLike[str], form: Format | None = None, start_per_s: float | None = None
) -> tuple[Segment, ...]:
    """A profile from text, from the file that `text` names, or from standard input (`-`).

    `start_per_s` is where slopes begin, and goes with nothing else.
    """
    if form is not None and (not isinstance(form, str) or form not in get_args(Format)):
        raise UsageError(f"profile format '{form}' is not one of {', '.join(get_args(Format))}")
    text, where = _text(text)
    try:
        return _parse(text, form, start_per_s)
    except UsageError as error:
        prefix = where or ("" if "profile" in str(error) else "profile: ")
        raise UsageError(f"{prefix}{error}") from error


def _parse(text: str, form: Format | None, start_per_s: float | None) -> tuple[Segment, ...]:
    form = form or _form(text)
    if start_per_s is not None and not _begins_with_slope(text, form):
        raise UsageError("give a rate or a profile, not both (a profile that begins with a slope begins at the rate)")
    segments = _PARSERS[form](text, start_per_s)
    if not segments:
        raise UsageError("the profile is empty: write it like '1000 8s, 2000 5s'")
    if not any(segment.from_per_s or segment.to_per_s for segment in segments):
        raise UsageError("the profile asks for nothing at all")
    return tuple(segments)


def _text(given: str | bytes | os.PathLike[str]) -> tuple[str, str]:
    """The text itself, or what the file that it names holds; and what errors begin with."""
    if given == "-":
        return _standard_input(), ""
    if isinstance(given, str) and not given.strip():
        raise UsageError("the profile is empty: write it like '1000 8s, 2000 5s', or name a file")
    # A name with spaces is one only where it cannot be meant as a profile.
    if isinstance(given, str) and re.search(r"\s", given.strip()) and not _names_file(given):
        return given.removeprefix(text_files.MARK), ""
    path = arguments.path("profile", given)
    neither = "" if os.path.exists(path) else " (neither a file that can be read nor like '1000 8s')"
    return text_files.read(path, f"profile '{path}'{neither}"), f"profile '{path}': "


def _names_file(given: str) -> bool:
    return not _BEGINNING.match(given) and os.path.isfile(given)


def _standard_input() -> str:
    if sys.stdin is None or sys.stdin.closed:
        raise UsageError("profile '-': standard input is closed")
    raw = getattr(sys.stdin, "buffer", None)
    what = "the profile on standard input"
    try:
        return sys.stdin.read() if raw is None else text_files.decode(raw.read(), what)
    except OSError as error:
        raise UsageError(f"{what}: {error.strerror or error}") from error


def _form(text: str) -> Format:
    """The form of a text that does not say it."""
    parts = _parts(text)
    if len(parts) > 1 and re.fullmatch(r"[0-9]+", parts[0]) and "\n" in text:
        raise UsageError(
            "this profile begins with a number alone, as tcpscaler's files do, and those of steps and of slopes look "
            "alike: add --profile-format tcpscaler-steps, or --profile-format tcpscaler-slopes and the --rate that "
            "they begin at"
        )
    return "rates"


def _begins_with_slope(text: str, form: Format) -> bool:
    if form == "rates":
        return bool((parts := _parts(text)) and _SLOPE.fullmatch(parts[0]))
    return form.endswith("slopes")


def _parts(text: str) -> list[str]:
    """The entries. Errors: UsageError for an empty one: it may be a variable of a script that was not set."""
    found: list[str] = []
    for line in (line.split("#")[0].strip() for line in text.splitlines()):
        parts = [part.strip() for part in line.split(",")] if line else []
        if not all(parts):
            raise UsageError(f"profile '{line}': there is an empty entry: write it like '1000 8s, 2000 5s'")
        found += parts
    return found


def _start(start_per_s: float | None, how: str) -> float:
    """Where slopes begin. Errors: UsageError where it is not given."""
    if start_per_s is None:
        raise UsageError(f"the profile begins with a slope, and nothing says at which rate: {how}")
    return start_per_s


def _rates(text: str, start_per_s: float | None) -> Sequence[Segment]:
    segments: list[Segment] = []
    for part in _parts(text):
        segments.append(_parse_part(part, segments[-1].to_per_s if segments else start_per_s))
    return segments


def _slopes(text: str, start_per_s: float | None) -> Sequence[Segment]:
    slopes = []
    for part in _parts(text):
        found = _BARE_SLOPE.fullmatch(part)
        if not found:
            raise UsageError(f"slope '{part}': write slope per s, then time with its unit, like '700 8000ms, -400 5s'")
        steepness = units.rate_or_none(found[2])
        slopes.append((units.duration(found[3]), -steepness if found[1] == "-" else steepness))
    return _follow(slopes, start_per_s)


def _tcpscaler_steps(text: str, _start_per_s: float | None) -> Sequence[Segment]:
    return [_segment(seconds, _no_less(per_s), per_s) for seconds, per_s in _counted(text)]


def _tcpscaler_slopes(text: str, start_per_s: float | None) -> Sequence[Segment]:
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


def _follow(slopes: Sequence[tuple[float, float]], start_per_s: float | None) -> list[Segment]:
    segments: list[Segment] = []
    per_s = _start(start_per_s, "add --rate (0: from nothing)")
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


_PARSERS: dict[str, Callable[[str, float | None], Sequence[Segment]]] = {
    "rates": _rates,
    "slopes": _slopes,
    "tcpscaler-steps": _tcpscaler_steps,
    "tcpscaler-slopes": _tcpscaler_slopes,
}


def _parse_part(part: str, before_per_s: float | None) -> Segment:
    if found := _SLOPE.fullmatch(part):
        sign = -1 if found[1].startswith("-") else 1
        change, seconds = units.rate(found[1][1:]) * units.duration(found[2]), units.duration(found[2])
        ramp = f"0..{change:g}" if sign > 0 else f"{change:g}..0"
        before_per_s = _start(before_per_s, f"add --rate (0: from nothing), or write a ramp, as '{ramp} {found[2]}'")
        return _segment(seconds, before_per_s, _no_less(before_per_s + sign * change))
    if found := _SIGNED.fullmatch(part):
        raise UsageError(
            f"profile '{part}': a rate has no sign: for a slope from the rate before it write '{found[1]}/s {found[2]}'"
            "; if all entries are slopes, add --profile-format slopes and the --rate that they begin at"
        )
    if (found := _RAMP.fullmatch(part)) and found[3]:
        return _segment(units.duration(found[3]), units.rate_or_none(found[1]), units.rate_or_none(found[2]))
    if found := _STEP.fullmatch(part):
        per_s = units.rate_or_none(found[1])
        return _segment(units.duration(found[2]), per_s, per_s)
    raise UsageError(f"profile '{part}': write steps like '1000 8s', ramps like '1k..2k 8s', slopes like '+500/s 8s'")


def _segment(seconds: float, from_per_s: float, to_per_s: float) -> Segment:
    if seconds <= 0:
        raise UsageError("a load must last longer than 0 s")
    return Segment(seconds, from_per_s, to_per_s)
