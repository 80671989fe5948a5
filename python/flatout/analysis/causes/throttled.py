"""A CPU quota of the control group (cgroup) stops this process."""

from __future__ import annotations

from flatout.analysis.troubles import in_trouble
from flatout.result.finding import Finding
from flatout.result.model import LoadResult

_LEAST = 0.005


def find(run: LoadResult) -> Finding | None:
    """Throttled time of this process's control group, in a run that had trouble."""
    about = run.contention
    throttled_s = about.throttled_s if about else None
    if about is None or not throttled_s or throttled_s < _LEAST * about.elapsed_s or not in_trouble(run):
        return None
    return Finding(
        name="CPU quota",
        sentence=f"A CPU quota took {throttled_s:.2g} s of CPU time from this process's control group.",
        evidence=[f"cpu.stat of the control group: {throttled_s:.3f} s throttled in {about.elapsed_s:.2f} s"],
        remedy="raise or remove the quota (cpu.max; docker --cpus, the pod's CPU limit)",
        confidence="high",
    )
