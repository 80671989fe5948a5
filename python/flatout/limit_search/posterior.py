"""What the trials of a search say of the limit: a posterior distribution over loads. Pure.

Model: the logarithm of a trial's loss grows with the logarithm of its load, with normal noise, and the limit is the
load at which half of the trials hold. So a trial at load x holds with probability lapse + (1 - 2 lapse) *
Phi(ln(limit / x) / sigma), a probit curve with lapses (Wichmann and Hill, "The psychometric function", 2001). A trial
that failed by much tells more than that it failed: failures have two grades (ordinal regression: McCullagh,
"Regression models for ordinal data", 1980). The limit, the curve's width `sigma`, the share of odd trials `lapse` and
the noise of the loss are all unknown: the prior is flat in the log of the limit, and all are estimated together on a
grid. A trial counts by its weight, the share of its time in which it was not disturbed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

# Widths of the curve, as shares of the load, shares of odd trials, and standard deviations of the logarithm of a loss:
# little where loss creeps up over the width of the curve, much where it jumps. With the prior weight of each.
_SIGMAS = ((0.003, 0.1), (0.006, 0.2), (0.012, 0.25), (0.025, 0.2), (0.05, 0.15), (0.1, 0.1))
_LAPSES = ((0.01, 0.4), (0.05, 0.35), (0.15, 0.25))
_NOISES = ((1.0, 0.4), (3.0, 0.3), (12.0, 0.3))
# A loss of so many times the goal's is of the upper grade.
_BY_MUCH = 4.0
# Steps of the grid, as a share of the load, and how many of them at most.
_STEP = 0.0025
_MOST_POINTS = 4_000


class Evidence(NamedTuple):
    """One trial: whether its load was held, and how much it counts (1: as a whole trial).

    over: the loss of one that failed as a multiple of the goal's; None where that is unknown.
    """

    load: float
    held: bool
    weight: float = 1.0
    over: float | None = None

    @property
    def by_much(self) -> bool | None:
        """Whether it failed by much; None where that is unknown, or it held."""
        return None if self.held or self.over is None else self.over > _BY_MUCH


class Posterior:
    """The distribution of the limit after some trials, on a grid of loads from `low` to `high`.

    The axes of its arrays: sigma, lapse, noise, load.
    """

    def __init__(self, low: float, high: float, evidence: Sequence[Evidence]) -> None:
        import numpy as np

        low, high = _window(low, high, evidence)
        points = min(max(int(math.log(high / low) / _STEP) + 2, 3), _MOST_POINTS)
        self._ln: Array = np.linspace(math.log(low), math.log(high), points)
        self._sigmas, sigmas = _axis(_SIGMAS, 0)
        self._lapses, lapses = _axis(_LAPSES, 1)
        self._noises, noises = _axis(_NOISES, 2)
        log_p = np.log(sigmas * lapses * noises) + np.zeros_like(self._ln)
        for (load, held, by_much), weight in _merged(evidence).items():
            log_p += weight * np.log(self._likelihood(load, held, by_much))
        joint = np.exp(log_p - log_p.max())
        self._joint: Array = joint / joint.sum()
        self._cumulative: Array = np.cumsum(self._joint.sum(axis=(0, 1, 2)))

    def _z(self, load: float) -> Array:
        return (self._ln - math.log(load)) / self._sigmas

    def _p_held(self, load: float) -> Array:
        return self._lapses + (1.0 - 2.0 * self._lapses) * _phi(self._z(load))

    def _likelihood(self, load: float, held: bool, by_much: bool | None) -> Array:
        """Of one trial; an odd one that failed is of either grade."""
        if by_much is None:
            p_held = self._p_held(load)
            return p_held if held else 1.0 - p_held
        z = self._z(load)
        much = 1.0 - _phi(z + math.log(_BY_MUCH) / self._noises)
        graded = much if by_much else 1.0 - _phi(z) - much
        likelihood: Array = self._lapses / 2.0 + (1.0 - 2.0 * self._lapses) * graded
        return likelihood

    def quantile(self, share: float) -> float:
        """The load below which the limit lies with this probability."""
        import numpy as np

        return float(math.exp(np.interp(share, self._cumulative, self._ln)))

    def interval(self, share: float = 0.9) -> tuple[float, float]:
        """The central interval that holds the limit with this probability."""
        return self.quantile((1.0 - share) / 2.0), self.quantile((1.0 + share) / 2.0)

    def p_held(self, load: float) -> float:
        """The probability that a trial at this load holds; no odd trials counted."""
        return float((self._but_noise * _phi(self._z(load))[:, :, 0]).sum())

    @cached_property
    def _but_noise(self) -> Array:
        """The distribution of all but the noise of the loss: whether a trial holds does not depend on that."""
        summed: Array = self._joint.sum(axis=2)
        return summed

    def information(self, load: float) -> float:
        """What a trial at this load is expected to tell of the limit by whether it holds, in nats."""
        import numpy as np

        held = (self._but_noise * self._p_held(load)[:, :, 0]).sum(axis=(0, 1))
        failed = self._but_noise.sum(axis=(0, 1)) - held
        before = _entropy(held + failed)
        p = float(held.sum())
        return (
            before
            - p * _entropy(held / max(p, 1e-12))
            - (1.0 - p) * _entropy(np.maximum(failed, 0) / max(1.0 - p, 1e-12))
        )

    def best(self, candidates: Iterable[float]) -> float:
        """The candidate that is expected to tell most."""
        return max(candidates, key=self.information)


def _axis(values: Sequence[tuple[float, float]], axis: int) -> tuple[Array, Array]:
    """Values and their prior weights, along one axis of four."""
    import numpy as np

    shape = [-1 if each == axis else 1 for each in range(4)]
    columns = np.array(values).T
    return columns[0].reshape(shape), columns[1].reshape(shape)


def _merged(evidence: Sequence[Evidence]) -> dict[tuple[float, bool, bool | None], float]:
    """The weights of trials at one load with one outcome, added: fewer to compute."""
    sums: dict[tuple[float, bool, bool | None], float] = {}
    for trial in evidence:
        key = (trial.load, trial.held, trial.by_much)
        sums[key] = sums.get(key, 0.0) + trial.weight
    return sums


def _window(low: float, high: float, evidence: Sequence[Evidence]) -> tuple[float, float]:
    """The part of the range that the trials leave open: outside of it the posterior is next to nothing."""
    held = max((trial.load for trial in evidence if trial.held), default=low)
    failed = min((trial.load for trial in evidence if not trial.held), default=high)
    bottom, top = max(low, min(held, failed) / 2.0), min(high, max(held, failed) * 1.5)
    return bottom, max(top, bottom * (1.0 + 4 * _STEP))


def _phi(z: Array) -> Array:
    """The standard normal distribution; a logistic approximation by Bowling et al. (2009), within 0.00014."""
    import numpy as np

    x = np.clip(z, -8.0, 8.0)
    return 1.0 / (1.0 + np.exp(-x * (1.5976 + 0.070565992 * x * x)))


def _entropy(p: Array) -> float:
    import numpy as np

    positive = p[p > 1e-15]
    return float(-(positive * np.log(positive)).sum())
