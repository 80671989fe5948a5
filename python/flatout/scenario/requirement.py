"""Requirements as text: `p99<5ms`, `loss<0.1%`, `rate>99k`, `closed<1%`."""

from __future__ import annotations

import re

from flatout import units
from flatout.errors import UsageError

_FORM = re.compile(r"\s*(\w+)\s*(<=|>=|<|>)\s*(\S+)\s*")
_DURATIONS = ("min", "mean", "p50", "p90", "p99", "p999", "max")
# Shares of the established connections.
CONNECTION_SHARES = ("closed", "reset", "reopened")
COUNTS = ("late", "lost", "refused", "invalid", "duplicate", "unsent", "reordered")


def check(expression: str) -> None:
    """Raises UsageError unless the expression can be evaluated."""
    parse(expression)


def on_answers(expression: str) -> bool:
    """Whether it is about answers, so that it has no meaning where nothing comes back."""
    metric, _, _ = parse(expression)
    return metric in (*_DURATIONS, "late", "refused")


def on_connections(expression: str) -> bool:
    """Whether it is about connections, so that it has no meaning without any."""
    return parse(expression)[0] in CONNECTION_SHARES


def parse(expression: str) -> tuple[str, str, float]:
    """The metric, the comparison and the bound (durations in ns). Errors: UsageError."""
    found = _FORM.fullmatch(expression)
    if not found:
        raise UsageError(f"requirement '{expression}': write it like 'p99<5ms', 'loss<0.1%' or 'rate>99k'")
    metric, symbol, text = found.groups()
    if metric in _DURATIONS:
        return metric, symbol, units.duration(text) * 1e9
    if metric == "loss" or metric in CONNECTION_SHARES:
        return metric, symbol, units.share(text)
    if metric == "rate":
        return metric, symbol, units.rate(text)
    if metric in COUNTS and text.isdecimal():
        return metric, symbol, float(text)
    known = ", ".join((*_DURATIONS, "loss", "rate", *COUNTS, *CONNECTION_SHARES))
    raise UsageError(f"requirement '{expression}': '{metric}' is not one of {known} with a fitting number")
