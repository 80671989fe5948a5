"""Other programs of this host use the CPUs that generator and server need."""

from __future__ import annotations

from flatout.analysis.causes import generator, shared_cpu
from flatout.result.finding import Finding
from flatout.result.model import LoadResult

# In CPUs. Below it there is some everywhere, and it disturbs little.
_LEAST = 0.3
_FULL = 0.9


def find(run: LoadResult) -> Finding | None:
    """More than 0.3 CPUs used by others while all were busy, and the generator was late or the target waited."""
    about = run.contention
    if about is None or not about.others_s or not about.busy_s or about.elapsed_s <= 0:
        return None
    if generator.find(run) is None and shared_cpu.find(run) is None:
        return None
    used, cpus = about.others_s / about.elapsed_s, len(about.busy_s)
    if used < _LEAST or sum(about.busy_s.values()) < _FULL * cpus * about.elapsed_s:
        return None
    # The generator's trouble is their effect.
    late = generator.find(run)
    return Finding(
        name="other programs",
        sentence=f"Other programs used {used:.1f} of this host's {cpus} CPUs, and all CPUs were busy.",
        evidence=[f"/proc/stat: {about.others_s:.2f} s in {about.elapsed_s:.2f} s, neither generator nor target"],
        remedy="stop them (look with top), or measure at a quieter time",
        confidence="medium",
        explains=late.explains if late else 0,
    )
