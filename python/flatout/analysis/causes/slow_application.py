"""The target answers at a rate of its own while its CPUs are idle: it waits for something between requests."""

from __future__ import annotations

from flatout.analysis.causes import shared_cpu, uneven_workers
from flatout.analysis.troubles import busiest_share, of_server, sentence_start, target
from flatout.result.finding import Finding
from flatout.result.model import LoadResult

# Of what was sent: less may be a burst that its buffer did not hold.
_LEAST = 0.1
# Of the time, on a CPU or waiting for one.
_IDLE = 0.7


def find(run: LoadResult) -> Finding | None:
    """Much lost to the server, yet some answered, its busiest thread mostly neither on a CPU nor waiting for one."""
    threads = run.contention.target if run.contention else None
    busiest, outcomes = busiest_share(run), run.outcomes
    if run.ledger is None or run.connections is not None or threads is None or busiest is None or not outcomes.answered:
        return None
    cost = of_server(run)
    # What only comes late may have waited anywhere on the way.
    counted = run.ledger.count("receive_buffer") + run.ledger.count("unread")
    throttled = run.contention is not None and bool(run.contention.target_throttled_s)
    if cost < _LEAST * outcomes.sent or 2 * counted < cost or throttled or run.ledger.surroundings.target_stopped:
        return None
    if busiest + threads.run_delay_share >= _IDLE or uneven_workers.find(run) or shared_cpu.find(run):
        return None
    return Finding(
        name="slow application",
        sentence=f"{sentence_start(target(run))} answered {run.rate_per_s.answered:,.0f}/s and no more, while its "
        f"busiest thread used only {busiest:.0%} of a CPU: it waits for something between {run.wording.many}.",
        evidence=[
            f"busiest thread {busiest:.1%} of the time on a CPU, {threads.run_delay_share:.1%} waiting for one "
            "(schedstat)",
            f"in its receive buffer: {counted:,} lost or unread",
        ],
        remedy="look at what it waits for (a lock, a disk, another program, a sleep); more threads that wait at once",
        confidence="medium",
        explains=cost,
    )
