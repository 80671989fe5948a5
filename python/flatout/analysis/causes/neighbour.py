"""The next hop's hardware address does not resolve (ARP, NDP): packets wait and vanish, and sends succeed."""

from __future__ import annotations

from flatout.analysis.troubles import missing
from flatout.result.finding import Finding
from flatout.result.model import LoadResult


def find(run: LoadResult) -> Finding | None:
    """An entry of the table of neighbours without an address while nothing was answered."""
    ledger = run.ledger
    hop = ledger.surroundings.neighbour if ledger else ""
    failed = run.connections.failed if run.connections else 0
    if ledger is None or not hop or run.outcomes.answered or run.outcomes.received or not missing(run) + failed:
        return None
    asked = "neighbour discovery" if ":" in hop else "ARP"
    return Finding(
        name="neighbour",
        sentence=f"The next hop {hop} does not answer {asked} on {ledger.surroundings.device}: nothing reaches the "
        "target.",
        evidence=[f"the table of neighbours has no hardware address for {hop} (ip neighbour)"],
        remedy="is the host up, in the same network, and its address right? look with: ip neighbour",
        confidence="high",
        explains=missing(run),
    )
