"""The part of a trial in which the machine disturbed nothing: what was sent there, and what became of it. Pure.

The generator kept its schedule there, and no thread of the target waited for a CPU. Only such facts decide what is left
out, never loss: else the rest would look better than the server is.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from flatout.result import waiting
from flatout.result.machine import Subintervals
from flatout.result.model import LoadResult
from flatout.result.thresholds import LATENESS_NS, UNSENT_SHARE

# CPU time that others take in a trial, as a share of one CPU, from which on they are to blame for what was held up.
OTHERS_SHARE = 0.15
# A trial is judged by the undisturbed part of its time, if that is at least so much of it.
LEAST_SHARE = 0.5


# A thread of the target that waits for a CPU for longer may lose what its receive buffer cannot hold meanwhile. Linux's
# default holds 277 small datagrams; half of them, for a wait is seldom alone.
_BUFFERED = 138
_MOST_WAITED_NS = 500_000


class Undisturbed(NamedTuple):
    """The undisturbed part of a trial.

    share: of the trial's time.
    waited: of its own time, the share for which a thread of the target waited for a CPU, where that may explain a loss;
    None: not known for parts.
    sent, lost: requests that were due in it; answers that this host itself dropped count as answered.
    slow: of its answers, the share that came later after due than the goal for p99.
    behind: the generator could not keep its schedule for most of the time, so the load is beyond it.
    """

    share: float
    sent: int
    lost: int
    slow: float
    behind: bool
    waited: float | None = None

    @property
    def loss(self) -> float | None:
        """The loss ratio; None where nothing was sent."""
        return self.lost / self.sent if self.sent else None


def undisturbed(result: LoadResult) -> Undisturbed:
    """Leaves out the parts in which a request left more than 1 ms late or not at all, and the part after each.

    Then those in which a thread of the target waited for a CPU, and the part after each. Where that leaves too little,
    as with a target that shares every CPU, they stay, and `waited` says how long.
    """
    parts = result.subintervals
    if result.one_way or parts is None or not any(parts.sent):
        return _whole(result)
    late = {n + after for n, ns in enumerate(parts.lateness_max_ns) if ns > LATENESS_NS for after in (0, 1)}
    on_time = [n for n in range(len(parts.sent)) if n not in late]
    waits = _waits(result, parts)
    waited = _waiting(waits, parts.length_s * 1e9)
    apart = [n for n in on_time if n not in waited]
    if len(apart) < LEAST_SHARE * len(parts.sent):
        return _part(result, parts, on_time, sum(waits[n] for n in on_time))
    return _part(result, parts, apart, 0)


def _waits(result: LoadResult, parts: Subintervals) -> list[int]:
    """For how many ns the target waited in each part: 0 where that was too short to matter, or for its own threads."""
    if waiting.is_its_own(result.contention, result.placement):
        return [0] * len(parts.sent)
    length_ns = parts.length_s * 1e9
    waits = parts.target_waited_ns or [0] * len(parts.sent)
    return [
        wait if wait > min(_BUFFERED * length_ns / max(sent, 1), _MOST_WAITED_NS) else 0
        for wait, sent in zip(waits, parts.sent, strict=True)
    ]


def _waiting(waits: list[int], length_ns: float) -> set[int]:
    """The parts in which the target may have waited, and the one after. A wait is counted in the part it ends in."""
    return {part for n, wait in enumerate(waits) if wait for part in range(n - math.ceil(wait / length_ns), n + 2)}


def _part(result: LoadResult, parts: Subintervals, kept: list[int], waited_ns: int) -> Undisturbed:
    sent = sum(parts.sent[n] for n in kept)
    answered = sum(parts.answered[n] for n in kept)
    slow = sum(parts.slow[n] for n in kept)
    # Where in the run they were is not known; that they are no loss of the server's is.
    lost = max(sent - answered - result.own_drops, 0)
    share, behind = len(kept) / len(parts.sent), _is_behind(parts)
    waited = waited_ns / (parts.length_s * 1e9 * len(kept)) if kept and any(parts.target_waited_ns) else None
    return Undisturbed(share, sent, lost, slow / answered if answered else 0.0, behind, waited)


def _is_behind(parts: Subintervals) -> bool:
    """In more than half of its parts requests stayed unsent."""
    unsent = [more > UNSENT_SHARE * (more + sent) for more, sent in zip(parts.unsent, parts.sent, strict=True)]
    return 2 * sum(unsent) > len(unsent)


def _whole(result: LoadResult) -> Undisturbed:
    """All of it or nothing, by the run's verdict."""
    outcomes = result.outcomes
    valid = result.verdict != "generator-limited"
    lost = round((result.loss or 0.0) * outcomes.sent)
    on_time = result.lateness_ns is not None and result.lateness_ns.p50 < LATENESS_NS / 10
    return Undisturbed(float(valid), outcomes.sent, lost, 0.0, behind=not valid and not on_time)


def others_took(result: LoadResult) -> float:
    """The CPU time that other processes, or other machines of this host, took in a trial, as a share of one CPU."""
    contention = result.contention
    if contention is None or contention.others_s is None or not contention.elapsed_s:
        return 0.0
    return (contention.others_s + (contention.steal_s or 0.0)) / contention.elapsed_s
