"""Carries a search out: measures what the decider asks for, rests, checks that the target recovered, keeps every trial.

Method: a loop around `search.decide`, with everything that touches the world passed in, so that it runs in virtual
time. Whatever ends it, what was measured is kept: an error only comes out when there is nothing to keep.
Never in here: sockets, a clock of its own, the choice of a load.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from flatout.errors import GeneratorError, TargetError
from flatout.limit_search.exchange import ShareLaterThan
from flatout.limit_search.search import Done, Measure, Opening, Past, conclude, decide, no_opening
from flatout.limit_search.sentence import sentence
from flatout.limit_search.trial_verdict import TrialEvaluation, evaluate_trial
from flatout.result.model import Host, Limit, LimitResult, LoadResult, Search, StoppedBy, Trial
from flatout.runner.progress import RunProgress, SearchProgress
from flatout.scenario.model import Scenario

_REST_S = 0.1
_REST_AFTER_FAILED_S = 0.25
_MOST_DOUBLINGS = 3
# Between the probes of a target that does not answer properly yet; after the last it counts as lost.
_BACK_OFF_S = (0.25, 0.5, 1.0, 2.0)

OnRun = Callable[[RunProgress], None]
OnSearch = Callable[[SearchProgress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What a search needs of the world.

    `measure` does one trial at a load and of a length, `recover` tells whether the target answers a low rate properly,
    `opening_s` how long opening the connections of a load takes.
    """

    measure: Callable[[float, float, OnRun], LoadResult]
    recover: Callable[[], bool]
    clock: Callable[[], float]
    rest: Callable[[float], object]
    share_later_than: ShareLaterThan
    opening_s: Opening = no_opening
    stop: Callable[[], bool] = lambda: False
    progress: OnSearch = lambda _progress: None


class _End(NamedTuple):
    """Why the loop ended, where the decider did not end it."""

    stopped_by: StoppedBy
    because: str | None = None


