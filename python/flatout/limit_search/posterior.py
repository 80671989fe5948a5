"""What the trials of a search say of the limit: a posterior distribution over loads. Pure.

Model: a trial at load x holds with probability lapse + (1 - 2 lapse) * Phi(ln(limit / x) / sigma), a probit curve with
lapses (Wichmann and Hill, "The psychometric function", 2001). The limit is the load at which half of the trials hold.
It, the curve's width `sigma` and the share of odd trials `lapse` are all unknown: the prior is flat in the log of the
limit, and all three are estimated together on a grid. A trial counts by its weight, the share of its time in which the
generator was not disturbed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

# Widths of the curve, as shares of the load, and shares of odd trials; with the prior weight of each.
_SIGMAS = ((0.003, 0.1), (0.006, 0.2), (0.012, 0.25), (0.025, 0.2), (0.05, 0.15), (0.1, 0.1))
_LAPSES = ((0.01, 0.4), (0.05, 0.35), (0.15, 0.25))
# Steps of the grid, as a share of the load, and how many of them at most.
_STEP = 0.0025
_MOST_POINTS = 4_000


class Evidence(NamedTuple):
    """One trial: whether its load was held, and how much it counts (1: as a whole trial)."""

    load: float
    held: bool
    weight: float = 1.0


class Posterior:
    """The distribution of the limit after some trials, on a grid of loads from `low` to `high`."""

    def __init__(self, low: float, high: float, evidence: Sequence[Evidence]) -> None:
        import numpy as np

        low, high = _window(low, high, evidence)
        points = min(max(int(math.log(high / low) / _STEP) + 2, 3), _MOST_POINTS)
        self._ln: Array = np.linspace(math.log(low), math.log(high), points)
        self._sigmas: Array = np.array([sigma for sigma, _ in _SIGMAS])[:, None, None]
        self._lapses: Array = np.array([lapse for lapse, _ in _LAPSES])[None, :, None]
        prior = (
            np.array([weight for _, weight in _SIGMAS])[:, None, None]
            * np.array([weight for _, weight in _LAPSES])[None, :, None]
        )
        log_p = np.log(prior) + np.zeros_like(self._ln)[None, None, :]
        for load, held, weight in _merged(evidence):
            p_held = self._p_held(load)
            log_p += weight * np.log(p_held if held else 1.0 - p_held)
        joint = np.exp(log_p - log_p.max())
        self._joint: Array = joint / joint.sum()
        self._cumulative: Array = np.cumsum(self._joint.sum(axis=(0, 1)))

    def _p_held(self, load: float) -> Array:
        z = (self._ln[None, None, :] - math.log(load)) / self._sigmas
        return self._lapses + (1.0 - 2.0 * self._lapses) * _phi(z)

    def quantile(self, share: float) -> float:
        """The load below which the limit lies with this probability."""
        import numpy as np

        return float(math.exp(np.interp(share, self._cumulative, self._ln)))

    def interval(self, share: float = 0.9) -> tuple[float, float]:
        """The central interval that holds the limit with this probability."""
        return self.quantile((1.0 - share) / 2.0), self.quantile((1.0 + share) / 2.0)

    def p_held(self, load: float) -> float:
        """The probability that a trial at this load holds; no odd trials counted."""
        z = (self._ln[None, None, :] - math.log(load)) / self._sigmas
        return float((self._joint * _phi(z)).sum())

    def information(self, load: float) -> float:
        """What a trial at this load is expected to tell of the limit, in nats."""
        import numpy as np

        joint_held = self._joint * self._p_held(load)
        held = joint_held.sum(axis=(0, 1))
        failed = self._joint.sum(axis=(0, 1)) - held
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


def _merged(evidence: Sequence[Evidence]) -> Iterable[Evidence]:
    """Trials at one load with one outcome, their weights added: fewer to compute."""
    sums: dict[tuple[float, bool], float] = {}
    for load, held, weight in evidence:
        sums[load, held] = sums.get((load, held), 0.0) + weight
    return (Evidence(load, held, weight) for (load, held), weight in sums.items())


def _window(low: float, high: float, evidence: Sequence[Evidence]) -> tuple[float, float]:
    """The part of the range that the trials leave open: outside of it the posterior is next to nothing."""
    held = max((load for load, held, _ in evidence if held), default=low)
    failed = min((load for load, held, _ in evidence if not held), default=high)
    bottom, top = max(low, min(held, failed) / 4.0), min(high, max(held, failed) * 2.0)
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
