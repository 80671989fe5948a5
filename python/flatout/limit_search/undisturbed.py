"""The part of a trial in which the generator kept its schedule: what it sent there, and what became of it. Pure.

Only facts of the generator decide what is left out, never loss: else the rest would look better than the server is.
"""

from __future__ import annotations

from typing import NamedTuple

from flatout.result.machine import Subintervals
from flatout.result.model import LoadResult
from flatout.result.thresholds import LATENESS_NS, UNSENT_SHARE

# CPU time that others take in a trial, as a share of one CPU, from which on they are to blame for what was held up.
OTHERS_SHARE = 0.15
# A trial is judged by the undisturbed part of its time, if that is at least so much of it.
LEAST_SHARE = 0.5


class Undisturbed(NamedTuple):
    """The undisturbed part of a trial.

    share: of the trial's time.
    sent, lost: requests that were due in it; answers that this host itself dropped count as answered.
    slow: of its answers, the share that came later after due than the goal for p99.
    behind: the generator could not keep its schedule for most of the time, so the load is beyond it.
    """

    share: float
    sent: int
    lost: int
    slow: float
    behind: bool

    @property
    def loss(self) -> float | None:
        """The loss ratio; None where nothing was sent."""
        return self.lost / self.sent if self.sent else None


def undisturbed(result: LoadResult) -> Undisturbed:
    """Leaves out the parts in which a request left more than 1 ms late or not at all, and the part after each."""
    parts = result.subintervals
    if result.one_way or parts is None or not any(parts.sent):
        return _whole(result)
    late = [lateness > LATENESS_NS for lateness in parts.lateness_max_ns]
    kept = [n for n, is_late in enumerate(late) if not is_late and not (n and late[n - 1])]
    sent = sum(parts.sent[n] for n in kept)
    answered = sum(parts.answered[n] for n in kept)
    slow = sum(parts.slow[n] for n in kept)
    # Where in the run they were is not known; that they are no loss of the server's is.
    lost = max(sent - answered - result.own_drops, 0)
    return Undisturbed(len(kept) / len(late), sent, lost, slow / answered if answered else 0.0, _is_behind(parts))


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
    if contention is None or not contention.others_s or not contention.elapsed_s:
        return 0.0
    return contention.others_s / contention.elapsed_s
