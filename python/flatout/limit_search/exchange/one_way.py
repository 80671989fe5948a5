"""The criterion on the receiver's queue for one-way messages: its drops count beside loss."""

from __future__ import annotations

from flatout.limit_search.exchange.base import Criterion
from flatout.limit_search.numbers import percent
from flatout.result.model import Goal, LoadResult


def criteria(result: LoadResult, goal: Goal, *_: object) -> list[Criterion]:
    """Messages that arrived but were dropped at the queue to the handler; there is no latency."""
    dropped = _dropped_share(result)
    if not dropped:
        return []
    text = f"the receiver's queue dropped {percent(dropped)} (at most {percent(goal.loss)})"
    return [Criterion(text, dropped <= goal.loss, dropped)]


def _dropped_share(result: LoadResult) -> float:
    if result.receiver is None or not result.outcomes.sent:
        return 0.0
    return max(result.receiver.dropped, 0) / result.outcomes.sent
