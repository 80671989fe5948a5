"""Which load to measure next, or the end: past trials -> next trial. The pure heart of `flatout limit`.

Method. From below, about twice the load each time, until one fails: a server is never hit with more than about
twice what it was seen to hold. Then halving in log space on a grid of rungs `within` apart, sorting loads with
short trials: one that holds is enough to go up, two that fail are needed to go down. When the bounds are
neighbours both are settled with full-length trials, RFC 9971 fashion (`classify`), so one trial that failed, or
held, by chance does not decide; a settled load may move the bounds, and the halving goes on. The lower bound then
has to hold one long confirming run. If that fails twice, lower loads are tried with long runs, in growing strides.
The lower bound is the largest load classified as lower below the smallest classified as upper, and it is the value
claimed: what did hold, not what might have. An invalid trial says nothing of the server: it is repeated, and a load
that stays invalid is the generator's bound, never the server's.
Never in here: a clock, I/O, randomness, a look at a result beyond verdict and loss.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from flatout.limit_search.classify import Rule, classify, conditional_throughput
from flatout.limit_search.grid import Grid
from flatout.result.model import Search, StoppedBy, TrialVerdict

Opening = Callable[[float], float]
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


def no_opening(_load: float) -> float:
    """Datagrams need no connection."""
    return 0.0


@dataclass(frozen=True, slots=True)
class Past:
    """A trial that was measured, as the decider knows it: intended load and length, effective loss ratio.

    The load is on the axis of the search: requests per second, or connections.
    """

    load: int
    duration_s: float
    verdict: TrialVerdict
    loss: float
    phase: Phase
    disturbed: bool = False


@dataclass(frozen=True, slots=True)
class Measure:
    """Decision: measure this load next."""

    load: int
    duration_s: float
    phase: Phase


@dataclass(frozen=True, slots=True)
class Done:
    """Decision: the search is over. `value` is the lower bound; `upper` failed (None: nothing did)."""

    lower: int | None
    upper: int | None
    value: int | None
    stopped_by: StoppedBy
    confirmed: bool
    conditional_throughput_per_s: float | None


@dataclass(frozen=True, slots=True)
class Lengths:
    """Trial lengths in s that suit a budget: sort with short trials, settle with full ones, confirm with a long one."""

    sort_s: float
    full_s: float
    settle_sum_s: float
    confirm_s: float

    @classmethod
    def of(cls, budget_s: float) -> Lengths:
        """For 60 s: 0.5 s, 1 s (two of at most three or four decide) and 5 s. Multiples of 1/32 s add up exactly."""
        unit = min(max(budget_s / _BUDGET_S, _SHORTEST_UNIT_S), _LONGEST_UNIT_S)
        unit = math.floor(unit * 16.0) / 16.0
        return cls(sort_s=unit / 2.0, full_s=unit, settle_sum_s=4.0 * unit, confirm_s=5.0 * unit)


def decide(
    search: Search,
    past: Sequence[Past],
    elapsed_s: float,
    hint_per_s: float | None = None,
    opening_s: Opening = no_opening,
) -> Measure | Done:
    """Decide the next trial, or the end. `hint_per_s`, the generator's own ceiling, says what it surely can.

    `opening_s` tells how long opening the connections of a load takes before its trial.
    """
    view = _View(search, past, hint_per_s, opening_s)
    return _within_budget(view, _next(view, hint_per_s), elapsed_s)


def conclude(search: Search, past: Sequence[Past], stopped_by: StoppedBy, hint_per_s: float | None = None) -> Done:
    """Give the bounds so far, for a search that ends for a reason from outside."""
    return _done(_View(search, past, hint_per_s), stopped_by)


class _View:
    """What the past says of each load, worked out once."""

    def __init__(
        self,
        search: Search,
        past: Sequence[Past],
        hint_per_s: float | None = None,
        opening_s: Opening = no_opening,
    ) -> None:
        self.past = past
        self.opening_s = opening_s
        self.surely_able = (hint_per_s or 0.0) / _FAR_BELOW_HINT
        self.budget_s = search.budget_s
        self.grid = Grid.of(*search.bounds, search.within)
        self.lengths = Lengths.of(search.budget_s)
        loss = search.goal.loss
        self.sorting = Rule(self.lengths.sort_s, 2.0 * self.lengths.sort_s, loss)
        self.settling = Rule(self.lengths.full_s, self.lengths.settle_sum_s, loss)

    @cached_property
    def _by_load(self) -> dict[int, list[Past]]:
        loads: dict[int, list[Past]] = {}
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

    def _patience(self, load: int, run: Sequence[Past]) -> int:
        if all(trial.disturbed for trial in run):
            return _INVALID_TRIALS_WHERE_ABLE
        if self._by_load[load][-1].phase == "confirm":
            return _INVALID_TRIALS
        if load <= self.surely_able:
            return _INVALID_TRIALS_WHERE_ABLE
        return _INVALID_TRIALS_WHERE_DRIVEN if load <= self.driven else _INVALID_TRIALS

    def _invalid_run(self, load: int) -> list[Past]:
        trials = reversed(self._by_load.get(load, []))
        return list(itertools.takewhile(lambda trial: trial.verdict == "invalid", trials))

    def stretch(self, load: int) -> float:
        """Where short trials were disturbed longer ones are due: a stall is a smaller share of them."""
        disturbed = sum(trial.disturbed for trial in self._invalid_run(load))
        return min(2.0**disturbed, _LONGEST_STRETCH)

    @cached_property
    def driven(self) -> int:
        """The highest load at which the generator kept its schedule."""
        return max((trial.load for trial in self.past if trial.verdict != "invalid"), default=0)

    def valid(self, load: int) -> list[Past]:
        return [trial for trial in self._by_load.get(load, []) if trial.verdict != "invalid"]

    def settled(self, load: int) -> Status:
        return classify(self.settling, self.valid(load))

    @cached_property
    def edge(self) -> int | None:
        """The smallest load that failed or that the generator could not drive."""
        return min((load for load, status in self.statuses.items() if status in {"upper", "generator"}), default=None)

    @cached_property
    def lower(self) -> int | None:
        """The relevant lower bound: luck above the edge is ignored."""
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
        """Loads that a long run did not hold, though short trials promised it."""
        return [load for load in self.statuses if self.confirms(load, "failed") and not self.confirms(load, "held")]

    @cached_property
    def carried(self) -> float:
        """The highest rate got through in a long run that failed: about what the server can do."""
        runs = (trial for load in self.refuted for trial in self.valid(load) if trial.phase == "confirm")
        return max((trial.load * (1.0 - trial.loss) for trial in runs), default=0.0)


def _next(view: _View, hint_per_s: float | None) -> Measure | Done:
    """Choose the next trial, were there time for everything."""
    if not view.past:
        return _sort(view, _start(view, hint_per_s), "bracket")
    pending = _finish_last(view)
    if pending is not None:
        return pending
    if view.lower is None:
        return _descend(view)
    return _climb(view, view.lower) if view.edge is None else _narrow(view, view.lower, view.edge)


def _narrow(view: _View, lower: int, edge: int) -> Measure | Done:
    if view.grid.adjacent(lower, edge):
        return _settle(view, lower, edge)
    if edge in view.refuted:
        return _confirm(view, _below_refuted(view, lower, edge))
    return _sort(view, view.grid.middle(lower, edge), "search")


def _finish_last(view: _View) -> Measure | None:
    """Measure the last load once more, as long as what was begun there decides nothing yet."""
    last = view.past[-1]
    load, status = last.load, view.statuses[last.load]
    if status == "generator":
        return None
    if last.phase == "confirm":
        # A long run meets more of the machine's bad moments than a short one: the first to fail gets a second chance.
        second_chance = view.refuted == [load] and view.confirms(load, "failed") == 1
        return _confirm(view, load) if second_chance else None
    if status == "undecided":
        return _sort(view, load, last.phase)
    begun = last.duration_s >= view.lengths.full_s
    return _full(view, load) if begun and view.settled(load) == "undecided" else None


def _start(view: _View, hint_per_s: float | None) -> int:
    return view.grid.at_most((hint_per_s or 0.0) / _START_BELOW_HINT)


def _climb(view: _View, lower: int) -> Measure | Done:
    if lower < view.grid.top:
        return _sort(view, view.grid.up(lower), "bracket")
    return _settle(view, lower, None)


def _descend(view: _View) -> Measure | Done:
    """Nothing held yet: go down, and call the minimum failed only when it is settled."""
    edge = view.edge if view.edge is not None else view.grid.bottom
    if edge > view.grid.bottom:
        return _sort(view, view.grid.down(edge, view.grid.doubling), "bracket")
    if view.statuses[edge] == "generator":
        return _done(view, "generator")
    return _done(view, "min") if view.settled(edge) == "upper" else _full(view, edge)


def _settle(view: _View, lower: int, edge: int | None) -> Measure | Done:
    """Settle bounds that are neighbours: the lower, then the upper; then confirm."""
    if view.settled(lower) != "lower":
        return _full(view, lower)
    failed = edge is not None and view.statuses[edge] == "upper"
    if edge is not None and failed and view.settled(edge) != "upper":
        return _full(view, edge)
    if not view.confirmed(lower):
        return _confirm(view, lower)
    if edge is None:
        return _done(view, "max")
    return _done(view, "found" if failed else "generator")


def _below_refuted(view: _View, lower: int, edge: int) -> int:
    """Go by long runs where short ones flatter: 1, 1, 2, 4 … rungs down, or to what got through; halve once held."""
    if view.confirmed(lower):
        return view.grid.middle(lower, edge)
    stride = view.grid.down(edge, 2 ** max(0, len(view.refuted) - 2))
    return max(lower, min(stride, view.grid.at_most(view.carried)))


def _sort(view: _View, load: int, phase: Phase) -> Measure:
    return Measure(load, view.lengths.sort_s * view.stretch(load), phase)


def _full(view: _View, load: int) -> Measure:
    return Measure(load, view.lengths.full_s, "search")


def _confirm(view: _View, load: int) -> Measure:
    return Measure(load, view.lengths.confirm_s, "confirm")


def _within_budget(view: _View, step: Measure | Done, elapsed_s: float) -> Measure | Done:
    """Take a step only if a confirming run still fits behind it; else confirm the best lower bound, if time allows.

    A long run needs nothing behind it where a confirmed bound is kept whatever comes of it.
    """
    if isinstance(step, Done):
        return step
    measured_s = sum(trial.duration_s for trial in view.past)
    opened_s = sum(view.opening_s(trial.load) for trial in view.past)
    beside_s = _overhead_s(elapsed_s - measured_s - opened_s, len(view.past))
    left_s = view.budget_s - max(elapsed_s, measured_s) - beside_s
    safe = step.phase == "confirm" and view.lower is not None and view.confirmed(view.lower)
    opening_s = view.opening_s(step.load)
    reserve_s = 0.0 if safe else beside_s + opening_s + view.lengths.confirm_s
    if opening_s + step.duration_s + reserve_s <= left_s:
        return step
    if view.lower is None or view.confirmed(view.lower):
        return _out_of_time(view)
    refuted = view.edge is not None and view.edge in view.refuted
    load = _below_refuted(view, view.lower, view.edge) if view.edge is not None and refuted else view.lower
    left_s -= view.opening_s(load)
    duration_s = min(view.lengths.confirm_s, math.floor(left_s * 16.0) / 16.0)
    return _out_of_time(view) if duration_s < view.lengths.full_s else Measure(load, duration_s, "confirm")


def _out_of_time(view: _View) -> Done:
    """Where no trial could be driven the time went to the generator's trouble, and nothing is known of the server."""
    return _done(view, "budget" if view.driven or not view.past else "generator")


def _overhead_s(beside_s: float, trials: int) -> float:
    """Estimate what one more trial costs beside its length."""
    return max(0.0, beside_s) / trials * _OVERHEAD_STRETCH + _SPARE_S if trials else _OVERHEAD_S


def _done(view: _View, stopped_by: StoppedBy) -> Done:
    lower = view.lower
    if lower is None:
        return Done(None, view.upper, None, stopped_by, confirmed=False, conditional_throughput_per_s=None)
    rule = view.settling if view.settled(lower) == "lower" else view.sorting
    throughput = conditional_throughput(rule, lower, view.valid(lower))
    return Done(lower, view.upper, lower, stopped_by, view.confirmed(lower), throughput)
