"""The table of tracked connections (nf_conntrack) is full: the kernel drops what would need a new entry."""

from __future__ import annotations

from flatout.analysis.troubles import enough
from flatout.result.finding import Finding
from flatout.result.model import LoadResult


def find(run: LoadResult) -> Finding | None:
    """Drops by nf_conntrack."""
    ledger = run.ledger
    dropped = ledger.count("conntrack") if ledger else 0
    if ledger is None or not enough(dropped, run):
        return None
    limits = ledger.surroundings.limits
    count, most = limits.get("conntrack_count"), limits.get("conntrack_max")
    room = f" It had {count:,} of {most:,} entries when the run ended." if count is not None and most else ""
    where = next(line.where for line in ledger.lines if line.place == "conntrack" and line.count)
    return Finding(
        name="conntrack full",
        sentence=f"The connection tracking table of {where} was full: {dropped:,} packets were dropped.{room}",
        evidence=[f"/proc/net/stat/nf_conntrack drop: {dropped:,}"],
        remedy="exempt the traffic from it (nft: notrack in a raw chain), or raise net.netfilter.nf_conntrack_max",
        confidence="high",
        explains=dropped,
    )
