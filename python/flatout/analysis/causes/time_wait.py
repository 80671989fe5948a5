"""The kernel's table of closed connections (TIME_WAIT) is full: it forgets them at once."""

from __future__ import annotations

from flatout.result.finding import Finding
from flatout.result.model import LoadResult

_COUNTER = "TcpExt.TCPTimeWaitOverflow"


def find(run: LoadResult) -> Finding | None:
    """TcpExt TCPTimeWaitOverflow at either end; it stands on the side that closes first."""
    ledger = run.ledger
    if ledger is None or run.connections is None:
        return None
    there, here = ledger.counters.get(f"target.{_COUNTER}", 0), ledger.counters.get(_COUNTER, 0)
    if not there + here:
        return None
    where = "the target's network namespace" if there > here else "this host's network namespace"
    most = ledger.surroundings.limits.get("tcp_max_tw_buckets") if here >= there else None
    room = f" has room for {most:,} and" if most is not None else ""
    return Finding(
        name="TIME_WAIT table",
        sentence=f"The table of closed connections (TIME_WAIT) of {where}{room} was full {there + here:,} times. "
        "Connections beyond it are forgotten at once, so a late segment of an old one may disturb a new one.",
        evidence=[f"TcpExt TCPTimeWaitOverflow of {where}: {max(there, here):,}"],
        remedy="raise net.ipv4.tcp_max_tw_buckets to 60 times the connections closed per second, or keep connections",
        confidence="low",
    )
