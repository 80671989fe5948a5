"""Did this trial hold? One finished run against a goal -> held, failed or invalid, and why, in words with numbers.

Method: a run that the generator could not drive, or that was interrupted, is invalid: it says nothing of the server.
Otherwise two criteria: loss at most the goal's, and at most 1 % of answers later than the p99 goal. So that one number
orders trials, lateness is expressed as loss: the allowed 1 % weighs as much as the allowed loss, and the larger counts.
A held trial's effective loss is never above the goal's, a failed one's always is. Over streams the connections come
first: those that this host could not open make a trial invalid; those that the target did not accept, or ended, count
as loss. Where nothing comes back, loss is what the receiver says, and what its own queue dropped before anybody handled
it counts beside that. One that says nothing after a trial has failed it. Never in here: the choice of a load, I/O, the
histogram's code (counting answers in it is passed in).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from flatout.limit_search.numbers import ms, percent
from flatout.result.model import Distribution, Goal, LoadResult, TrialVerdict

ShareLaterThan = Callable[[Distribution, int], float]
_ALLOWED_LATE = 0.01
_ON_TIME_NS = 100_000
# What the contract allows a generator.
_ALLOWED_UNSENT, _ALLOWED_LATENESS_NS = 0.001, 1_000_000
# A requirement that is not met fails a trial however little was lost; how badly it was missed is not known.
_UNMET_AS_LOSS = 0.01


class TrialEvaluation(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on a trial; `loss` is the effective loss ratio (0 for an invalid trial, where it means nothing).

    `disturbed`: invalid, yet most requests left on time and the server kept up. Something held the generator up.
    """

    verdict: TrialVerdict
    loss: float
    why: str
    disturbed: bool = False


def evaluate_trial(result: LoadResult, goal: Goal, share_later_than: ShareLaterThan) -> TrialEvaluation:
    """`share_later_than` gives the share of a distribution's samples above so many ns."""
    unopened = _unopened(result)
    if unopened is not None:
        return TrialEvaluation(verdict="invalid", loss=0.0, why=unopened)
    given_up = None if result.verdict == "interrupted" else _given_up(result, goal)
    if given_up is not None:
        return given_up
    unusable = _unusable(result)
    if unusable is not None or result.loss is None:
        why = unusable or ("nobody told what arrived" if result.outcomes.sent else "nothing was sent")
        return TrialEvaluation(verdict="invalid", loss=0.0, why=why, disturbed=_disturbed(result, goal))
    late = 0.0 if goal.p99_ns is None else _late_share(result.latency_ns.from_due, goal.p99_ns, share_later_than)
    dropped = _dropped_share(result)
    unmet = [f"{r.expression} is not met" for r in result.requirements if not r.met]
    complaints = _complaints(result.loss, late, goal, dropped) + unmet
    loss = max(result.loss, _late_as_loss(late, goal.loss), dropped)
    if complaints:
        loss = max(loss, goal.loss + _UNMET_AS_LOSS if unmet else 0.0)
        return TrialEvaluation(verdict="failed", loss=min(loss, 1.0), why="; ".join(complaints))
    return TrialEvaluation(verdict="held", loss=loss, why=_praise(result, goal, late))


def _given_up(result: LoadResult, goal: Goal) -> TrialEvaluation | None:
    """A target that did not take connections or requests has failed, however the generator fared."""
    loss = result.loss or 0.0
    missing, complaint = _missing(result, goal)
    if complaint:
        return TrialEvaluation(verdict="failed", loss=min(max(missing, loss), 1.0), why=complaint)
    blocked = _blocked_share(result)
    if blocked > goal.loss:
        why = f"{percent(blocked)} of {result.wording.many} could not leave because the target took no more"
        return TrialEvaluation(verdict="failed", loss=min(max(blocked, loss), 1.0), why=why)
    if result.verdict == "target-lost" and result.loss is None and result.outcomes.sent:
        return TrialEvaluation(verdict="failed", loss=1.0, why=result.why)
    return None


def _unopened(result: LoadResult) -> str | None:
    """Connections for which this host had no port, descriptor, memory or permission say nothing of the server."""
    connections = result.connections
    if connections is None or not connections.local or connections.peak >= _asked(result):
        return None
    return f"this host could not open {connections.local:,} of {_asked(result):,} connections"


