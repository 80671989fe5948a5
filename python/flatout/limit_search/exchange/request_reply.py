"""The criterion on latency for requests that are answered: at most 1 % of the answers later than the goal for p99."""

from __future__ import annotations

from flatout.limit_search.exchange.base import Criterion, ShareLaterThan
from flatout.limit_search.numbers import ms, percent
from flatout.result.model import Distribution, Goal, LoadResult
from flatout.result.thresholds import LATE_SHARE


def criteria(result: LoadResult, goal: Goal, share_later_than: ShareLaterThan) -> list[Criterion]:
    """Latency, where the goal has a p99."""
    if goal.p99_ns is None:
        return []
    late = _late_share(result.latency_ns.from_due, goal.p99_ns, share_later_than)
    text = f"{percent(late)} of answers later than {ms(goal.p99_ns)} (at most {percent(LATE_SHARE)})"
    return [Criterion(text, late <= LATE_SHARE, _as_loss(late, goal.loss))]


def _late_share(from_due: Distribution | None, p99_ns: int, share_later_than: ShareLaterThan) -> float:
    """Without any answer there is no latency, and a goal for it is missed."""
    return 1.0 if from_due is None or from_due.count == 0 else share_later_than(from_due, p99_ns)


def _as_loss(late: float, goal_loss: float) -> float:
    """Scaled so that the allowed share is the allowed loss; where no loss is allowed, the excess over that share."""
    return late / LATE_SHARE * goal_loss if goal_loss > 0.0 else max(0.0, late - LATE_SHARE)
