"""Parses numbers with units: rates, counts, durations, sizes, shares, CPU lists.

Pure. Every parser raises UsageError, which quotes the text and says what is valid.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from typing import Any

from flatout.errors import UsageError

_NUMBER = r"\s*([0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+)\s*"
_RATE = re.compile(_NUMBER + r"([kKmM]?)\s*(?:/s|qps|pps)?\s*")
_COUNT = re.compile(_NUMBER + r"([kKmM]?)\s*")
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(ns|us|µs|ms|s|m|h|d)\s*")
_SIZE = re.compile(_NUMBER + r"(B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)?\s*")
_BANDWIDTH = re.compile(_NUMBER + r"([kKmMgG]?)\s*(?:bps|bit/s|b/s)?\s*")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_BYTES |= {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_THOUSANDS = {"": 1.0, "k": 1e3, "K": 1e3, "m": 1e6, "M": 1e6}
# Above the frame rate of 100 Gb/s Ethernet with the smallest frames (148.8 M/s).
MOST_PER_S = 200e6
# More connections than 16 M source addresses give any host of today.
MOST_THINGS = 100_000_000
_LONGEST_S = 366 * 86400
# The most that Linux can be built for.
MOST_CPUS = 8192


def rate(text: str) -> float:
    """A rate per second: `1000`, `100k`, `1.5M`, `200k/s`; more than 0."""
    found = _RATE.fullmatch(text)
    value = float(found[1]) * _THOUSANDS[found[2]] if found else math.nan
    if not 0 < value <= MOST_PER_S:
        raise UsageError(f"rate '{text}': write a number per second above 0, such as 1000, 100k or 1.5M (at most 200M)")
    return value


def count(text: str) -> int:
    """A whole number: `100`, `20k`, `1M`, `1.5k`."""
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
    """CPUs by number: `0`, `0,2`, `0-3,6`."""
    cpus: list[int] = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        found = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", part, re.ASCII)
        if not found or (found[2] and int(found[2]) < int(found[1])) or int(found[2] or found[1]) >= MOST_CPUS:
            raise UsageError(f"CPUs '{text}': write them like 0 or 0-3,6")
        cpus.extend(range(int(found[1]), int(found[2] or found[1]) + 1))
    return tuple(dict.fromkeys(cpus))


# --- Settings that are numbers, or text that means one ---


def whole(name: str, value: Any, most: int, parse: Callable[[str], int] = count) -> int:
    """A setting that is a whole number from 1 on. Errors: UsageError with its name."""
    try:
        number = parse(value) if isinstance(value, str) else operator.index(value)
    except TypeError:
        number = 0
    if isinstance(value, bool) or not 1 <= number <= most:
        raise UsageError(f"{name}={value!r}: give a whole number from 1 to {most:,}")
    return number


def seconds(name: str, value: Any, least: float = 0, most: float = _LONGEST_S) -> float:
    """A setting that is a time in s. Errors: UsageError with its name."""
    try:
        number = duration(value) if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if math.isnan(number) or isinstance(value, bool):
        raise UsageError(f"{name}={value!r}: give a number of seconds, or text like 500ms")
    if not least <= number <= most:
        raise UsageError(f"{name}={value!r}: give {least:,} to {most:,} s")
    return number
