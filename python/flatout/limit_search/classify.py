"""Load classification and conditional throughput by RFC 9971 (MLRsearch). Pure.

The arithmetic of the RFC's appendices, over all valid trials measured at one load. Trials shorter than
full length can only count against a load: their lossy time counts as far as their good time does not balance it.
Nothing here chooses a load or compares loads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Bound = Literal["lower", "upper", "undecided"]


class MeasuredTrial(Protocol):
    """What classification needs of a trial."""

    @property
    def duration_s(self) -> float: ...  # noqa: D102
    @property
    def loss(self) -> float: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class SearchGoal:
    """A search goal in the RFC's sense: a trial of `full_s` counts fully, and `sum_s` of them decide a load.

    A trial is lossy when its loss ratio is above `loss`; a load may have up to `exceed` of its time lossy.
    """

    full_s: float
    sum_s: float
    loss: float
    exceed: float = 0.5


@dataclass(frozen=True, slots=True)
class _Durations:
    """Seconds of trials at one load."""

    full_low: float = 0.0
    full_high: float = 0.0
    short_low: float = 0.0
    short_high: float = 0.0


def classify(goal: SearchGoal, trials: Iterable[MeasuredTrial]) -> Bound:
    """Lower: held even if all the missing time were lossy. Upper: lossy even if none of the missing time were."""
    sums = _add_up(goal, trials)
    balancing = sums.short_low * goal.exceed / (1.0 - goal.exceed)
    high = sums.full_high + max(0.0, sums.short_high - balancing)
    whole = max(sums.full_low + high, goal.sum_s)
    allowed = whole * goal.exceed
    if high > allowed:
        return "upper"
    return "lower" if whole - sums.full_low <= allowed else "undecided"


def conditional_throughput(goal: SearchGoal, load: float, trials: Iterable[MeasuredTrial]) -> float:
    """The load less the loss ratio that 1 - `exceed` of the full-length time stayed at or below."""
    full = sorted((trial for trial in trials if trial.duration_s >= goal.full_s), key=lambda trial: trial.loss)
    return load * (1.0 - _quantile_loss(goal, full))


def _quantile_loss(goal: SearchGoal, full: Sequence[MeasuredTrial]) -> float:
    remaining = max(goal.sum_s, sum(trial.duration_s for trial in full)) * (1.0 - goal.exceed)
    for trial in full:
        remaining -= trial.duration_s
        if remaining <= 0.0:
            return trial.loss
    return 1.0


def _add_up(goal: SearchGoal, trials: Iterable[MeasuredTrial]) -> _Durations:
    sums = {(full, high): 0.0 for full in (True, False) for high in (True, False)}
    for trial in trials:
        sums[trial.duration_s >= goal.full_s, trial.loss > goal.loss] += trial.duration_s
    return _Durations(
        full_low=sums[True, False],
        full_high=sums[True, True],
        short_low=sums[False, False],
        short_high=sums[False, True],
    )
