"""The accept queue of the target's listening socket is full: it accepts connections too slowly."""

from __future__ import annotations

from flatout.analysis.troubles import in_trouble, target
from flatout.result.finding import Finding
from flatout.result.model import LoadResult

# The kernel's first repetition of a handshake comes after 1 s.
_RETRY_NS = 900_000_000


def find(run: LoadResult) -> Finding | None:
    """TcpExt ListenOverflows: each is a handshake step that was dropped, and is tried again after 1 s or more."""
    ledger = run.ledger
    overflows = ledger.count("accept_queue") if ledger else 0
    if ledger is None or not overflows:
        return None
    listeners = [each for each in ledger.sockets if each.queue_limit is not None or each.queue is not None]
    named = next((each for each in listeners if each.drops), None)
    late = run.connect_ns is not None and run.connect_ns.max >= _RETRY_NS
    if named is None and not late and not in_trouble(run):
        # The counter is the whole namespace's: another program's listener.
        return None
    limit = next((each.queue_limit for each in listeners if each.queue_limit is not None), None)
    room = f" It has room for {limit:,} (listen's backlog, at most net.core.somaxconn)." if limit is not None else ""
    return Finding(
        name="accept queue",
        sentence=f"The accept queue of {named.name if named else target(run)} was full: handshakes were dropped "
        f"{overflows:,} times, and clients try again after 1 s or more.{room}",
        evidence=[
            f"TcpExt ListenOverflows of the network namespace: {overflows:,}",
            *(f"{each.name}: {each.drops:,} drops, at most {each.queue} waiting" for each in listeners if each.drops),
        ],
        remedy="a larger backlog in listen() and net.core.somaxconn, which count when the program listens again "
        "(restart it), or more threads that accept (SO_REUSEPORT)",
        confidence="high" if named else "medium",
    )
