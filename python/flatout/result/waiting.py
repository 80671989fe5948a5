"""Whether the target's wait for a CPU explains what was lost or late. Pure.

A thread that waits for a share of the time loses, or delays, as large a share of what it is sent, and no larger.
"""

from __future__ import annotations

from flatout.result.machine import Contention, Placement

# Below this share of the time a wait explains nothing.
_LEAST = 0.005


def explains(share: float, contention: Contention | None, placement: Placement | None) -> str | None:
    """The wait that explains that a `share` of all was lost or late, in words; None where none does."""
    target = contention.target if contention else None
    if target is None or target.run_delay_share < max(_LEAST, share):
        return None
    name = placement.target.command if placement and placement.target else "the target"
    held = "shared with this generator" if placement and placement.shared_cpus else "that others held"
    return f"a thread of {name} waited {target.run_delay_share:.1%} of the time for a CPU {held}"
