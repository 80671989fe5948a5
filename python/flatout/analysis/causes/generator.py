"""The generator could not keep its schedule, so what was measured is no limit of the target."""

from __future__ import annotations

from flatout.analysis.troubles import many, ms
from flatout.result.finding import Finding
from flatout.result.model import LoadResult
from flatout.result.thresholds import LATENESS_NS, LATENESS_TEXT, too_many


def find(run: LoadResult) -> Finding | None:
    """Requests that were reached more than 1 ms late, or had no free slot, or a high lateness."""
    ledger, late = run.ledger, run.lateness_ns
    if ledger is None:
        return None
    unsent = ledger.count("schedule") + ledger.count("own_slots") + ledger.count("own_error")
    many_unsent = too_many(unsent, run.outcomes.planned)
    slow = late is not None and late.p99 > LATENESS_NS and run.verdict == "generator-limited"
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
        evidence=[f"{line.place.replace('_', ' ')}: {line.count:,}" for line in ledger.lines if line.side == "unsent"],
        remedy="more load threads (--threads), CPUs of their own (--cpus), or another host for the generator",
        confidence="high" if many_unsent else "medium",
        explains=unsent if many_unsent else 0,
    )
