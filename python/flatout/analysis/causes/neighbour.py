"""The next hop's hardware address does not resolve (ARP, or IPv6's neighbour discovery): packets vanish unnoticed."""

from __future__ import annotations

from flatout.analysis.troubles import missing
from flatout.result.finding import Finding
from flatout.result.model import LoadResult


def find(run: LoadResult) -> Finding | None:
    """An entry of the ARP table without an address, or the kernel's drop reasons, while nothing was answered."""
    ledger = run.ledger
    hop = ledger.surroundings.neighbour if ledger else ""
    failed = run.connections.failed if run.connections else 0
    if ledger is None or not hop or run.outcomes.answered or run.outcomes.received or not missing(run) + failed:
        return None
    asked = "neighbour discovery" if ":" in hop else "ARP"
    lines = [line for line in ledger.lines if line.place == "neighbour" and line.count and "kfree_skb" in line.source]
    evidence = [f"{line.where}: {line.counted or line.count:,} {line.source}" for line in lines]
    if asked == "ARP":
        evidence.insert(0, f"/proc/net/arp has no hardware address for {hop}")
    return Finding(
        name="neighbour",
        sentence=f"The next hop {hop} does not answer {asked} on {ledger.surroundings.device}: "
        "nothing reaches the target.",
        evidence=evidence or [f"packets wait for the hardware address of {hop}"],
        remedy="is the host up, in the same network, and its address right? look with: ip neighbour",
        confidence="high",
        explains=missing(run),
    )
