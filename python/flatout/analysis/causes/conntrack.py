"""Connection tracking (nf_conntrack) drops packets: its table is full, or it refuses them for another reason."""

from __future__ import annotations

from flatout.analysis.troubles import enough
from flatout.result.finding import Finding
from flatout.result.ledger import Ledger
from flatout.result.model import LoadResult

# Entries are counted when the run has ended, and some have timed out by then.
_FULL = 0.9


def find(run: LoadResult) -> Finding | None:
    """Drops by nf_conntrack; its table was full where it has few entries left, or had to drop some early."""
    ledger = run.ledger
    dropped = ledger.count("conntrack") if ledger else 0
    if ledger is None or not enough(dropped, run):
        return None
    lines = [line for line in ledger.lines if line.place == "conntrack" and line.count]
    where = max(lines, key=lambda line: line.count or 0).where
    entries, early = _table(ledger, where)
    most = ledger.surroundings.limits.get("conntrack_max")
    full = early > 0 or (entries is not None and most is not None and entries >= _FULL * most)
    room = f" It had {entries:,} of {most:,} entries when the run ended." if entries is not None and most else ""
    evidence = [f"{line.where}: {line.counted or line.count:,} ({line.source})" for line in lines]
    if early:
        evidence.append(f"entries dropped early to make room: {early:,}")
    if not full:
        return Finding(
            name="conntrack",
            sentence=f"Connection tracking of {where} dropped {dropped:,} packets, and its table was not full.{room}",
            evidence=evidence,
            remedy="look at its counters (conntrack -S) and at its rules; exempt the traffic (nft: notrack in a raw "
            "chain)",
            confidence="medium",
            explains=dropped,
        )
    return Finding(
        name="conntrack full",
        sentence=f"The connection tracking table of {where} was full: {dropped:,} packets were dropped.{room}",
        evidence=evidence,
        remedy="exempt the traffic from it (nft: notrack in a raw chain), or raise net.netfilter.nf_conntrack_max",
        confidence="high",
        explains=dropped,
    )


def _table(ledger: Ledger, where: str) -> tuple[int | None, int]:
    """The entries of a namespace's table when the run ended (None: unknown), and how many were dropped early."""
    limits = ledger.surroundings.limits
    if where.startswith("the target's") and ledger.target_namespace == "other":
        return limits.get("target_conntrack_count"), ledger.at_target("conntrack.early_drop")
    return limits.get("conntrack_count"), ledger.counters.get("conntrack.early_drop", 0)
