"""Decides the next trial of a search, or its end, from the past trials. Pure.

From below, about twice the load each time, until a load does not hold: a server never gets more than about twice what
it was seen to hold. From then on no trial is a verdict by itself: all of them shape a posterior distribution of the
limit (`posterior`), and the next load is the one that is expected to tell most. When the 90 % interval is narrow
enough, or when only the time for confirming is left, a long run confirms a load near the lower end of the interval. It
counts at full length only, and follows a lead at the same load without a pause, so that no queue and no bucket refills.
What a long run lost is evidence on lower loads too: no load above what it carried is claimed.

Trials that the machine disturbed say nothing, and are left out. A load that the generator cannot drive, or for which it
takes the target's CPUs, bounds the search as a failure does, but then the end is the generator's and not the server's.
Never in here: a clock, I/O, randomness, anything of a result but verdict, loss and counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property

from flatout.limit_search import bounds
from flatout.limit_search.grid import Grid
from flatout.limit_search.lengths import TrialLengths
from flatout.limit_search.past import Conclusion, NextTrial, PastTrial, Phase
from flatout.limit_search.posterior import Evidence, Posterior
from flatout.result.model import Search, StoppedBy

OpeningTime = Callable[[float], float]

# The generator's ceiling says nothing of the server but its scale: begin five doublings below.
_START_BELOW_HINT = 32.0
# Drain, rest and warm-up of a trial before any was seen; what an estimate of it is stretched by, and what is added
# because a failed trial costs a probe more than the mean.
_OVERHEAD_S = 0.5
_OVERHEAD_STRETCH = 1.25
_SPARE_S = 0.25
# A confirming run is that much more evidence than a short trial.
_CONFIRM_WEIGHT = 3.0
# So many failures at the minimum, and nothing that held, are an answer.
_FAILED_AT_MINIMUM = 3
# A confirming run is made where a trial holds with this probability.
_SURE = 0.9
# A long run that carried less than this part of its load refutes the short trials: buffers or buckets flattered them.
_REFUTED = 0.9
# Before the search counts as done: so many trials, however narrow the interval is.
_LEAST_SEARCHED = 8
# A server's limit drifts within a search; as a part of the distance at which the search ends.
_DRIFT = 0.4
# The curve of a real server is not quite the model's: on recorded machines intervals must be so much wider to hold.
_OVERCONFIDENT = 1.25
# Of all trial time; where more was disturbed, the end is the generator's.
_MOST_CENSORED = 0.3
_QUANTILES = (0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95)


def no_opening_time(_load: float) -> float:
    """Datagrams need no connections."""
    return 0.0


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
    state = _State(search, past, elapsed_s, opening_s)
    if not past:
        return state.short(state.grid.at_most((hint_per_s or 0.0) / _START_BELOW_HINT), "bracket")
    return state.next()


def conclude(search: Search, past: Sequence[PastTrial], stopped_by: StoppedBy) -> Conclusion:
    """What is known so far, for a search that ends for a reason from outside."""
    return _State(search, past, 0.0, no_opening_time).done(stopped_by)


def bounds_of(search: Search, past: Sequence[PastTrial]) -> bounds.Bounds:
    """The relevant bounds so far: cheap enough for every look at a search's progress."""
    return bounds.relevant(past, TrialLengths.of(search.budget_s).short_s, search.goal.loss)


