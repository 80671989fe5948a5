"""What the decider knows and says: the trials that were measured, the next one, the end. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from flatout.result.model import StoppedBy, TrialVerdict

Phase = Literal["bracket", "search", "confirm"]


@dataclass(frozen=True, slots=True)
class PastTrial:
    """A trial that was measured, as `decide` knows it.

    load, duration_s: as asked for; the load is on the axis of the search: requests per second, or connections.
    loss: the effective loss ratio, which orders trials whatever they failed by.
    weight: the share of its time in which the generator was not disturbed.
    undriven: invalid because the generator could not drive the load, or took the CPUs that the target needed.
    sent, lost: requests in the undisturbed time.
    """

    load: int
    duration_s: float
    verdict: TrialVerdict
    loss: float
    phase: Phase
    weight: float = 1.0
    undriven: bool = False
    sent: int = 0
    lost: int = 0

    @property
    def carried(self) -> float:
        """The part of the load that was answered."""
        return self.load * (1.0 - (self.lost / self.sent if self.sent else self.loss))


@dataclass(frozen=True, slots=True)
class NextTrial:
    """Decision: measure this load next; `lead_s`: for so long before it counts."""

    load: int
    duration_s: float
    phase: Phase
    lead_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Conclusion:
    """Decision: the search is over.

    value: the load that is claimed; `confirmed`: a run of full length held it.
    interval: holds the limit with a probability of 90 %.
    lower, upper, conditional_throughput: RFC 9971's, on the axis of the search.
    loss_below: what was lost over all undisturbed time at and below the value.
    censored: the share of all trial time that was disturbed, and left out.
    """

    lower: int | None
    upper: int | None
    value: int | None
    stopped_by: StoppedBy
    confirmed: bool = False
    conditional_throughput: float | None = None
    interval: tuple[float, float] | None = None
    loss_below: float | None = None
    censored: float = 0.0
