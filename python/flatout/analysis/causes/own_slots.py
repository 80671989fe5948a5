"""Requests that did not leave because all slots for requests waited for answers that had not come."""

from __future__ import annotations

from flatout.analysis.troubles import many, missing, sentence_start, target
from flatout.result.finding import Finding
from flatout.result.model import LoadResult
from flatout.result.thresholds import too_many


def find(run: LoadResult) -> Finding | None:
    """Requests without a slot. Where much was lost or late that is its effect, and the causes of that come before."""
    ledger, outcomes = run.ledger, run.outcomes
    full = ledger.count("own_slots") if ledger else 0
    if not too_many(full, outcomes.planned):
        return None
    unanswered = too_many(missing(run), outcomes.sent)
    why = (
        f"{sentence_start(target(run))} left {many(run, missing(run))} without a right answer in time"
        if unanswered
        else "answers came too slowly for this rate"
    )
    return Finding(
        name="full slots",
        sentence=f"{many(run, full)} could not leave, as all slots of their flow or connection waited for answers: "
        f"{why}.",
        evidence=[f"not sent for want of a slot: {full:,}", f"lost, late or refused: {missing(run):,}"],
        remedy="what helps the target to answer; a lower rate, or more connections or flows, as each has its own slots",
        confidence="medium",
        explains=0 if unanswered else full,
    )
