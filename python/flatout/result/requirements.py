"""Evaluates requirements such as `p99<5ms` against a result."""

from __future__ import annotations

import operator
from collections.abc import Callable

import msgspec

from flatout.result import own_drops
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


def evaluated(result: LoadResult) -> LoadResult:
    """The result with its scenario's requirements.

    Where one is missed only by answers that this host dropped itself, the generator is the limit and not the target.
    """
    met = [evaluate(expression, result) for expression in result.scenario.require]
    result = msgspec.structs.replace(result, requirements=met)
    unmet = [requirement.expression for requirement in met if not requirement.met]
    only_here = [expression for expression in unmet if expression not in missed(result)]
    if result.verdict != "ok" or not only_here:
        return result
    dropped = own_drops.text(result.own_drops, by_driver=result.link is not None)
    why = f"{dropped}, else {only_here[0]} would be met"
    return msgspec.structs.replace(result, verdict="generator-limited", why=why)


def missed(result: LoadResult) -> list[str]:
    """The requirements that are not met, and would not be had this host dropped no answers itself."""
    unmet = [requirement.expression for requirement in result.requirements if not requirement.met]
    outcomes = result.outcomes
    dropped_here = min(result.own_drops, outcomes.lost)
    if not dropped_here:
        return unmet
    answered, lost = outcomes.answered + dropped_here, outcomes.lost - dropped_here
    outcomes = msgspec.structs.replace(outcomes, answered=answered, lost=lost)
    read = msgspec.structs.replace(result, outcomes=outcomes, loss=1 - answered / outcomes.sent)
    return [expression for expression in unmet if not evaluate(expression, read).met]


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
