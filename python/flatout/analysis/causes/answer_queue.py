"""The target's host cannot send the answers: the server's send buffer or the queue of its device is full."""

from __future__ import annotations

from flatout.analysis import queues
from flatout.analysis.troubles import enough, target
from flatout.result.finding import Finding
from flatout.result.model import LoadResult

# Counted so many times what was lost, most of it are other packets, or attempts that were repeated.
_MORE = 1.5


def find(run: LoadResult) -> Finding | None:
    """Drops of the queues (qdiscs) of the target's network namespace, and its Udp SndbufErrors beyond these."""
    ledger = run.ledger
    if ledger is None:
        return None
    in_queue, in_buffer = ledger.count("answer_qdisc"), ledger.count("answer_send_buffer")
    dropped = in_queue + in_buffer
    if not enough(dropped, run):
        return None
    counted = sum(line.counted or line.count or 0 for line in ledger.lines if line.place == "answer_send_buffer")
    if in_queue >= in_buffer:
        why = f"the queue of {queues.biggest(ledger, 'answer_qdisc')} was full, or shapes"
    elif any(line.blind for line in ledger.lines if line.place == "answer_qdisc"):
        why = "a send buffer or a device's queue was full"
    else:
        why = "the server's send buffer was full"
    return Finding(
        name="answers' queue",
        sentence=f"The host of {target(run)} dropped {dropped:,} answers before they left: {why}.",
        evidence=[
            *queues.evidence(ledger, "target.qdisc."),
            f"Udp SndbufErrors of the target's network namespace: {ledger.at_target('Udp.SndbufErrors'):,}",
        ],
        remedy="a queue without shaping and a longer one (tc qdisc, ip link set txqueuelen), a larger SO_SNDBUF",
        # A program that tries again counts as often as it tries.
        confidence="high" if counted <= _MORE * dropped else "medium",
        explains=dropped,
    )
