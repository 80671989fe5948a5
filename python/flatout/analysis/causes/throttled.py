"""A CPU quota of a control group (cgroup) stops the target, or this process."""

from __future__ import annotations

from flatout.analysis.troubles import in_trouble, of_server, target
from flatout.result.finding import Finding
from flatout.result.model import LoadResult

_LEAST = 0.005


def find(run: LoadResult) -> Finding | None:
    """Throttled time of the control group of the target or of this process, in a run that had trouble."""
    about = run.contention
    if about is None or not in_trouble(run):
        return None
    here_s, there_s = about.throttled_s or 0.0, about.target_throttled_s or 0.0
    throttled_s = max(here_s, there_s)
    if throttled_s <= 0 or throttled_s < _LEAST * about.elapsed_s:
        return None
    # Where both are in one group the numbers are the same.
    whose = f"the control group of {target(run)}" if there_s > here_s else "this process's control group"
    return Finding(
        name="CPU quota",
        sentence=f"A CPU quota took {throttled_s:.2g} s of CPU time from {whose}.",
        evidence=[f"cpu.stat of the control group: {throttled_s:.3f} s throttled in {about.elapsed_s:.2f} s"],
        remedy="raise or remove the quota (cpu.max; docker --cpus, the pod's CPU limit)",
        confidence="high",
        explains=of_server(run) if there_s > here_s else 0,
    )
