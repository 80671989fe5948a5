"""Several sockets share the target's port (SO_REUSEPORT), and one of them gets most of the packets."""

from __future__ import annotations

from flatout.analysis.troubles import busiest_share, enough, target
from flatout.result.finding import Finding
from flatout.result.model import LoadResult

# The share of all drops at one socket; with even workers it is one part of as many as there are sockets.
_MOST = 0.7


def find(run: LoadResult) -> Finding | None:
    """Drops at one of several sockets of the same address, while others drop next to nothing."""
    ledger = run.ledger
    known = [each for each in ledger.sockets if each.drops is not None] if ledger else []
    if ledger is None or len(known) < 2 or len({each.address for each in known}) != 1:
        return None
    dropped = sum(each.drops or 0 for each in known)
    worst = max(known, key=lambda each: each.drops or 0)
    share = (worst.drops or 0) / dropped if dropped else 0.0
    if not enough(min(dropped, ledger.count("receive_buffer")), run) or share < max(_MOST, 1.5 / len(known)):
        return None
    busiest = busiest_share(run)
    busy = f" The busiest thread used {busiest:.0%} of a CPU." if busiest is not None else ""
    return Finding(
        name="uneven workers",
        sentence=f"One of the {len(known)} sockets of {target(run)} at {worst.address} had {share:.0%} of the drops: "
        f"the kernel picks a socket by the flow, and few flows spread unevenly.{busy}",
        evidence=[f"socket {number}: {each.drops:,} drops" for number, each in enumerate(known, 1)],
        remedy="more flows (--flows), fewer sockets that share the port, or one chosen by CPU "
        "(SO_ATTACH_REUSEPORT_CBPF)",
        confidence="high" if share >= 0.9 else "medium",
        explains=ledger.count("receive_buffer"),
    )
