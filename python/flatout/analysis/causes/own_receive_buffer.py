"""Answers reach this generator's sockets and are dropped there, as they are not read in time."""

from __future__ import annotations

from flatout.analysis.troubles import enough
from flatout.result.finding import Finding
from flatout.result.model import LoadResult


def find(run: LoadResult) -> Finding | None:
    """Drops at the generator's own sockets."""
    if not enough(run.own_drops, run):
        return None
    return Finding(
        name="generator's receive buffer",
        sentence=f"{run.own_drops:,} answers reached this generator and were dropped, as it did not read them in time.",
        evidence=[f"drops at the generator's own sockets (SO_MEMINFO): {run.own_drops:,}"],
        remedy="more load threads (--threads), CPUs of their own (--cpus), or a higher net.core.rmem_max",
        confidence="high",
        explains=min(run.own_drops, run.outcomes.lost),
    )
