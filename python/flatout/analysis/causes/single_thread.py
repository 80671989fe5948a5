"""One thread of the target uses a whole CPU while others are free: it cannot go faster on one thread."""

from __future__ import annotations

from flatout.analysis.troubles import busiest_share, of_server, sentence_start, server_in_trouble, target
from flatout.result.finding import Finding
from flatout.result.model import LoadResult

_WHOLE = 0.95


def find(run: LoadResult) -> Finding | None:
    """The busiest thread at 95 % of a CPU or more, alone."""
    threads = run.contention.target if run.contention else None
    about = run.placement.target if run.placement else None
    busiest = busiest_share(run)
    if threads is None or about is None or busiest is None or busiest < _WHOLE or threads.busy_threads != 1:
        return None
    if len(about.cpus) < 2 or not server_in_trouble(run):
        return None
    return Finding(
        name="single thread",
        sentence=f"{sentence_start(target(run))} does its work in one thread, which used {busiest:.0%} of a CPU; "
        f"it may use {len(about.cpus)} CPUs.",
        evidence=[f"busiest thread {busiest:.1%} of the time on a CPU, no other above 2 % (schedstat)"],
        remedy="let the target use more threads or processes, each with a socket of its own (SO_REUSEPORT)",
        confidence="high" if not (run.placement and run.placement.shared_cpus) else "medium",
        explains=of_server(run),
    )
