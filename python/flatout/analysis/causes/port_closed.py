"""No program is bound to the target's port."""

from __future__ import annotations

from flatout.analysis.troubles import refused
from flatout.result.finding import Finding
from flatout.result.model import LoadResult


def find(run: LoadResult) -> Finding | None:
    """Refusals where the kernel counted as many packets to closed ports, or where no socket is bound on this host."""
    ledger = run.ledger
    number, what = refused(run)
    if ledger is None or not number or not is_closed(run):
        return None
    closed = ledger.count("port_closed")
    evidence = [f"Udp NoPorts of the target's network namespace: {closed:,}"] if closed else []
    if not ledger.sockets:
        evidence.append("no socket bound there when the run ended")
    return Finding(
        name="port closed",
        sentence=f"No program is bound to {run.scenario.target}: {what} were refused.",
        evidence=evidence,
        remedy="start the program there, or correct the address and the port",
        confidence="high" if not ledger.sockets else "medium",
        explains=run.outcomes.refused,
    )


def is_closed(run: LoadResult) -> bool:
    """Whether it is the port that refuses: nothing is bound, or most refusals are counted as packets to no socket."""
    ledger = run.ledger
    if ledger is None:
        return False
    nobody = run.placement is not None and run.placement.where == "nobody" and not ledger.sockets
    return nobody or 2 * ledger.count("port_closed") >= run.outcomes.refused > 0
