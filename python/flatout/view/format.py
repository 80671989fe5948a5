"""Formats numbers with a unit, thousands separators and three significant digits, and makes text safe for a terminal.

Pure functions from a number (or None: unknown) to a string. Nothing here knows what a result is.
"""

from __future__ import annotations

NOTHING = "–"
_NS = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns"))
_SHORT = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_BYTES = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def count(value: int | None) -> str:
    """1234567 → "1,234,567"."""
    return NOTHING if value is None else f"{value:,}"


def rate(per_s: float | None) -> str:
    """204000.4 → "204,000/s"."""
    if per_s is None:
        return NOTHING
    return f"{per_s:,.0f}/s" if per_s >= 100 or per_s == int(per_s) else f"{per_s:.1f}/s"


def rate_short(per_s: float | None) -> str:
    """204000 → "204 k/s"; for narrow places."""
    if per_s is None:
        return NOTHING
    for size, letter in _SHORT:
        if per_s >= size * 0.9995:
            return f"{_three_digits(per_s / size)} {letter}/s"
    return f"{_three_digits(per_s)} /s" if per_s else "0 /s"


def duration(ns: float | None) -> str:
    """1234567 → "1.23 ms"."""
    if ns is None:
        return NOTHING
    for size, unit in _NS:
        if abs(ns) >= size * 0.9995:
            return f"{_three_digits(ns / size)} {unit}" if unit != "ns" else f"{ns:.0f} ns"
    return "0 ns"


def offset(ns: float) -> str:
    """-1234.5 → "-1.23 µs"; 0 and above with a plus."""
    return f"{'-' if ns < 0 else '+'}{duration(abs(ns))}"


def seconds(value: float | None) -> str:
    """5.25 → "5.2 s"; 125 → "2 min 05 s"."""
    if value is None:
        return NOTHING
    if abs(value) < 59.95:
        return f"{value:.0f} s" if value == int(value) else f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def percent(share: float | None) -> str:
    """0.0052 → "0.52 %"; what is above nothing never reads as nothing, what is below all never as all."""
    if share is None:
        return NOTHING
    if 0.9999 < share < 1:
        return "> 99.99 %"
    if share in (0, 1):
        return f"{100 * share:.0f} %"
    return f"{100 * share:.2f} %" if share >= 0.0001 else f"{100 * share:.1g} %" if share >= 1e-6 else "< 0.0001 %"


def memory(size: int | None) -> str:
    """48300032 → "46.1 MiB"."""
    if size is None:
        return NOTHING
    for unit_size, unit in _BYTES:
        if size >= unit_size:
            return f"{_three_digits(size / unit_size)} {unit}"
    return f"{size} B"


def plain(text: object) -> str:
    """Text from outside with what a terminal would obey (control characters, new lines) replaced."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in str(text))


def _three_digits(value: float) -> str:
    if abs(value) >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 9.995 else f"{value:.2f}"
