"""Answers reach this generator's sockets and are dropped there, as they are not read in time."""

from __future__ import annotations

from flatout.analysis.troubles import enough
from flatout.result.finding import Finding
from flatout.result.model import LoadResult


def find(run: LoadResult) -> Finding | None:
    """Drops at the generator's own sockets. Of frames by the driver `own_drops` also has those that were not sent."""
    if run.link is not None:
        return _of_frames(run)
    if not enough(run.own_drops, run):
        return None
    return Finding(
        name="generator's receive buffer",
        sentence=f"{run.own_drops:,} answers reached this generator and were dropped, as it did not read them in time.",
        evidence=[f"drops at the generator's own sockets (SO_MEMINFO): {run.own_drops:,}"],
        remedy="more load threads (--threads), CPUs of their own (--cpus), or a higher net.core.rmem_max",
        confidence="high",
        explains=min(run.own_drops, run.outcomes.lost),
    )


def _of_frames(run: LoadResult) -> Finding | None:
    dropped = run.ledger.count("own_receive_buffer") if run.ledger else 0
    if not enough(dropped, run):
        return None
    return Finding(
        name="generator's receive buffer",
        sentence=f"{dropped:,} answers reached this generator's AF_XDP sockets and were dropped, as it did not read "
        "them in time.",
        evidence=[f"drops at the AF_XDP sockets (XDP_STATISTICS): {dropped:,}"],
        remedy="a CPU of its own for the load thread (--cpus), or another host for the generator",
        confidence="high",
        explains=dropped,
    )
