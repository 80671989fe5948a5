"""The generator could not keep its schedule: requests left late, or not at all as they were too late."""

from __future__ import annotations

from flatout.analysis.troubles import many, ms, run_verdict
from flatout.result.finding import Finding
from flatout.result.model import LoadResult
from flatout.result.thresholds import LATENESS_NS, LATENESS_TEXT, too_many

_REMEDY = "more load threads (--threads), CPUs of their own (--cpus), or another host for the generator"
_BY_DRIVER = "a CPU of its own for the load thread (--cpus), or another host for the generator"


def find(run: LoadResult) -> Finding | None:
    """Requests that were reached more than 1 ms late, or a high lateness."""
    ledger, late = run.ledger, run.lateness_ns
    if ledger is None:
        return None
    unsent = ledger.count("schedule")
    many_unsent = too_many(unsent, run.outcomes.planned)
    slow = late is not None and late.p99 > LATENESS_NS and run_verdict(run) == "generator-limited"
    if not many_unsent and not slow:
        return None
    what = (
        f"{many(run, unsent)} could not leave within {LATENESS_TEXT} of due"
        if many_unsent
        else f"{run.wording.many} left late"
    )
    lateness = f"; p99 of its lateness was {ms(late.p99)}" if late else ""
    return Finding(
        name="generator",
        sentence=f"This generator fell behind: {what}{lateness}.",
        evidence=[f"more than {LATENESS_TEXT} late and not sent: {unsent:,}"],
        remedy=_BY_DRIVER if run.link else _REMEDY,
        confidence="high" if many_unsent else "medium",
        explains=unsent if many_unsent else 0,
    )
