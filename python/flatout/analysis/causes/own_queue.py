"""The generator's own queue towards the target is full: the qdisc or the send buffer takes no more."""

from __future__ import annotations

from flatout.analysis.troubles import enough, many
from flatout.result.finding import Finding
from flatout.result.model import LoadResult


def find(run: LoadResult) -> Finding | None:
    """Sends that ended with ENOBUFS."""
    ledger = run.ledger
    dropped = ledger.count("own_queue") if ledger else 0
    # The queue of a device without a carrier drops everything; that is a cause of its own.
    if ledger is None or not enough(dropped, run) or ledger.surroundings.device_up is False:
        return None
    device = f" of {ledger.surroundings.device}" if ledger.surroundings.device else ""
    return Finding(
        name="send queue",
        sentence=f"This host's own queue{device} was full: {many(run, dropped)} were dropped "
        "before they left (ENOBUFS).",
        evidence=[f"send calls that ended with ENOBUFS: {dropped:,}"],
        remedy="a queue without shaping and a longer one (tc qdisc, ip link set txqueuelen), or a lower rate",
        confidence="high",
        explains=dropped,
    )
