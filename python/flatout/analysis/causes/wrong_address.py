"""Packets reach the target's host with another host's hardware address, and are dropped there."""

from __future__ import annotations

from flatout.analysis.troubles import enough, many
from flatout.result.finding import Finding
from flatout.result.model import LoadResult


def find(run: LoadResult) -> Finding | None:
    """The counter rx_otherhost_dropped of devices at either end."""
    ledger = run.ledger
    dropped = ledger.count("other_host") if ledger else 0
    if ledger is None or not enough(dropped, run):
        return None
    lines = [line for line in ledger.lines if line.place == "other_host" and line.count]
    return Finding(
        name="wrong hardware address",
        sentence=f"{many(run, dropped)} reached {lines[0].where} with another host's hardware address, and were "
        "dropped there.",
        evidence=[f"{line.where}: {line.counted or line.count:,} ({line.source})" for line in lines],
        remedy="correct or delete the entry (ip neighbour show, ip neighbour flush), look for a second owner of the "
        "address",
        confidence="high",
        explains=dropped,
    )
