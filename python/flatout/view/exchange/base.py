"""The interface of an exchange: what the views ask of it."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from flatout.result.model import Distribution, Interval, LoadResult, Outcomes
from flatout.result.thresholds import LATENESS_TEXT
from flatout.runner.progress import RunProgress
from flatout.scenario.exchange.wording import Wording
from flatout.view import format as fmt

Cells = tuple[str, str]

_COMMON_MEANINGS = {
    "planned": "what the schedule asked for",
    "sent": "left on time",
    "unsent": f"could not leave within {LATENESS_TEXT} of due, or at all",
}


class CounterRow(NamedTuple):
    """One counter and what it means."""

    word: str
    number: int
    meaning: str


class Caption(NamedTuple):
    """The texts of a chart: the label of its axis, its title, how to read it."""

    axis: str
    title: str
    text: str


class Exchange(abc.ABC):
    """One kind of exchange, as it is shown.

    `sent_words`: the outcomes that add up to what was sent. `meanings`: what each outcome means.
    `percentiles`: those of latency that tables of trials show. `node_words`: the counts of one node in a merged result.
    `in_time`: the good outcome in a chart of what is missing. `reading`: how the numbers of a page are to be read.
    `lateness_bound`: what lateness must stay below. `waiting`: the texts of the chart of latency over time.
    `whole_run`: how to read the percentiles of a whole run.
    """

    wording: Wording
    sent_words: Sequence[str]
    meanings: Mapping[str, str]
    percentiles: Sequence[str]
    node_words: Sequence[str]
    in_time: str
    reading: str
    lateness_bound: str
    waiting: Caption
    whole_run: str

    def meaning(self, word: str) -> str:
        """What an outcome means."""
        return {**_COMMON_MEANINGS, **self.meanings}[word]

    @abc.abstractmethod
    def rates(self, run: LoadResult) -> str:
        """The rates and the loss of a run as a clause."""

    @abc.abstractmethod
    def good(self, counts: Outcomes | Interval) -> int:
        """How many were answered, or received."""

    @abc.abstractmethod
    def distributions(self, run: LoadResult) -> list[tuple[str, Distribution | None]]:
        """The distributions of a run with their names, the generator's own lateness last."""

    @abc.abstractmethod
    def main_distribution(self, run: LoadResult) -> Distribution | None:
        """The distribution behind the chart `waiting`."""

    @abc.abstractmethod
    def live_rows(self, progress: RunProgress) -> list[tuple[str, list[Cells]]]:
        """The numbers of a run in progress: rows with a name, of words and values."""

    @abc.abstractmethod
    def second_line(self, second: Interval) -> str:
        """What one second of a log says beside rates asked and sent."""

    def asked_per_s(self, run: LoadResult, /) -> float | None:
        """The rate that was asked for; None where the replies set it."""
        return run.rate_per_s.planned

    def unknown(self, _run: LoadResult, /) -> bool:
        """Whether messages were sent whose outcomes are unknown."""
        return False

    def unknown_text(self, _run: LoadResult, /) -> str:
        """A sentence where the outcomes are unknown, else empty."""
        return ""

    def loss_note(self, _run: LoadResult, /) -> str:
        """Where messages were lost, or why that is unknown; empty where there is nothing to say."""
        return ""

    def receiver_rows(self, _run: LoadResult, /) -> list[CounterRow]:
        """The receiver's counters."""
        return []

    def tallies(self, run: LoadResult) -> dict[str, int]:
        """The protocol's own counters worth a table."""
        return run.tallies

    def seconds(self, run: LoadResult) -> list[Interval]:
        """The seconds that charts show."""
        return run.intervals

    def counted_words(self, _seconds: Sequence[Interval], /) -> Sequence[str]:
        """The rates that a chart over time shows."""
        return ("planned", "sent", self.wording.came)


def per_s(progress: RunProgress, word: str) -> str:
    """The rate of a counter: in the last second where there is one, else in the run so far."""
    if progress.latest is not None:
        return fmt.rate(getattr(progress.latest, word))
    return fmt.rate(getattr(progress, word) / progress.t_s) if progress.t_s > 0 else fmt.NOTHING
