"""The target waits for CPUs that this generator, or other programs, use."""

from __future__ import annotations

from flatout.analysis.troubles import in_trouble, of_server, sentence_start, target
from flatout.result import waiting
from flatout.result.finding import Finding
from flatout.result.model import LoadResult
from flatout.result.thresholds import too_many


def find(run: LoadResult) -> Finding | None:
    """Generator and server on one CPU, or a wait that explains all that was lost."""
    about, placement = run.contention, run.placement
    if about is None or about.target is None or placement is None or not in_trouble(run):
        return None
    share = about.target.run_delay_share
    shared = [str(cpu) for cpu in placement.shared_cpus]
    # Where nothing was lost its waits had no effect that could be counted.
    wait = waiting.explains(run.loss or 0.0, about, placement) if too_many(of_server(run), run.outcomes.sent) else None
    if wait is None and not (shared and share >= 0.05):
        return None
    lost = of_server(run) if wait else 0
    where = (
        f" CPU {', '.join(shared)} {'is' if len(shared) == 1 else 'are'} shared with this generator." if shared else ""
    )
    return Finding(
        name="shared CPU",
        sentence=f"{sentence_start(target(run))} waited for a CPU, a thread of it for {share:.1%} of the time.{where}",
        evidence=[f"run-queue delay of all its threads {about.target.run_delay_s:.2f} s (schedstat)", placement.why],
        remedy="keep generator and target apart (--cpus, taskset), or run the generator on another host",
        confidence="high" if wait and shared else "medium",
        explains=lost,
    )
