"""One thread of the target uses a whole CPU while others are free: it cannot go faster on one thread."""

from __future__ import annotations

from flatout.analysis.causes import shared_cpu, uneven_workers
from flatout.analysis.troubles import busiest_share, of_server, sentence_start, server_in_trouble, target
from flatout.result.finding import Finding
from flatout.result.model import LoadResult

_WHOLE = 0.95
# A thread that others keep from its CPU has the rest for its wait.
_LEAST = 0.5


def find(run: LoadResult) -> Finding | None:
    """The busiest thread at 95 % of a CPU or more, alone, with the time in which it waited for one."""
    threads = run.contention.target if run.contention else None
    about = run.placement.target if run.placement else None
    busiest = busiest_share(run)
    if threads is None or about is None or busiest is None or threads.busy_threads != 1 or busiest < _LEAST:
        return None
    if busiest + threads.run_delay_share < _WHOLE or (busiest < _WHOLE and shared_cpu.find(run)):
        return None
    if len(about.cpus) < 2 or uneven_workers.find(run) or not server_in_trouble(run):
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
