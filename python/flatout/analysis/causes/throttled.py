"""A CPU quota of a control group (cgroup) stops this process or the target."""

from __future__ import annotations

from flatout.analysis.troubles import in_trouble, of_server, server_in_trouble, target
from flatout.result.finding import Finding
from flatout.result.model import LoadResult

_LEAST = 0.005


def find(run: LoadResult) -> Finding | None:
    """Throttled time of the control groups of this process and of the target, in a run that had trouble."""
    about = run.contention
    if about is None or not in_trouble(run):
        return None
    least = _LEAST * about.elapsed_s
    held_up = [
        (whose, seconds)
        for whose, seconds, suffers in (
            ("this process's", about.throttled_s, True),
            (f"{target(run)}'s", about.target_throttled_s, server_in_trouble(run)),
        )
        if seconds and seconds >= least and suffers
    ]
    if not held_up:
        return None
    taken = " and ".join(f"{seconds:.2g} s of CPU time from {whose} control group" for whose, seconds in held_up)
    return Finding(
        name="CPU quota",
        sentence=f"A CPU quota took {taken}.",
        evidence=[
            f"cpu.stat of {whose} control group: {seconds:.3f} s throttled in {about.elapsed_s:.2f} s"
            for whose, seconds in held_up
        ],
        remedy="raise or remove the quota (cpu.max; docker --cpus, the pod's CPU limit)",
        confidence="high",
        explains=of_server(run) if any(whose.startswith(target(run)) for whose, _ in held_up) else 0,
    )
