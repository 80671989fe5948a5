"""How long the trials of a search are, for a budget. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

# The budget that trial lengths are made for; others scale them.
_BUDGET_S = 60.0
_SHORTEST_UNIT_S, _LONGEST_UNIT_S = 0.25, 10.0
# Two confirming runs are set aside, but no more of a small budget than this.
_MOST_RESERVED = 0.45


@dataclass(frozen=True, slots=True)
class TrialLengths:
    """Lengths in s: a short trial; a confirming run, and how long it runs at its load before it counts."""

    short_s: float
    confirm_s: float
    lead_s: float

    @classmethod
    def of(cls, budget_s: float) -> TrialLengths:
        """For 60 s: 0.5 s, and 5 s after 1 s. Multiples of 1/32 s add up exactly."""
        unit = min(max(budget_s / _BUDGET_S, _SHORTEST_UNIT_S), _LONGEST_UNIT_S)
        unit = math.floor(unit * 16.0) / 16.0
        return cls(short_s=unit / 2.0, confirm_s=5.0 * unit, lead_s=unit)

    def reserve_s(self, budget_s: float, beside_s: float) -> float:
        """The time set aside for confirming runs; `beside_s`: what a trial costs beside its length."""
        one = self.lead_s + self.confirm_s + beside_s
        return one if 2.0 * one > _MOST_RESERVED * budget_s else 2.0 * one
