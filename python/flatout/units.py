"""Parses numbers with units: rates, counts, durations, sizes, shares, CPU lists.

Pure. Every parser raises UsageError, which quotes the text and says what is valid.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from typing import Any, TypeVar

from flatout.errors import ArgumentError, UsageError

T = TypeVar("T")
_NUMBER = r"\s*([0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+)\s*"
_RATE = re.compile(_NUMBER + r"([kKM]?)\s*(?:/s|qps|pps)?\s*")
_COUNT = re.compile(_NUMBER + r"([kKM]?)\s*")
# A million to some, and a thousandth or a minute to others.
_SMALL_M = re.compile(_NUMBER + r"m\s*(?:/s|qps|pps)?\s*")
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(ns|us|µs|ms|s|m|h|d)\s*")
_SIZE = re.compile(_NUMBER + r"(B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)?\s*")
_BANDWIDTH = re.compile(_NUMBER + r"([kKmMgG]?)\s*(?:bps|bit/s|b/s)?\s*")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_BYTES |= {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_THOUSANDS = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6}
# Above the frame rate of 100 Gb/s Ethernet with the smallest frames (148.8 M/s).
MOST_PER_S = 200e6
# More connections than 16 M source addresses give any host of today.
MOST_THINGS = 100_000_000
# What JSON and the engine can hold.
ANY_NUMBER = 2**63 - 1
_LONGEST_S = 366 * 86400
# The most that Linux can be built for.
MOST_CPUS = 8192


def rate(text: str) -> float:
    """A rate per second: `1000`, `100k`, `1.5M`, `200k/s`; more than 0. `m` is refused: it has two readings."""
    _refuse_small_m("rate", text, "a million or a thousandth")
    found = _RATE.fullmatch(text)
    value = float(found[1]) * _THOUSANDS[found[2]] if found else math.nan
    if not 0 < value <= MOST_PER_S:
        raise UsageError(f"rate '{text}': write a number per second above 0, such as 1000, 100k or 1.5M (at most 200M)")
    return value


def rate_or_none(text: str) -> float:
    """A rate per second as `rate` reads it, or 0."""
    bare = re.fullmatch(_NUMBER, text)
    return 0.0 if bare and float(bare[1]) == 0 else rate(text)


def _refuse_small_m(what: str, text: str, readings: str) -> None:
    found = _SMALL_M.fullmatch(text)
    if found:
        raise UsageError(f"{what} '{text}': m could mean {readings}: write {found[1]}M, or the number without it")


def count(text: str) -> int:
    """A whole number: `100`, `20k`, `1M`, `1.5k`. Lower-case `m` is refused."""
    _refuse_small_m("number", text, "a million or minutes")
    found = _COUNT.fullmatch(text)
    value = float(found[1]) * _THOUSANDS[found[2]] if found else math.nan
    if not 0 <= value <= MOST_THINGS or value != int(value):
        raise UsageError(f"number '{text}': write it like 100, 20k or 1M (at most 100M)")
    return int(value)


def duration(text: str) -> float:
    """A duration in seconds: `500ms`, `10s`, `1h30m`, or a bare number of seconds."""
    bare = re.fullmatch(_NUMBER, text)
    if bare:
        return _finite(float(bare[1]), text)
    parts = list(_PART.finditer(text.strip()))
    if not parts or "".join(part[0] for part in parts) != text.strip():
        raise UsageError(f"duration '{text}': write it like 500ms, 10s or 1h30m")
    return _finite(sum(float(part[1]) * _SECONDS[part[2]] for part in parts), text)


def _finite(number: float, text: str) -> float:
    if number > _LONGEST_S:
        raise UsageError(f"duration '{text}' is longer than a year")
    return number


def size(text: str) -> int:
    """A size in bytes: `512`, `4KiB`, `1MB`."""
    found = _SIZE.fullmatch(text)
    value = float(found[1]) * _BYTES[found[2] or "B"] if found else math.inf
    if not value < 2**63:
        raise UsageError(f"size '{text}': write it like 512, 4KiB or 1MB")
    return int(value)


def bandwidth(text: str) -> float:
    """A bandwidth in bytes per second, from bits per second: `100Mbps`, `1.5Gbit/s`, or a bare number of bits."""
    found = _BANDWIDTH.fullmatch(text)
    value = float(found[1]) * {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}[found[2].lower()] if found else math.nan
    if not 0 < value <= 1e13:
        raise UsageError(f"bandwidth '{text}': write bits per second like 100Mbps or 1.5Gbps")
    return value / 8


def share(text: str, *, may_be_all: bool = False) -> float:
    """A share from 0 to below 1, or to 1: `0.1%` or `0.001`."""
    percent = text.strip().endswith("%")
    try:
        value = float(text.strip().removesuffix("%")) / (100 if percent else 1)
    except ValueError:
        value = math.nan
    if not (0 <= value < 1 or (may_be_all and value == 1)):
        most = "100 %" if may_be_all else "below 100 %"
        raise UsageError(f"share '{text}': write it like 0.1% or 0.001, from 0 to {most}")
    return value


def cpu_list(text: str) -> tuple[int, ...]:
    """CPUs by number: `0`, `0,2`, `0-3,6`; at least one."""
    cpus: list[int] = []
    for part in (piece.strip() for piece in text.split(",")):
        found = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part, re.ASCII)
        if not found or (found[2] and int(found[2]) < int(found[1])) or int(found[2] or found[1]) >= MOST_CPUS:
            raise UsageError(f"CPUs '{text}': write them like 0 or 0-3,6")
        cpus.extend(range(int(found[1]), int(found[2] or found[1]) + 1))
    return tuple(dict.fromkeys(cpus))


# --- Settings that are numbers, or text that means one ---


def whole(name: str, value: Any, most: int, parse: Callable[[str], int] = count, *, least: int = 1) -> int:
    """A setting that is a whole number from `least` on. Errors: ArgumentError."""
    try:
        number = named(name, parse, value) if isinstance(value, str) else operator.index(value)
    except TypeError:
        number = least - 1
    if isinstance(value, bool) or not least <= number <= most:
        upto = f"to {most:,}" if most < ANY_NUMBER else "on"
        raise ArgumentError(name, f"={value!r}: give a whole number from {least} {upto}")
    return number


def integer(name: str, value: Any) -> int:
    """A setting that is any whole number. Errors: ArgumentError."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or not -ANY_NUMBER <= number <= ANY_NUMBER:
        raise ArgumentError(name, f"={value!r}: give a whole number (of 64 bits)")
    return number


def real(value: Any) -> float:
    """A number as a float; NaN where it is none, for neither switches nor bytes are numbers."""
    if isinstance(value, bool) or not (hasattr(type(value), "__float__") or hasattr(type(value), "__index__")):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf
    except (TypeError, ValueError):
        return math.nan


def named(name: str, parse: Callable[[Any], T], value: Any) -> T:
    """What `parse` makes of a value. Errors: ArgumentError in place of UsageError."""
    try:
        return parse(value)
    except ArgumentError:
        raise
    except UsageError as error:
        first, space, rest = str(error).partition(" ")
        raise ArgumentError(name, f"{space}{rest}" if first.lower() == name else f": {error}") from error


def seconds(name: str, value: Any, least: float = 0, most: float = _LONGEST_S) -> float:
    """A setting that is a time in s. Errors: ArgumentError."""
    number = named(name, duration, value) if isinstance(value, str) else real(value)
    if math.isnan(number):
        raise ArgumentError(name, f"={value!r}: give a number of seconds, or text like 500ms")
    if not least <= number <= most:
        raise ArgumentError(name, f"={value!r}: give {least:,} to {most:,} s")
    return number
