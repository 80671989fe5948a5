"""Requirements on a result as text: `p99<5ms`, `loss<0.1%`, `rate>99k`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable

from flatout import units
from flatout.errors import UsageError
from flatout.result import LoadResult, Requirement

_FORM = re.compile(r"\s*(\w+)\s*(<=|>=|<|>)\s*(\S+)\s*")
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_DURATIONS = ("min", "mean", "p50", "p90", "p99", "p999", "max")
_COUNTS = ("late", "lost", "refused", "invalid", "duplicate", "unsent", "reordered")


def check(expression: str) -> None:
    """Raises UsageError unless the expression can be evaluated."""
    _parse(expression)


def on_answers(expression: str) -> bool:
    """Whether it is about answers, so that it has no meaning where nothing comes back."""
    metric, _, _ = _parse(expression)
    return metric in (*_DURATIONS, "late", "refused")


def evaluate(expression: str, result: LoadResult) -> Requirement:
    """Whether the result meets the expression; without any sample it does not. Durations are from due, in ns."""
    metric, symbol, bound = _parse(expression)
    value = _measured(metric, result)
    met = value is not None and _COMPARE[symbol](value, bound)
    return Requirement(expression=expression, value=value, met=met)


def _parse(expression: str) -> tuple[str, str, float]:
    found = _FORM.fullmatch(expression)
    if not found:
        raise UsageError(f"requirement '{expression}': write it like 'p99<5ms', 'loss<0.1%' or 'rate>99k'")
    metric, symbol, text = found.groups()
    if metric in _DURATIONS:
        return metric, symbol, units.duration(text) * 1e9
    if metric == "loss":
        return metric, symbol, units.share(text)
    if metric == "rate":
        return metric, symbol, units.rate(text)
    if metric in _COUNTS and text.isdecimal():
        return metric, symbol, float(text)
    known = ", ".join((*_DURATIONS, "loss", "rate", *_COUNTS))
    raise UsageError(f"requirement '{expression}': '{metric}' is not one of {known} with a fitting number")


def _measured(metric: str, result: LoadResult) -> float | None:
    if metric == "loss":
        return result.loss
    if metric == "rate":
        rates = result.rate_per_s
        return rates.answered if rates.received is None else rates.received
    if metric in _COUNTS:
        return float(getattr(result.outcomes, metric))
    due = result.latency_ns.from_due
    return None if due is None else float(getattr(due, metric))