class _State:
    """What the past trials say, computed once."""

    def __init__(self, search: Search, past: Sequence[PastTrial], elapsed_s: float, opening_s: OpeningTime) -> None:
        self.search = search
        self.past = past
        self.opening_s = opening_s
        self.grid = Grid.of(*search.bounds, search.within / 2.0)
        self.lengths = TrialLengths.of(search.budget_s)
        measured_s = sum(trial.duration_s for trial in past)
        opened_s = sum(opening_s(trial.load) for trial in past)
        self.beside_s = _overhead_s(elapsed_s - measured_s - opened_s, len(past))
        self.left_s = search.budget_s - max(elapsed_s, measured_s)

    # --- what is known ---

    @cached_property
    def evidence(self) -> list[Evidence]:
        return [
            Evidence(trial.load, trial.verdict == "held", _worth(trial), _over(trial, self.search.goal.loss))
            for trial in self.past
            if trial.verdict != "invalid" or trial.undriven
        ]

    @cached_property
    def highest_held(self) -> int | None:
        return max((trial.load for trial in self.past if trial.verdict == "held"), default=None)

    @cached_property
    def anything_failed(self) -> bool:
        return any(not trial.held for trial in self.evidence)

    @cached_property
    def failed_long(self) -> list[PastTrial]:
        """The long runs that failed."""
        return [trial for trial in self.past if trial.phase == "confirm" and trial.verdict == "failed"]

    @cached_property
    def refuting(self) -> int:
        """How many long runs carried far less than short trials held."""
        return sum(trial.carried < _REFUTED * trial.load for trial in self.failed_long)

    @property
    def refuted(self) -> bool:
        """Whether the short trials were flattered, by a queue or a bucket; one long run alone may have had bad luck."""
        return self.refuting > 1

    @cached_property
    def cap(self) -> float | None:
        """What the long runs that failed carried: no load above it is confirmed."""
        believed = [t.carried for t in self.failed_long if self.refuted or t.carried >= _REFUTED * t.load]
        return min(believed, default=None)

    @cached_property
    def posterior(self) -> Posterior:
        return Posterior(self.grid.bottom, self.grid.top, self.evidence)

    @cached_property
    def interval(self) -> tuple[float, float]:
        """The 90 % interval, wider by what servers drift within a minute; what long runs say where they refuted it."""
        if self.refuted and self.cap is not None:
            return float(min(self.confirmed or 0, self.cap)), self.cap
        (low, high), middle = self.posterior.interval(), self.posterior.quantile(0.5)
        drift = self.search.within * _DRIFT
        low, high = (middle * (end / middle) ** _OVERCONFIDENT for end in (low, high))
        return low * (1.0 - drift), high * (1.0 + drift)

    @cached_property
    def confirmed(self) -> int | None:
        """The highest load that a long run held, and no lower one failed; one that failed by chance was repeated."""
        votes: dict[int, int] = {}
        for trial in self.past:
            if trial.phase == "confirm" and trial.verdict != "invalid":
                votes[trial.load] = votes.get(trial.load, 0) + (1 if trial.verdict == "held" else -1)
        failed = min((load for load, vote in votes.items() if vote < 0), default=None)
        held = {trial.load for trial in self.past if trial.phase == "confirm" and trial.verdict == "held"}
        return max((load for load in held if votes[load] >= 0 and (failed is None or load < failed)), default=None)

    # --- the next step ---

    def next(self) -> NextTrial | Conclusion:
        if self.confirmed is not None:
            return self.done(self._end())
        step = self._search()
        if step is not None and self._fits(step, confirming=True):
            return step
        return self._confirm()

    def _search(self) -> NextTrial | None:
        """The next short trial; None: it is time to confirm."""
        if self.highest_held is None:
            return self._descend()
        if not self.anything_failed or self._fails_once():
            top = self.highest_held >= self.grid.top
            return None if top else self.short(self.grid.up(self.highest_held), "bracket")
        if self.refuted or self._narrow():
            return None
        return self.short(self._most_telling(self.highest_held), "search")

    def _descend(self) -> NextTrial | None:
        """No load held yet: go down."""
        tried = [trial.load for trial in self.past if trial.verdict != "invalid" or trial.undriven]
        lowest = min(tried, default=self.past[-1].load)
        if not tried or lowest <= self.grid.bottom:
            return None if self._failed_at_minimum else self.short(lowest, "bracket")
        return self.short(self.grid.down(lowest, self.grid.doubling), "bracket")

    @property
    def _failed_at_minimum(self) -> bool:
        at_bottom = [t for t in self.past if t.load <= self.grid.bottom and (t.verdict != "invalid" or t.undriven)]
        return len(at_bottom) >= _FAILED_AT_MINIMUM

    def _fails_once(self) -> bool:
        """In the climb a load that fails is tried once more: one odd trial must not end it far too low."""
        return sum(not trial.held for trial in self.evidence) == 1 and self.past[-1].phase == "bracket"

    def _narrow(self) -> bool:
        searched = sum(trial.phase == "search" for trial in self.past)
        return searched >= _LEAST_SEARCHED and self._within(2.0)

    def _within(self, times: float) -> bool:
        """Whether the interval is at most so many times as wide as asked for, or no whole number lies in it."""
        (low, high), (least, most) = self.interval, self.posterior.interval()
        return high <= low * (1.0 + times * self.search.within) or self.grid.adjacent(int(least), int(most))

    def _most_telling(self, held: int) -> int:
        most = min(2 * held, self.grid.top)
        points = {self.grid.nearest(min(self.posterior.quantile(share), most)) for share in _QUANTILES}
        return int(self.posterior.best(sorted(points)))

    def short(self, load: int, phase: Phase) -> NextTrial:
        return NextTrial(load, self.lengths.short_s, phase)

    def _fits(self, step: NextTrial, *, confirming: bool) -> bool:
        """Whether there is time for a step, and for confirming after it."""
        opening_s = self.opening_s(step.load)
        reserve_s = self.lengths.reserve_s(self.search.budget_s, self.beside_s + opening_s) if confirming else 0.0
        return opening_s + step.lead_s + step.duration_s + self.beside_s + reserve_s <= self.left_s

    def _confirm(self) -> NextTrial | Conclusion:
        load = self._sure_load()
        if load is None:
            return self.done(self._end())
        step = NextTrial(load, self.lengths.confirm_s, "confirm", self.lengths.lead_s)
        return step if self._fits(step, confirming=False) else self.done(self._end())

    def _sure_load(self) -> int | None:
        """The load for a confirming run: the highest at which a trial surely holds, within the interval."""
        if self.highest_held is None:
            return None
        if not self.anything_failed:
            return self.highest_held
        if self.refuted and self.cap is not None:
            return self.grid.at_most(self.cap)
        low, median = self.posterior.quantile(0.05), self.posterior.quantile(0.5)
        most = self.grid.at_most(min(median, self.highest_held, self.cap or median))
        load = most
        while load > self.grid.bottom and load > low and self.posterior.p_held(load) < _SURE:
            load = self.grid.down(load, 1)
        return load

    # --- the end ---

    def _end(self) -> StoppedBy:
        if self.censored > _MOST_CENSORED:
            return "generator"
        if self.highest_held is None:
            undriven = all(trial.undriven or trial.verdict == "invalid" for trial in self.past)
            return "generator" if undriven else "min" if self._failed_at_minimum else "budget"
        if not self.anything_failed:
            return "max" if self.highest_held >= self.grid.top and self.confirmed else "budget"
        if self._by_generator():
            return "generator"
        return "found" if self.confirmed is not None and self._narrow_enough() else "budget"

    def _narrow_enough(self) -> bool:
        """Once it is confirmed, the interval may be wider by a confirming run that failed."""
        return self.refuted or self._within(3.0)

    def _by_generator(self) -> bool:
        """Whether most of what did not hold, near the limit, did not because of the generator."""
        near = 1.5 * self.posterior.quantile(0.95)
        not_held = [t for t in self.past if t.load <= near and (t.verdict == "failed" or t.undriven)]
        return 2 * sum(trial.undriven for trial in not_held) > len(not_held)

    @cached_property
    def censored(self) -> float:
        whole_s = sum(trial.duration_s for trial in self.past)
        left_out_s = sum(trial.duration_s * _left_out(trial) for trial in self.past)
        return left_out_s / whole_s if whole_s else 0.0

    def done(self, stopped_by: StoppedBy) -> Conclusion:
        found = bounds.relevant(self.past, self.lengths.short_s, self.search.goal.loss)
        value = self._value(found)
        lower = max((load for load in (found.lower, self.confirmed) if load is not None), default=None)
        upper = found.upper if found.upper is not None and (lower is None or found.upper > lower) else None
        return Conclusion(
            lower=lower,
            upper=upper if upper is not None else self._failed_above(lower),
            value=value,
            stopped_by=stopped_by,
            confirmed=self.confirmed is not None,
            conditional_throughput=None if lower is None else self._throughput(lower),
            interval=self.interval if self.highest_held and self.anything_failed else None,
            loss_below=self._loss_below(value),
            censored=self.censored,
        )

    def _failed_above(self, lower: int | None) -> int | None:
        """The smallest load above the lower bound that failed more often than it held."""
        votes: dict[int, int] = {}
        for trial in self.past:
            if trial.verdict != "invalid" and (lower is None or trial.load > lower):
                votes[trial.load] = votes.get(trial.load, 0) + (1 if trial.verdict == "failed" else -1)
        return min((load for load, vote in votes.items() if vote > 0), default=None)

    def _throughput(self, lower: int) -> float:
        return bounds.throughput(self.past, lower, self.lengths.short_s, self.search.goal.loss)

    def _value(self, found: bounds.Bounds) -> int | None:
        """The load that is claimed: confirmed, or what the trials say, at most what the longest failed run carried."""
        if self.confirmed is not None:
            return self.confirmed
        if self.highest_held is None:
            return None
        value = self._sure_load() if self.anything_failed else (found.lower or self.highest_held)
        carried = min((trial.carried for trial in self.failed_long), default=None)
        if value is None or carried is None:
            return value
        return None if carried < self.grid.bottom else min(value, self.grid.at_most(carried))

    def _loss_below(self, value: int | None) -> float | None:
        below = [t for t in self.past if value is not None and t.verdict != "invalid" and t.load <= value]
        sent = sum(trial.sent for trial in below)
        return sum(trial.lost for trial in below) / sent if sent else None


def _worth(trial: PastTrial) -> float:
    """A long run that held is worth several trials; one that failed may have met what short trials seldom do."""
    return trial.weight * (_CONFIRM_WEIGHT if trial.phase == "confirm" and trial.verdict == "held" else 1.0)


def _over(trial: PastTrial, goal: float) -> float | None:
    """Its loss as a multiple of the goal's; unknown where the load could not be driven."""
    if trial.verdict == "invalid":
        return None
    return trial.loss / goal if goal > 0.0 else math.inf if trial.loss else 0.0


def _left_out(trial: PastTrial) -> float:
    """The share of a trial that was disturbed; of one that was not driven what is no evidence."""
    return 1.0 if trial.verdict == "invalid" and not trial.undriven else 1.0 - trial.weight


def _overhead_s(beside_s: float, trials: int) -> float:
    """An estimate of what one more trial costs beside its length."""
    return max(0.0, beside_s) / trials * _OVERHEAD_STRETCH + _SPARE_S if trials else _OVERHEAD_S