def _asked(result: LoadResult) -> int:
    return (result.scenario.connections or 0) + result.scenario.hold


def _missing(result: LoadResult, goal: Goal) -> tuple[float, str | None]:
    """The share of connections that the target did not accept or ended, and what to say where that is too much."""
    connections, asked = result.connections, _asked(result)
    if connections is None or not asked:
        return 0.0, None
    refused = asked - connections.peak if not result.scenario.churn else 0
    ended = 0 if result.scenario.churn else connections.closed + connections.reset + connections.broken
    share = max(refused, ended, 0) / asked
    if share <= goal.loss:
        return share, None
    if refused >= ended:
        return share, f"only {connections.peak:,} of {asked:,} connections were accepted"
    return share, f"the target ended {ended:,} of {connections.established:,} connections"


def _blocked_share(result: LoadResult) -> float:
    """Requests that waited on connections which the target did not read; 0 where the generator fell behind itself."""
    blocked, planned = result.unsent_because.get("blocked", 0), result.outcomes.planned
    behind = result.outcomes.unsent - blocked > _ALLOWED_UNSENT * planned
    late = result.lateness_ns is not None and result.lateness_ns.p99 > _ALLOWED_LATENESS_NS
    return 0.0 if behind or late or not planned else blocked / planned


def _dropped_share(result: LoadResult) -> float:
    """Of messages that nobody answers: those that arrived, and that the receiver's own queue had no room for."""
    if result.receiver is None or not result.outcomes.sent:
        return 0.0
    return max(result.receiver.dropped, 0) / result.outcomes.sent


def _disturbed(result: LoadResult, goal: Goal) -> bool:
    """A generator at its end is late all the time, one that was held up now and then is not.

    Where more was lost than may be, neither end is at ease: going lower tells more than trying again.
    """
    on_time = result.lateness_ns is not None and result.lateness_ns.p50 < _ON_TIME_NS
    return on_time and result.loss is not None and result.loss <= goal.loss


def _unusable(result: LoadResult) -> str | None:
    if result.verdict == "interrupted":
        return "interrupted"
    if result.verdict != "generator-limited":
        return None
    outcomes, lateness = result.outcomes, result.lateness_ns
    unsent = percent(outcomes.unsent / outcomes.planned) if outcomes.planned else "all"
    p99 = "unknown (nothing left)" if lateness is None else ms(lateness.p99)
    return f"the generator fell behind: {unsent} of {result.wording.many} unsent, p99 of its lateness {p99}"


def _late_share(from_due: Distribution | None, p99_ns: int, share_later_than: ShareLaterThan) -> float:
    """With no answer there is no latency, and a goal on it is not met."""
    return 1.0 if from_due is None or from_due.count == 0 else share_later_than(from_due, p99_ns)


def _late_as_loss(late: float, goal_loss: float) -> float:
    """Scaled so that the allowed share is the allowed loss; where no loss is allowed, what exceeds the share."""
    return late / _ALLOWED_LATE * goal_loss if goal_loss > 0.0 else max(0.0, late - _ALLOWED_LATE)


def _complaints(loss: float, late: float, goal: Goal, dropped: float) -> list[str]:
    complaints = []
    if loss > goal.loss:
        complaints.append(f"loss {percent(loss)} is above {percent(goal.loss)}")
    if dropped > goal.loss:
        complaints.append(f"the receiver's queue dropped {percent(dropped)} (at most {percent(goal.loss)})")
    if goal.p99_ns is not None and late > _ALLOWED_LATE:
        complaints.append(f"{percent(late)} of answers later than {ms(goal.p99_ns)} (at most {percent(_ALLOWED_LATE)})")
    return complaints


def _praise(result: LoadResult, goal: Goal, late: float) -> str:
    praise = f"loss {percent(result.loss or 0.0)} (at most {percent(goal.loss)})"
    if goal.p99_ns is None:
        return praise
    return f"{praise}; {percent(late)} of answers later than {ms(goal.p99_ns)} (at most {percent(_ALLOWED_LATE)})"
