"""The criteria on latency for requests that are answered.

At most 1 % of the answers are later than the goal for p99. Over connections answers must also keep up with requests:
the buffers of both ends hold so much that a short trial beyond the server's limit loses nothing, while answers take
longer and longer.
"""

from __future__ import annotations

from flatout.limit_search.exchange.base import Criterion, ShareLaterThan
from flatout.limit_search.numbers import ms, percent
from flatout.result.model import Distribution, Goal, LoadResult
from flatout.result.thresholds import LATE_SHARE

# Answers did not keep up where a tenth of them took so much of the trial's time, and longer than resolvers take to ask.
_LAG_OF_TIME = 0.3
_LAG_NS = 150e6


def criteria(result: LoadResult, goal: Goal, share_later_than: ShareLaterThan) -> list[Criterion]:
    """Latency, where the goal has a p99, and whether answers kept up, where they did not."""
    behind = _behind(result, goal) if result.scenario.streams else None
    return [*([behind] if behind else []), *_p99(result, goal, share_later_than)]


def _behind(result: LoadResult, goal: Goal) -> Criterion | None:
    """Answers that came later and later; None where they kept up. The part of the time that they lag counts as lost."""
    due = result.latency_ns.from_due
    time_ns = (result.scenario.warmup_s + result.duration_s) * 1e9
    if due is None or due.p90 < max(_LAG_OF_TIME * time_ns, _LAG_NS):
        return None
    text = f"answers did not keep up: within {time_ns / 1e9:.2g} s a tenth of them took {ms(due.p90)} or longer"
    return Criterion(text, False, max(min(due.p90 / time_ns, 1.0), 2.0 * goal.loss))


def _p99(result: LoadResult, goal: Goal, share_later_than: ShareLaterThan) -> list[Criterion]:
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
