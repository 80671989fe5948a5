"""Whether the target's wait for a CPU explains what was lost or late. Pure.

A thread that waits for a share of the time loses, or delays, as large a share of what it is sent, and no larger.
"""

from __future__ import annotations

from flatout.result.machine import Contention, Placement

# Below this share of the time a wait explains nothing.
_LEAST = 0.005


def explains(
    share: float, contention: Contention | None, placement: Placement | None, waited: float | None = None
) -> str | None:
    """The wait that explains that a `share` of all was lost or late, in words; None where none does.

    `waited`: the share of the time for which a thread of the target waited; None: that of the whole run.
    """
    target = contention.target if contention else None
    if target is None or is_its_own(contention, placement):
        return None
    waited = target.run_delay_share if waited is None else waited
    if waited < max(_LEAST, share):
        return None
    name = placement.target.command if placement and placement.target else "the target"
    held = "shared with this generator" if placement and placement.shared_cpus else "that others held"
    return f"a thread of {name} waited {waited:.1%} of the time for a CPU {held}"


def is_its_own(contention: Contention | None, placement: Placement | None) -> bool:
    """Whether the target's threads wait for each other: more of them are busy than there are CPUs for them alone."""
    target = contention.target if contention else None
    about = placement.target if placement else None
    if target is None or about is None or placement is None or placement.shared_cpus:
        return False
    return target.busy_threads > len(set(about.cpus) - set(placement.cpus))
