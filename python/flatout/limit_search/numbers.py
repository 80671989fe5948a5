"""Formats the numbers of a search: rates with thousands separators, shares in percent, times in ms. Pure."""

from __future__ import annotations

import math


def whole(number: float) -> str:
    """204,000."""
    return f"{number:,.0f}"


def percent(share: float) -> str:
    """0.1 %; three significant digits, but never so rounded that 99.99 % becomes 100 %."""
    if share <= 0.0:
        return "0 %"
    value = share * 100.0
    rounded = float(f"{value:.3g}")
    return f"{math.floor(value * 1000.0) / 1000.0 if rounded >= 100.0 > value else rounded:g} %"


def ms(ns: float) -> str:
    """5 ms, 0.25 ms, 1,200 ms; below that 43.5 µs, 90 ns."""
    if ns < 1e5:
        return f"{ns / 1e3:.3g} µs" if ns >= 1e3 else f"{ns:.0f} ns"
    value = float(f"{ns / 1e6:.3g}")
    return f"{value:,.0f} ms" if value >= 1000.0 else f"{value:g} ms"
