"""The target's host cannot send the answers: the server's send buffer or the queue of its device is full."""

from __future__ import annotations

from flatout.analysis.troubles import enough, target
from flatout.result.finding import Finding
from flatout.result.model import LoadResult

# Counted so many times what was lost, most of it are other packets, or attempts that were repeated.
_MORE = 1.5


def find(run: LoadResult) -> Finding | None:
    """Udp SndbufErrors in the target's network namespace, which count full send buffers and drops of the qdisc."""
    ledger = run.ledger
    dropped = ledger.count("answer_send_buffer") if ledger else 0
    if ledger is None or not enough(dropped, run):
        return None
    counted = sum(line.counted or line.count or 0 for line in ledger.lines if line.place == "answer_send_buffer")
    return Finding(
        name="answers' queue",
        sentence=f"The host of {target(run)} dropped {dropped:,} answers before they left: a send buffer or a "
        "device's queue was full.",
        evidence=[f"Udp SndbufErrors of the target's network namespace: {counted:,}"],
        remedy="a queue without shaping and a longer one (tc qdisc, ip link set txqueuelen), a larger SO_SNDBUF",
        # A program that tries again counts as often as it tries.
        confidence="high" if counted <= _MORE * dropped else "medium",
        explains=dropped,
    )
