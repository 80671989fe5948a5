"""Evaluates requirements such as `p99<5ms` against a result."""

from __future__ import annotations

import operator
from collections.abc import Callable

from flatout.result.model import LoadResult, Requirement
from flatout.scenario.requirement import CONNECTION_SHARES, COUNTS, parse

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def evaluate(expression: str, result: LoadResult) -> Requirement:
    """Whether the result meets the expression; without any sample it does not. Durations are from due, in ns."""
    metric, symbol, bound = parse(expression)
    value = _measured(metric, result)
    met = value is not None and _COMPARE[symbol](value, bound)
    return Requirement(expression=expression, value=value, met=met)


def _measured(metric: str, result: LoadResult) -> float | None:
    if metric == "loss":
        return result.loss
    if metric == "rate":
        return result.good_per_s
    if metric in COUNTS:
        return float(getattr(result.outcomes, metric))
    if metric in CONNECTION_SHARES:
        connections = result.connections
        if connections is None or not connections.established:
            return None
        return float(getattr(connections, metric)) / connections.established
    due = result.latency_ns.from_due
    return None if due is None else float(getattr(due, metric))
