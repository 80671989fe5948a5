"""The target's host has no route to the addresses that requests come from."""

from __future__ import annotations

from flatout.analysis.troubles import enough, target
from flatout.result.finding import Finding
from flatout.result.model import LoadResult


def find(run: LoadResult) -> Finding | None:
    """Ip OutNoRoutes in the target's network namespace."""
    ledger = run.ledger
    dropped = ledger.count("answer_no_route") if ledger else 0
    if ledger is None or not enough(dropped, run):
        return None
    return Finding(
        name="no route back",
        sentence=f"The host of {target(run)} has no route back: {dropped:,} answers could not leave.",
        evidence=[f"Ip OutNoRoutes of the target's network namespace: {dropped:,}"],
        remedy="a route to the sources on the target's host (ip route get SOURCE), or other source addresses",
        confidence="high",
        explains=dropped,
    )
