"""The interface of an exchange: what a run asks its kind of exchange."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Protocol

from flatout.result.counts import CounterSamples
from flatout.result.loss import LossAccount
from flatout.result.model import Outcomes
from flatout.runner.target_monitor import Sample
from flatout.scenario.exchange.wording import Wording
from flatout.scenario.model import Scenario


class Monitor(Protocol):
    """Detects a target that is lost during a run."""

    def lost(self, sample: Sample) -> str | None:
        """Why the target counts as lost; None while it does not."""


class Exchange(abc.ABC):
    """One kind of exchange. `on_schedule` is the reason of the verdict "ok"."""

    wording: Wording
    on_schedule: str = "the generator kept its schedule"

    @abc.abstractmethod
    def monitor(self, scenario: Scenario) -> Monitor:
        """The monitor of the target during a run."""

    @abc.abstractmethod
    def loss(self, outcomes: Outcomes, samples: Sequence[CounterSamples], /, *, shared: bool) -> LossAccount:
        """The account of all that was sent. `shared`: other nodes send to the same receiver."""

    @abc.abstractmethod
    def target_lost(self, outcomes: Outcomes) -> str | None:
        """Why the target counts as lost by the outcomes of the whole run; None where it does not."""

    def interval_counts(self, counts: dict[str, int]) -> dict[str, int]:
        """The engine's counts of one second as outcomes."""
        return counts

    def rate_per_s(self, scenario: Scenario, t_s: float, /) -> float | None:
        """The rate that the profile asks for at `t_s`; None where the replies set it."""
        for segment in scenario.profile:
            if t_s < segment.seconds:
                share = max(t_s, 0.0) / segment.seconds
                return segment.from_per_s + share * (segment.to_per_s - segment.from_per_s)
            t_s -= segment.seconds
        return 0.0
