"""No program is bound to the target's port."""

from __future__ import annotations

from flatout.analysis.troubles import enough
from flatout.result.finding import Finding
from flatout.result.model import LoadResult


def find(run: LoadResult) -> Finding | None:
    """Udp NoPorts where refusals came back or nothing was answered."""
    ledger, outcomes = run.ledger, run.outcomes
    if ledger is None or not enough(outcomes.refused, run):
        return None
    closed = ledger.count("port_closed")
    nobody = run.placement is not None and run.placement.where == "nobody"
    if not closed and not nobody:
        return None
    return Finding(
        name="port closed",
        sentence=f"No program is bound to {run.scenario.target}: {outcomes.refused:,} {run.wording.many} were refused.",
        evidence=[f"Udp NoPorts of the network namespace: {closed:,}"] if closed else ["no socket in /proc/net"],
        remedy="start the program there, or correct the address and the port",
        confidence="high" if nobody else "medium",
        explains=outcomes.refused,
    )
