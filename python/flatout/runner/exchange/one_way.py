"""One-way messages: no replies; a receiver that counts is asked what arrived."""

from __future__ import annotations

from collections.abc import Sequence

from flatout.result import loss
from flatout.result.counts import CounterSamples
from flatout.result.model import Outcomes
from flatout.runner.exchange.base import Exchange, Monitor
from flatout.runner.target_monitor import RefusalMonitor
from flatout.scenario.exchange.wording import ONE_WAY
from flatout.scenario.model import Scenario

# The kernel cuts one segmented send into so many datagrams; they are refused as one.
_DATAGRAMS_PER_SEND = 64


class OneWay(Exchange):
    """The far end sends no replies; only its counters show what is lost."""

    wording = ONE_WAY

    def monitor(self, scenario: Scenario) -> Monitor:
        """Only refusals count as loss of the target."""
        return RefusalMonitor(_DATAGRAMS_PER_SEND if scenario.gso else 1)

    def loss(self, outcomes: Outcomes, samples: Sequence[CounterSamples], /, *, shared: bool) -> loss.LossAccount:
        """By the receiver's counters."""
        return loss.account_of_messages(outcomes, samples, shared=shared)

    def target_lost(self, outcomes: Outcomes) -> str | None:  # noqa: ARG002 (of all exchanges)
        """The account says it: only the receiver's counters show it."""
        return None

    def interval_counts(self, counts: dict[str, int]) -> dict[str, int]:
        """Refused messages are among the lost ones: `refused` is not an outcome of one-way messages."""
        return {**counts, "refused": 0}
