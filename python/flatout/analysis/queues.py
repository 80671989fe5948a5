"""What causes say of the queues of devices (qdiscs)."""

from __future__ import annotations

from flatout.result.ledger import Ledger, Place

_FIELDS = (".drops", ".overlimits", ".requeues")


def biggest(ledger: Ledger, place: Place) -> str:
    """Where the line of a place is that has most."""
    return max((line for line in ledger.lines if line.place == place), key=lambda line: line.count or 0).where


def evidence(ledger: Ledger, prefix: str) -> list[str]:
    """The counters of each queue that moved, and what it still holds. prefix: "qdisc." or "target.qdisc."."""
    found: dict[str, list[str]] = {}
    for name, number in ledger.counters.items():
        if name.startswith(prefix) and name.endswith(_FIELDS):
            queue, _, field = name[len(prefix) :].rpartition(".")
            device, _, kind = queue.rpartition(".")
            found.setdefault(f"{device} ({kind})", []).append(f"{field} {number:,}")
    waits = {name: number for name, number in ledger.surroundings.queued.items() if number}
    there = prefix.startswith("target.")
    held = [
        f"queue of {name.removeprefix('target.')}: {number:,} packets waiting at the end"
        for name, number in waits.items()
        if name.startswith("target.") == there
    ]
    return [f"queue of {queue}: {', '.join(fields)}" for queue, fields in found.items()] + held
