"""The verdict of a trial: one finished run against a goal -> held, failed or invalid, with the reason. Pure.

A run that the generator could not drive, or that was interrupted, is invalid: it says nothing of the server. Otherwise
the trial is held if loss is at most the goal's and the criteria of its kind of exchange are met. So that one number
orders trials, each criterion is expressed as loss, and the largest counts: the effective loss of a held trial is never
above the goal's, that of a failed one always is. Over connections, those that this host could not open make a trial
invalid; those that the target did not accept, or ended for good, count as loss. A target that is lost fails a trial.
Never in here: the choice of a load, I/O, the histogram's code (it is passed in).
"""

from __future__ import annotations

import msgspec

from flatout.limit_search import connections
from flatout.limit_search.exchange import Criterion, ShareLaterThan, criteria_of
from flatout.limit_search.numbers import ms, percent
from flatout.limit_search.undisturbed import (
    LEAST_SHARE,
    OTHERS_SHARE,
    Undisturbed,
    others_took,
    undisturbed,
)
from flatout.result import requirements, waiting
from flatout.result.model import Goal, LoadResult, TrialVerdict
from flatout.result.thresholds import LATE_SHARE, LATENESS_NS, too_many

# What a trial says of a load that could not be driven while other processes took the CPUs.
_BY_OTHERS = 0.25
# A requirement that is missed fails a trial however little was lost; by how much it was missed is unknown.
_UNMET_AS_LOSS = 0.01


