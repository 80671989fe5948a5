"""The queue (qdisc) or send buffer of this host is full, or drops packets that it took."""

from __future__ import annotations

from flatout.analysis import queues
from flatout.analysis.troubles import enough, many
from flatout.result.finding import Finding
from flatout.result.model import LoadResult


def find(run: LoadResult) -> Finding | None:
    """Send calls that ended with ENOBUFS, and drops of the device's queue that no send call saw."""
    ledger = run.ledger
    refused, unseen = (ledger.count("own_queue"), ledger.count("qdisc")) if ledger else (0, 0)
    # The queue of a device without a carrier drops everything; that is a cause of its own.
    if ledger is None or not enough(refused + unseen, run) or ledger.surroundings.device_up is False:
        return None
    device = f" of {ledger.surroundings.device}" if ledger.surroundings.device else ""
    if refused >= unseen:
        sentence = f"This host's own queue{device} was full: {many(run, refused)} were dropped before they left"
        sentence += f" (ENOBUFS){f', and {unseen:,} in the queue' if unseen else ''}."
    else:
        where = queues.biggest(ledger, "qdisc")
        sentence = f"This host's own queue, {where}: {many(run, unseen)} were dropped there after it had taken them."
    return Finding(
        name="send queue",
        sentence=sentence,
        evidence=[
            *([f"send calls that ended with ENOBUFS: {refused:,}"] if refused else []),
            *queues.evidence(ledger, "qdisc."),
        ],
        remedy="a queue without shaping and a longer one (tc qdisc, ip link set txqueuelen), or a lower rate",
        confidence="high",
        explains=refused + unseen,
    )
