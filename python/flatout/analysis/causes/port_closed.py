"""No program is bound to the target's port."""

from __future__ import annotations

from flatout.analysis.troubles import refused
from flatout.result.finding import Finding
from flatout.result.model import LoadResult


def find(run: LoadResult) -> Finding | None:
    """Refusals where the kernel counted as many packets to closed ports, or where no socket is bound on this host."""
    ledger = run.ledger
    number, what = refused(run)
    if run.link is not None:
        return _by_icmp(run)
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


def _by_icmp(run: LoadResult) -> Finding | None:
    """By the driver no request is known to be refused: the kernel alone sees the errors, and hosts send few of them."""
    ledger, outcomes = run.ledger, run.outcomes
    lines = [line for line in ledger.lines if line.place == "port_closed" and line.count] if ledger else []
    if not lines or outcomes.answered or outcomes.received or not outcomes.lost:
        return None
    return Finding(
        name="port closed",
        sentence=f"No program is bound to {run.scenario.target}, or a packet filter refuses: nothing was answered, and "
        "errors came back.",
        evidence=[f"{line.source} of {line.where}: {line.count:,}" for line in lines],
        remedy="start the program there, or correct the address and the port",
        confidence="medium",
        explains=outcomes.lost,
    )


def is_closed(run: LoadResult) -> bool:
    """Whether it is the port that refuses: nothing is bound, or most refusals are counted as packets to no socket."""
    ledger = run.ledger
    if ledger is None:
        return False
    nobody = run.placement is not None and run.placement.where == "nobody" and not ledger.sockets
    return nobody or 2 * ledger.count("port_closed") >= run.outcomes.refused > 0
