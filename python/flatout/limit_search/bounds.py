"""The relevant bounds and the conditional throughput of RFC 9971, over the valid trials of a search. Pure.

They stand in the result for comparison with other tools. They do not decide where the search goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from flatout.limit_search.classify import SearchGoal, classify, conditional_throughput
from flatout.result.model import TrialVerdict


class LoadTrial(Protocol):
    """What bounds need of a trial."""

    @property
    def load(self) -> int: ...  # noqa: D102
    @property
    def duration_s(self) -> float: ...  # noqa: D102
    @property
    def loss(self) -> float: ...  # noqa: D102
    @property
    def verdict(self) -> TrialVerdict: ...  # noqa: D102


class Bounds(NamedTuple):
    """The largest load classified as lower bound below the smallest one classified as upper bound."""

    lower: int | None
    upper: int | None


def relevant(trials: Iterable[LoadTrial], short_s: float, loss: float) -> Bounds:
    """A load is classified from two short trials on; invalid trials say nothing."""
    goal = SearchGoal(short_s, 2.0 * short_s, loss)
    by_load: dict[int, list[LoadTrial]] = {}
    for trial in trials:
        if trial.verdict != "invalid":
            by_load.setdefault(trial.load, []).append(trial)
    kinds = {load: classify(goal, valid) for load, valid in by_load.items()}
    upper = min((load for load, kind in kinds.items() if kind == "upper"), default=None)
    held = (load for load, kind in kinds.items() if kind == "lower" and (upper is None or load < upper))
    return Bounds(max(held, default=None), upper)


def throughput(trials: Sequence[LoadTrial], load: int, short_s: float, loss: float) -> float:
    """The conditional throughput at a load, on the axis of the search."""
    valid = [trial for trial in trials if trial.load == load and trial.verdict != "invalid"]
    return conditional_throughput(SearchGoal(short_s, 2.0 * short_s, loss), load, valid)
