"""The grid of loads that a search may measure: a constant ratio apart, from the minimum to the maximum.

Point i is min * (1 + within)^i, so that halving between two points always ends exactly `within` wide,
whichever way the search came. The maximum is a point of its own. Loads are whole numbers. Nothing here knows of trials.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# Wider steps than this would make the first step up larger than the doubling a server is promised.
_WIDEST = 1.0
_NARROWEST = 1e-4


@dataclass(frozen=True, slots=True)
class Grid:
    """Points from `bottom` to `top`, each `ratio` times the one below."""

    bottom: int
    top: int
    ratio: float

    @classmethod
    def of(cls, min_per_s: float, max_per_s: float, within: float) -> Grid:
        """The grid of a search; a minimum below 1 per second is 1."""
        bottom = max(1, math.ceil(min_per_s))
        ratio = 1.0 + min(max(within, _NARROWEST), _WIDEST)
        return cls(bottom=bottom, top=max(bottom, math.floor(max_per_s)), ratio=ratio)

    @property
    def doubling(self) -> int:
        """How many steps come nearest to a doubling without exceeding it."""
        return max(1, math.floor(math.log(2.0) / math.log(self.ratio) + 1e-9))

    def adjacent(self, lower: int, upper: int) -> bool:
        """No point, or no whole number, lies between."""
        return upper - lower <= 1 or self._index(upper) - self._index(lower) <= 1

    def middle(self, lower: int, upper: int) -> int:
        """The point halfway in log space, for bounds that are not adjacent."""
        point = self._point((self._index(lower) + self._index(upper)) // 2)
        return min(max(point, lower + 1), upper - 1)

    def up(self, load: int) -> int:
        """About twice the load, never more, and never above the top."""
        return min(self.top, max(load + 1, min(2 * load, self._point(self._index(load) + self.doubling))))

    def down(self, load: int, steps: int) -> int:
        """So many steps below, at least 1 per second below, and never below the bottom."""
        return max(self.bottom, min(load - 1, self._point(self._index(load) - steps)))

    def at_most(self, rate_per_s: float) -> int:
        """The highest point that is not above a rate."""
        if rate_per_s <= self.bottom:
            return self.bottom
        return self._point(math.floor(self._exact_index(min(rate_per_s, self.top))))

    def nearest(self, rate_per_s: float) -> int:
        """The point nearest to a rate."""
        return self._point(max(0, round(self._exact_index(max(min(rate_per_s, self.top), self.bottom)))))

    def _point(self, index: int) -> int:
        return min(self.top, round(self.bottom * self.ratio**index))

    def _index(self, load: int) -> int:
        return round(self._exact_index(load))

    def _exact_index(self, load: float) -> float:
        return math.log(load / self.bottom) / math.log(self.ratio)
