"""Decides the next trial of a search, or its end, from the past trials. Pure.

From below, about twice the load each time, until one fails: a server never gets more than about
twice what it was seen to hold. Then halving in log space on a grid of loads `within` apart, sorting loads with
short trials: one that holds is enough to go up, two that fail are needed to go down. When the bounds are
neighbours both are settled with full-length trials, RFC 9971 fashion (`classify`), so one trial that failed, or
held, by chance does not decide; a settled load may move the bounds, and the halving goes on. The lower bound then
has to hold one long confirming run. If that fails twice, lower loads are tried with long runs, in growing strides.
The lower bound is the largest load classified as lower below the smallest classified as upper, and it is the value
claimed: a load that held. An invalid trial says nothing of the server: it is repeated, and a load
that stays invalid is the generator's bound, never the server's.
Never in here: a clock, I/O, randomness, anything of a result but verdict and loss.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from flatout.limit_search.classify import SearchGoal, classify, conditional_throughput
from flatout.limit_search.grid import Grid
from flatout.result.model import Search, StoppedBy, TrialVerdict

OpeningTime = Callable[[float], float]
Phase = Literal["bracket", "search", "confirm"]
Status = Literal["lower", "upper", "generator", "undecided"]

# An invalid trial is repeated twice, and once more where a load as high was driven before. Where the generator was only
# held up now and then, or the load is far below its ceiling, the machine was disturbed: then more patience is due.
_INVALID_TRIALS = 3
_INVALID_TRIALS_WHERE_DRIVEN = 4
_INVALID_TRIALS_WHERE_ABLE = 8
_FAR_BELOW_HINT = 4.0
_LONGEST_STRETCH = 4.0
# The generator's ceiling says nothing of the server but its scale: begin five doublings below.
_START_BELOW_HINT = 32.0
# Drain, rest and warm-up of a trial before any was seen; what an estimate of it is stretched by, and what is added
# because a failed trial costs a probe more than the mean.
_OVERHEAD_S = 0.5
_OVERHEAD_STRETCH = 1.25
_SPARE_S = 0.25
# The budget that trial lengths are made for; others scale them.
_BUDGET_S = 60.0
_SHORTEST_UNIT_S, _LONGEST_UNIT_S = 0.25, 10.0


def no_opening_time(_load: float) -> float:
    """Datagrams need no connections."""
    return 0.0


@dataclass(frozen=True, slots=True)
class PastTrial:
    """A trial that was measured, as `decide` knows it: intended load and length, effective loss ratio.

    The load is on the axis of the search: requests per second, or connections.
    """

    load: int
    duration_s: float
    verdict: TrialVerdict
    loss: float
    phase: Phase
    disturbed: bool = False


@dataclass(frozen=True, slots=True)
class NextTrial:
    """Decision: measure this load next."""

    load: int
    duration_s: float
    phase: Phase


@dataclass(frozen=True, slots=True)
class Conclusion:
    """Decision: the search is over. `value` is the lower bound; `upper` failed (None: nothing did).

    `conditional_throughput` is RFC 9971's, at the lower bound and on the axis of the search.
    """

    lower: int | None
    upper: int | None
    value: int | None
    stopped_by: StoppedBy
    confirmed: bool
    conditional_throughput: float | None


@dataclass(frozen=True, slots=True)
class TrialLengths:
    """Trial lengths in s that suit a budget: sort with short trials, settle with full ones, confirm with a long one."""

    sort_s: float
    full_s: float
    settle_sum_s: float
    confirm_s: float

    @classmethod
    def of(cls, budget_s: float) -> TrialLengths:
        """For 60 s: 0.5 s, 1 s (two of at most three or four decide) and 5 s. Multiples of 1/32 s add up exactly."""
        unit = min(max(budget_s / _BUDGET_S, _SHORTEST_UNIT_S), _LONGEST_UNIT_S)
        unit = math.floor(unit * 16.0) / 16.0
        return cls(sort_s=unit / 2.0, full_s=unit, settle_sum_s=4.0 * unit, confirm_s=5.0 * unit)


def decide(
    search: Search,
    past: Sequence[PastTrial],
    elapsed_s: float,
    hint_per_s: float | None = None,
    opening_s: OpeningTime = no_opening_time,
) -> NextTrial | Conclusion:
    """Decides the next trial, or the end. `hint_per_s`: an estimate of the generator's own ceiling.

    `opening_s`: how long opening the connections of a load takes before its trial.
    """
    state = _State(search, past, hint_per_s, opening_s)
    return _within_budget(state, _next(state, hint_per_s), elapsed_s)


def conclude(
    search: Search, past: Sequence[PastTrial], stopped_by: StoppedBy, hint_per_s: float | None = None
) -> Conclusion:
    """The bounds so far, for a search that ends for a reason from outside."""
    return _done(_State(search, past, hint_per_s), stopped_by)


class _State:
    """What the past trials say of each load, computed once."""

    def __init__(
        self,
        search: Search,
        past: Sequence[PastTrial],
        hint_per_s: float | None = None,
        opening_s: OpeningTime = no_opening_time,
    ) -> None:
        self.past = past
        self.opening_s = opening_s
        self.surely_able = (hint_per_s or 0.0) / _FAR_BELOW_HINT
        self.budget_s = search.budget_s
        self.grid = Grid.of(*search.bounds, search.within)
        self.lengths = TrialLengths.of(search.budget_s)
        loss = search.goal.loss
        self.sorting = SearchGoal(self.lengths.sort_s, 2.0 * self.lengths.sort_s, loss)
        self.settling = SearchGoal(self.lengths.full_s, self.lengths.settle_sum_s, loss)

    @cached_property
    def _by_load(self) -> dict[int, list[PastTrial]]:
        loads: dict[int, list[PastTrial]] = {}
        for trial in self.past:
            loads.setdefault(trial.load, []).append(trial)
        return loads

    @cached_property
    def statuses(self) -> dict[int, Status]:
        return {load: self._status(load) for load in sorted(self._by_load)}

    def _status(self, load: int) -> Status:
        if self._beyond_generator(load):
            return "generator"
        settled = self.settled(load)
        return settled if settled != "undecided" else classify(self.sorting, self.valid(load))

    def _beyond_generator(self, load: int) -> bool:
        """Too many invalid trials since the last valid one."""
        run = self._invalid_run(load)
        return len(run) >= self._patience(load, run)

    def _patience(self, load: int, run: Sequence[PastTrial]) -> int:
        if all(trial.disturbed for trial in run):
            return _INVALID_TRIALS_WHERE_ABLE
        if self._by_load[load][-1].phase == "confirm":
            return _INVALID_TRIALS
        if load <= self.surely_able:
            return _INVALID_TRIALS_WHERE_ABLE
        return _INVALID_TRIALS_WHERE_DRIVEN if load <= self.driven else _INVALID_TRIALS

    def _invalid_run(self, load: int) -> list[PastTrial]:
        trials = reversed(self._by_load.get(load, []))
        return list(itertools.takewhile(lambda trial: trial.verdict == "invalid", trials))

    def stretch(self, load: int) -> float:
        """How much longer than usual a trial must be after disturbed ones: a stall is a smaller share of it."""
        disturbed = sum(trial.disturbed for trial in self._invalid_run(load))
        return min(2.0**disturbed, _LONGEST_STRETCH)

    @cached_property
    def driven(self) -> int:
        """The highest load at which the generator kept its schedule."""
        return max((trial.load for trial in self.past if trial.verdict != "invalid"), default=0)

    def valid(self, load: int) -> list[PastTrial]:
        return [trial for trial in self._by_load.get(load, []) if trial.verdict != "invalid"]

    def settled(self, load: int) -> Status:
        return classify(self.settling, self.valid(load))

    @cached_property
    def edge(self) -> int | None:
        """The smallest load that failed or that the generator could not drive."""
        return min((load for load, status in self.statuses.items() if status in {"upper", "generator"}), default=None)

    @cached_property
    def lower(self) -> int | None:
        """The relevant lower bound (RFC 9971): loads that held above the edge are ignored."""
        held = (load for load, status in self.statuses.items() if status == "lower")
        return max((load for load in held if self.edge is None or load < self.edge), default=None)

    @cached_property
    def upper(self) -> int | None:
        return min((load for load, status in self.statuses.items() if status == "upper"), default=None)

    def confirms(self, load: int, verdict: TrialVerdict) -> int:
        return sum(trial.phase == "confirm" and trial.verdict == verdict for trial in self._by_load.get(load, []))

    def confirmed(self, load: int) -> bool:
        return self.confirms(load, "held") > 0 and self.statuses[load] == "lower"

    @cached_property
    def refuted(self) -> list[int]:
        """Loads that held short trials but not a long one."""
        return [load for load in self.statuses if self.confirms(load, "failed") and not self.confirms(load, "held")]

    @cached_property
    def refuted_throughput(self) -> float:
        """The highest throughput in a long trial that failed: about what the server can do."""
        runs = (trial for load in self.refuted for trial in self.valid(load) if trial.phase == "confirm")
        return max((trial.load * (1.0 - trial.loss) for trial in runs), default=0.0)


def _next(state: _State, hint_per_s: float | None) -> NextTrial | Conclusion:
    """The next trial, whatever the budget."""
    if not state.past:
        return _sort(state, _start(state, hint_per_s), "bracket")
    pending = _finish_last(state)
    if pending is not None:
        return pending
    if state.lower is None:
        return _descend(state)
    return _climb(state, state.lower) if state.edge is None else _narrow(state, state.lower, state.edge)


def _narrow(state: _State, lower: int, edge: int) -> NextTrial | Conclusion:
    if state.grid.adjacent(lower, edge):
        return _settle(state, lower, edge)
    if edge in state.refuted:
        return _confirm(state, _below_refuted(state, lower, edge))
    return _sort(state, state.grid.middle(lower, edge), "search")


def _finish_last(state: _State) -> NextTrial | None:
    """NextTrial the last load once more, as long as what was begun there decides nothing yet."""
    last = state.past[-1]
    load, status = last.load, state.statuses[last.load]
    if status == "generator":
        return None
    if last.phase == "confirm":
        # A long trial meets more disturbances of the machine than a short one: the first to fail is repeated.
        repeat = state.refuted == [load] and state.confirms(load, "failed") == 1
        return _confirm(state, load) if repeat else None
    if status == "undecided":
        return _sort(state, load, last.phase)
    begun = last.duration_s >= state.lengths.full_s
    return _full(state, load) if begun and state.settled(load) == "undecided" else None


def _start(state: _State, hint_per_s: float | None) -> int:
    return state.grid.at_most((hint_per_s or 0.0) / _START_BELOW_HINT)


def _climb(state: _State, lower: int) -> NextTrial | Conclusion:
    if lower < state.grid.top:
        return _sort(state, state.grid.up(lower), "bracket")
    return _settle(state, lower, None)


def _descend(state: _State) -> NextTrial | Conclusion:
    """No load held yet: go down; the minimum counts as failed only once it is settled."""
    edge = state.edge if state.edge is not None else state.grid.bottom
    if edge > state.grid.bottom:
        return _sort(state, state.grid.down(edge, state.grid.doubling), "bracket")
    if state.statuses[edge] == "generator":
        return _done(state, "generator")
    return _done(state, "min") if state.settled(edge) == "upper" else _full(state, edge)


def _settle(state: _State, lower: int, edge: int | None) -> NextTrial | Conclusion:
    """Settle bounds that are neighbours: the lower, then the upper; then confirm."""
    if state.settled(lower) != "lower":
        return _full(state, lower)
    failed = edge is not None and state.statuses[edge] == "upper"
    if edge is not None and failed and state.settled(edge) != "upper":
        return _full(state, edge)
    if not state.confirmed(lower):
        return _confirm(state, lower)
    if edge is None:
        return _done(state, "max")
    return _done(state, "found" if failed else "generator")


def _below_refuted(state: _State, lower: int, edge: int) -> int:
    """The next load for long trials after refuted ones.

    1, 1, 2, 4 … grid steps down, or down to the throughput; once a load held, halving.
    """
    if state.confirmed(lower):
        return state.grid.middle(lower, edge)
    stride = state.grid.down(edge, 2 ** max(0, len(state.refuted) - 2))
    return max(lower, min(stride, state.grid.at_most(state.refuted_throughput)))


def _sort(state: _State, load: int, phase: Phase) -> NextTrial:
    return NextTrial(load, state.lengths.sort_s * state.stretch(load), phase)


def _full(state: _State, load: int) -> NextTrial:
    return NextTrial(load, state.lengths.full_s, "search")


def _confirm(state: _State, load: int) -> NextTrial:
    return NextTrial(load, state.lengths.confirm_s, "confirm")


def _within_budget(state: _State, step: NextTrial | Conclusion, elapsed_s: float) -> NextTrial | Conclusion:
    """The step, if a confirming trial still fits after it; else the confirmation of the best lower bound, if that fits.

    A confirming trial needs no reserve where a confirmed bound is kept in any case.
    """
    if isinstance(step, Conclusion):
        return step
    measured_s = sum(trial.duration_s for trial in state.past)
    opened_s = sum(state.opening_s(trial.load) for trial in state.past)
    beside_s = _overhead_s(elapsed_s - measured_s - opened_s, len(state.past))
    left_s = state.budget_s - max(elapsed_s, measured_s) - beside_s
    safe = step.phase == "confirm" and state.lower is not None and state.confirmed(state.lower)
    opening_s = state.opening_s(step.load)
    reserve_s = 0.0 if safe else beside_s + opening_s + state.lengths.confirm_s
    if opening_s + step.duration_s + reserve_s <= left_s:
        return step
    if state.lower is None or state.confirmed(state.lower):
        return _out_of_time(state)
    refuted = state.edge is not None and state.edge in state.refuted
    load = _below_refuted(state, state.lower, state.edge) if state.edge is not None and refuted else state.lower
    left_s -= state.opening_s(load)
    duration_s = min(state.lengths.confirm_s, math.floor(left_s * 16.0) / 16.0)
    return _out_of_time(state) if duration_s < state.lengths.full_s else NextTrial(load, duration_s, "confirm")


def _out_of_time(state: _State) -> Conclusion:
    """Out of budget; where no trial could be driven the generator is the reason, and the server's limit is unknown."""
    return _done(state, "budget" if state.driven or not state.past else "generator")


def _overhead_s(beside_s: float, trials: int) -> float:
    """An estimate of what one more trial costs beside its length."""
    return max(0.0, beside_s) / trials * _OVERHEAD_STRETCH + _SPARE_S if trials else _OVERHEAD_S


def _done(state: _State, stopped_by: StoppedBy) -> Conclusion:
    lower = state.lower
    if lower is None:
        return Conclusion(None, state.upper, None, stopped_by, confirmed=False, conditional_throughput=None)
    rule = state.settling if state.settled(lower) == "lower" else state.sorting
    throughput = conditional_throughput(rule, lower, state.valid(lower))
    return Conclusion(lower, state.upper, lower, stopped_by, state.confirmed(lower), throughput)
