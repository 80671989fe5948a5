"""The hypervisor gives this host's CPUs to others (steal)."""

from __future__ import annotations

from flatout.analysis.troubles import in_trouble
from flatout.result.finding import Finding
from flatout.result.model import LoadResult

_LEAST = 0.02


def find(run: LoadResult) -> Finding | None:
    """At least 2 % of all CPU time stolen in a run that had trouble."""
    about = run.contention
    if about is None or not about.steal_s or about.elapsed_s <= 0 or not in_trouble(run):
        return None
    share = about.steal_s / (about.elapsed_s * max(run.host.cpus, 1))
    if share < _LEAST:
        return None
    return Finding(
        name="steal",
        sentence=f"The hypervisor gave {share:.1%} of this host's CPU time to others ({about.steal_s:.2f} s).",
        evidence=[f"/proc/stat, field steal: {about.steal_s:.2f} s in {about.elapsed_s:.2f} s on {run.host.cpus} CPUs"],
        remedy="measure on a machine of its own, or at a quieter time; repeat the run",
        confidence="medium" if share < 0.1 else "high",
    )