class TrialEvaluation(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict on a trial; `loss` is the effective loss ratio (0 for an invalid trial, where it means nothing).

    `weight`: the share of its time in which the generator was not disturbed, by which the trial was judged. `sent`
    and `lost`: requests in that time. `undriven`: invalid, because the generator could not drive the load, or the
    target waited for CPUs, or this host dropped packets; its weight is then how much that is evidence: little where
    other processes took the CPUs.
    """

    verdict: TrialVerdict
    loss: float
    why: str
    weight: float = 1.0
    sent: int = 0
    lost: int = 0
    undriven: bool = False


def evaluate_trial(result: LoadResult, goal: Goal, share_later_than: ShareLaterThan) -> TrialEvaluation:
    """`share_later_than` gives the share of a distribution's samples above so many ns."""
    evaluation = _evaluate(result, goal, share_later_than)
    target = result.placement.target if result.placement else None
    if evaluation.verdict != "failed" or target is None or not target.ended:
        return evaluation
    return msgspec.structs.replace(evaluation, why=f"{evaluation.why}; {target.ended_text}")


def _evaluate(result: LoadResult, goal: Goal, share_later_than: ShareLaterThan) -> TrialEvaluation:
    meaningless = _meaningless(result)
    if meaningless is not None:
        return TrialEvaluation(verdict="invalid", loss=0.0, why=meaningless)
    failed = _failed_by_target(result, goal)
    if failed is not None:
        return failed
    part = undisturbed(result)
    if part.share < LEAST_SHARE or part.loss is None or result.loss is None:
        return _invalid(result, part)
    # The whole run's histogram knows nothing of parts; what was counted for each part does.
    later = share_later_than if part.share == 1.0 else (lambda *_: part.slow)
    criteria = criteria_of(result)(result, goal, later)
    evaluation = _by_criteria(part.loss, goal, criteria, _unmet(result))
    host = _by_this_host(result, part, goal, criteria) if evaluation.verdict == "failed" else None
    if host:
        why, by_others = f"{host}, and {evaluation.why}", others_took(result) > OTHERS_SHARE
        weight = _BY_OTHERS if by_others else 1.0
        return TrialEvaluation(verdict="invalid", loss=0.0, why=why, weight=weight, undriven=True)
    return msgspec.structs.replace(evaluation, weight=part.share, sent=part.sent, lost=part.lost)


def _by_this_host(result: LoadResult, part: Undisturbed, goal: Goal, criteria: list[Criterion]) -> str | None:
    """What on this host explains that a trial did not hold: the target's wait for a CPU, drops in the receive backlog.

    None where nothing does.
    """
    missed = any(not criterion.met for criterion in criteria)
    # What a receiver's queue dropped, its handler was too slow for; requirements are the user's own.
    if (missed and result.one_way) or _unmet(result):
        return None
    lost = part.loss if part.loss and part.loss > goal.loss else 0.0
    dropped = result.contention.backlog_drops or 0 if result.contention else 0
    if lost and not missed and dropped >= part.lost:
        return f"this host dropped {dropped:,} packets before they reached a socket (backlog)"
    share = max(lost, LATE_SHARE if missed else 0.0)
    return waiting.explains(share, result.contention, result.placement, part.waited)


def _meaningless(result: LoadResult) -> str | None:
    """Why a run says nothing of the server, nor of what the generator can drive; None where it may."""
    if result.verdict == "interrupted":
        return "interrupted"
    if result.failed_call is not None or result.lost_hosts:
        return result.why
    return connections.unopened(result)


def _invalid(result: LoadResult, part: Undisturbed) -> TrialEvaluation:
    """Nothing can be said of the server: the reason, and whether the load is beyond the generator."""
    if result.outcomes.sent and result.loss is None:
        return TrialEvaluation(verdict="invalid", loss=0.0, why="no receiver reported what arrived")
    if not result.outcomes.sent and not result.outcomes.unsent:
        return TrialEvaluation(verdict="invalid", loss=0.0, why="nothing was sent")
    share = others_took(result)
    by_others = share > OTHERS_SHARE
    why = _unusable(result, part) + (f"; other processes took {share:.0%} of a CPU" if by_others else "")
    if not part.behind:
        return TrialEvaluation(verdict="invalid", loss=0.0, why=why, weight=part.share)
    weight = _BY_OTHERS if by_others else 1.0
    return TrialEvaluation(verdict="invalid", loss=0.0, why=why, weight=weight, undriven=True)


def _by_criteria(loss: float, goal: Goal, criteria: list[Criterion], unmet: list[str]) -> TrialEvaluation:
    effective = max([loss, *(criterion.as_loss for criterion in criteria)])
    reasons = [f"loss {percent(loss)} is above {percent(goal.loss)}"] if loss > goal.loss else []
    reasons += [criterion.text for criterion in criteria if not criterion.met] + unmet
    if reasons:
        effective = max(effective, goal.loss + _UNMET_AS_LOSS if unmet else 0.0)
        return TrialEvaluation(verdict="failed", loss=min(effective, 1.0), why="; ".join(reasons))
    measured = [f"loss {percent(loss)} (at most {percent(goal.loss)})"]
    measured += [criterion.text for criterion in criteria]
    return TrialEvaluation(verdict="held", loss=effective, why="; ".join(measured))


def _unmet(result: LoadResult) -> list[str]:
    return [f"{expression} is not met" for expression in requirements.missed(result)]


def _failed_by_target(result: LoadResult, goal: Goal) -> TrialEvaluation | None:
    """A target that did not take connections or requests has failed, whatever the generator did."""
    loss = result.loss or 0.0
    missing, why = connections.missing(result, goal)
    if why:
        return TrialEvaluation(verdict="failed", loss=min(max(missing, loss), 1.0), why=why)
    causes = {
        "the target took no more": result.unsent_because.get("blocked", 0),
        "the target had ended the connections": connections.unconnected(result),
    }
    prevented = _share_unless_behind(result, sum(causes.values()))
    if prevented > goal.loss:
        cause = max(causes, key=lambda name: causes[name])
        why = f"{percent(prevented)} of {result.wording.many} could not leave because {cause}"
        return TrialEvaluation(verdict="failed", loss=min(max(prevented, loss), 1.0), why=why)
    answers = result.outcomes.answered + result.outcomes.late + result.own_drops
    silent = result.loss is None or not (result.one_way or answers)
    if result.verdict == "target-lost" and silent and result.outcomes.sent:
        return TrialEvaluation(verdict="failed", loss=1.0, why=result.why)
    return None


def _share_unless_behind(result: LoadResult, prevented: int) -> float:
    """The share of requests whose leaving the target prevented; 0 where the generator itself fell behind."""
    planned = result.outcomes.planned
    behind = too_many(result.outcomes.unsent - prevented, planned)
    late = result.lateness_ns is not None and result.lateness_ns.p99 > LATENESS_NS
    return 0.0 if behind or late or not planned else prevented / planned


def _unusable(result: LoadResult, part: Undisturbed) -> str:
    outcomes, lateness = result.outcomes, result.lateness_ns
    unsent = percent(outcomes.unsent / outcomes.planned) if outcomes.planned else "all"
    p99 = "unknown (nothing left)" if lateness is None else ms(lateness.p99)
    what = "the generator fell behind" if part.behind else "the machine held the generator up"
    return f"{what}: {unsent} of {result.wording.many} unsent, p99 of its lateness {p99}"