@dataclass(slots=True)
class _Drive:
    """One search under way."""

    search: Search
    world: World
    hint_per_s: float | None
    began_s: float
    past: list[Past] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    trouble: str | None = None

    def elapsed_s(self) -> float:
        return self.world.clock() - self.began_s

    def run(self) -> tuple[Done, str | None]:
        """Until the decider or the world ends it: the bounds, and what the sentence should add."""
        while True:
            step = decide(self.search, self.past, self.elapsed_s(), self.hint_per_s, self.world.opening_s)
            if isinstance(step, Done):
                return step, self._because(step)
            end = self._carry_out(step)
            if end is not None:
                done = conclude(self.search, self.past, end.stopped_by, self.hint_per_s)
                return done, end.because or self._because(done)

    def _carry_out(self, step: Measure) -> _End | None:
        try:
            if self.world.stop():
                return _End("interrupted")
            return self._try(step) or (_End("interrupted") if self.world.stop() else None) or self._settle_down()
        except KeyboardInterrupt:
            return _End("interrupted")

    def _try(self, step: Measure) -> _End | None:
        """One trial. The generator's failure is an invalid trial; the target's ends the search."""
        try:
            result = self.world.measure(step.load, step.duration_s, lambda run: self._tell(step, run=run))
        except TargetError as error:
            return self._keep_or_raise(error, _End("target", str(error)))
        except GeneratorError as error:
            self._remember(step, TrialEvaluation(verdict="invalid", loss=0.0, why=str(error)))
            return self._keep_or_raise(error, None)
        evaluation = evaluate_trial(result, self.search.goal, self.world.share_later_than)
        self._remember(step, evaluation)
        self.trials.append(_trial(result, evaluation, step, self.search))
        self._tell(step, finished=self.trials[-1])
        return _End("interrupted") if result.verdict == "interrupted" else None

    def _keep_or_raise(self, error: Exception, end: _End | None) -> _End | None:
        if not self.trials:
            raise error
        return end

    def _remember(self, step: Measure, evaluation: TrialEvaluation) -> None:
        self.trouble = evaluation.why if evaluation.verdict == "invalid" else self.trouble
        past = Past(step.load, step.duration_s, evaluation.verdict, evaluation.loss, step.phase, evaluation.disturbed)
        self.past.append(past)

    def _settle_down(self) -> _End | None:
        """Rest; after a failed trial go on only once the target answers properly again."""
        if self.past[-1].verdict != "failed":
            self.world.rest(_REST_S * 2 ** min(self._invalid_in_a_row(), _MOST_DOUBLINGS))
            return None
        self.world.rest(_REST_AFTER_FAILED_S)
        for pause_s in (*_BACK_OFF_S, None):
            if self._recovered():
                return None
            if self.world.stop():
                return _End("interrupted")
            if pause_s is not None:
                self.world.rest(pause_s)
        load = self.past[-1].load
        unit = "/s" if self.search.axis == "rate" else " connections"
        return _End("target", f"{self.search.wording.poorly} at a low rate after the trial at {load:,}{unit}")

    def _invalid_in_a_row(self) -> int:
        """What disturbs a machine lasts: the next trial should not meet the same moment."""
        return len(list(itertools.takewhile(lambda trial: trial.verdict == "invalid", reversed(self.past))))

    def _recovered(self) -> bool:
        try:
            return self.world.recover()
        except TargetError:
            return False

    def _because(self, done: Done) -> str | None:
        """Why the load at the upper edge failed; for the generator's own bound, its trouble."""
        failed = [t.why for t in self.trials if t.verdict == "failed" and t.load == done.upper]
        if failed:
            return failed[-1]
        return self.trouble if done.stopped_by == "generator" else None

    def _tell(self, step: Measure, run: RunProgress | None = None, finished: Trial | None = None) -> None:
        self.world.progress(self.progress(step, run=run, finished=finished))

    def progress(
        self,
        step: Measure,
        run: RunProgress | None = None,
        finished: Trial | None = None,
        limit: Limit | None = None,
    ) -> SearchProgress:
        bounds = conclude(self.search, self.past, "budget", self.hint_per_s)
        return SearchProgress(
            trial=len(self.past) + (finished is None and limit is None),
            phase=step.phase,
            rate_per_s=step.load if self.search.axis == "rate" else self.search.min_per_s,
            axis=self.search.axis,
            connections=step.load if self.search.axis == "connections" else None,
            trial_s=step.duration_s,
            elapsed_s=self.elapsed_s(),
            budget_s=self.search.budget_s,
            lower=bounds.lower,
            upper=bounds.upper,
            ceiling_hint_per_s=self.hint_per_s,
            run=run,
            finished=finished,
            limit=limit,
        )


def find_limit(
    scenario: Scenario,
    search: Search,
    world: World,
    *,
    host: Host,
    started_at: str,
    hint_per_s: float | None = None,
) -> LimitResult:
    """Search for the limit. TargetError and GeneratorError come out only when no trial was completed."""
    drive = _Drive(search, world, hint_per_s, world.clock())
    done, because = drive.run()
    limit = Limit(
        axis=search.axis,
        value=done.value,
        lower=done.lower,
        upper=done.upper,
        unit=search.unit,
        goal=search.goal,
        stopped_by=done.stopped_by,
    )
    world.progress(drive.progress(_last(drive), limit=limit))
    return LimitResult(
        scenario=scenario,
        search=search,
        host=host,
        started_at=started_at,
        duration_s=drive.elapsed_s(),
        limit=limit,
        rate_per_s=limit.value if search.axis == "rate" else None,
        trials=drive.trials,
        sentence=sentence(limit, search, because, confirmed=done.confirmed),
    )


def _last(drive: _Drive) -> Measure:
    if not drive.past:
        return Measure(0, 0.0, "bracket")
    past = drive.past[-1]
    return Measure(past.load, past.duration_s, past.phase)


def _trial(result: LoadResult, evaluation: TrialEvaluation, step: Measure, search: Search) -> Trial:
    run = msgspec.structs.asdict(result)
    run |= {
        "run_verdict": result.verdict,
        "verdict": evaluation.verdict,
        "why": evaluation.why,
        "intended_per_s": float(step.load) if search.axis == "rate" else search.min_per_s,
        "intended_connections": step.load if search.axis == "connections" else None,
        "phase": step.phase,
    }
    return Trial(**run)
