"""Runs a search: measures the trials that `search.decide` asks for, and waits until the target has recovered.

Clock, sleep and engine are passed in, so that it runs in virtual time. Every trial is kept, whatever ends the search:
an error is raised only where no trial was completed. Never in here: sockets, a clock of its own, the choice of a load.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from flatout.errors import GeneratorError, GeneratorLost, HostLost, TargetError
from flatout.limit_search.exchange import ShareLaterThan
from flatout.limit_search.past import Conclusion, NextTrial, PastTrial
from flatout.limit_search.search import OpeningTime, bounds_of, conclude, decide, no_opening_time
from flatout.limit_search.sentence import sentence
from flatout.limit_search.trial_verdict import TrialEvaluation, evaluate_trial
from flatout.result.model import Host, Limit, LimitResult, LoadResult, Search, StoppedBy, Trial
from flatout.runner.progress import RunProgress, SearchProgress
from flatout.scenario.model import Scenario

_REST_S = 0.1
_REST_AFTER_FAILED_S = 0.15
_MOST_DOUBLINGS = 3
# Between the probes of a target that does not answer properly yet; after the last it counts as lost.
_BACK_OFF_S = (0.25, 0.5, 1.0, 2.0)

OnRun = Callable[[RunProgress], None]
OnSearch = Callable[[SearchProgress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What a search needs from outside.

    measure: runs one trial at a load, for a duration in s, after a lead at the same load in s.
    recover: whether the target answers a low rate properly.
    clock, rest: the time in s; sleeps for so many s.
    share_later_than: the share of a distribution above so many ns.
    opening_s: how long opening the connections of a load takes.
    stop: whether the search is to end now.
    progress: called on every event.
    explain: adds to a judged trial what explains it.
    """

    measure: Callable[[float, float, float, OnRun], LoadResult]
    recover: Callable[[], bool]
    clock: Callable[[], float]
    rest: Callable[[float], object]
    share_later_than: ShareLaterThan
    opening_s: OpeningTime = no_opening_time
    stop: Callable[[], bool] = lambda: False
    progress: OnSearch = lambda _progress: None
    explain: Callable[[Trial], Trial] = lambda trial: trial


class _Stop(NamedTuple):
    """Why the search ends, where `decide` did not end it."""

    stopped_by: StoppedBy
    because: str | None = None


@dataclass(slots=True)
class _SearchRun:
    """One search in progress."""

    search: Search
    environment: Environment
    hint_per_s: float | None
    began_s: float
    past: list[PastTrial] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    invalid_why: str | None = None

    def elapsed_s(self) -> float:
        return self.environment.clock() - self.began_s

    def run(self) -> tuple[Conclusion, str | None]:
        """Runs to the end; returns the bounds and the reason that the sentence adds."""
        while True:
            step = decide(self.search, self.past, self.elapsed_s(), self.hint_per_s, self.environment.opening_s)
            if isinstance(step, Conclusion):
                return step, self._reason(step)
            end = self._step(step)
            if end is not None:
                done = conclude(self.search, self.past, end.stopped_by)
                return done, end.because or self._reason(done)

    def _step(self, step: NextTrial) -> _Stop | None:
        try:
            if self.environment.stop():
                return _Stop("interrupted")
            return (
                self._run_trial(step) or (_Stop("interrupted") if self.environment.stop() else None) or self._recover()
            )
        except KeyboardInterrupt:
            return _Stop("interrupted")

    def _run_trial(self, step: NextTrial) -> _Stop | None:
        """One trial. A failure of the generator makes it invalid; a failure of the target ends the search."""
        try:
            result = self.environment.measure(
                *(step.load, step.duration_s, step.lead_s), lambda run: self._report(step, run=run)
            )
        except TargetError as error:
            return self._end_or_raise(error, _Stop("target", str(error)))
        except GeneratorLost as error:
            return self._end_or_raise(error, _Stop("generator", str(error)))
        except GeneratorError as error:
            self._record(
                step,
                TrialEvaluation(verdict="invalid", loss=0.0, why=str(error), undriven=not isinstance(error, HostLost)),
            )
            return self._end_or_raise(error, None)
        evaluation = evaluate_trial(result, self.search.goal, self.environment.share_later_than)
        self._record(step, evaluation)
        self.trials.append(self.environment.explain(_trial(result, evaluation, step, self.search)))
        self._report(step, finished=self.trials[-1])
        if result.failed_call is not None and result.verdict != "interrupted":
            # It would fail every further trial, too.
            return _Stop("generator", result.why)
        return _Stop("interrupted") if result.verdict == "interrupted" else None

    def _end_or_raise(self, error: Exception, end: _Stop | None) -> _Stop | None:
        if not self.trials:
            raise error
        return end

    def _record(self, step: NextTrial, evaluation: TrialEvaluation) -> None:
        self.invalid_why = evaluation.why if evaluation.verdict == "invalid" else self.invalid_why
        past = PastTrial(
            *(step.load, step.duration_s, evaluation.verdict, evaluation.loss, step.phase),
            weight=evaluation.weight,
            undriven=evaluation.undriven,
            sent=evaluation.sent,
            lost=evaluation.lost,
        )
        self.past.append(past)

    def _recover(self) -> _Stop | None:
        """Rests; after a failed trial, until the target answers properly again."""
        if self.past[-1].verdict != "failed":
            self.environment.rest(_REST_S * 2 ** min(self._invalid_in_a_row(), _MOST_DOUBLINGS))
            return None
        self.environment.rest(_REST_AFTER_FAILED_S)
        for pause_s in (*_BACK_OFF_S, None):
            if self._recovered():
                return None
            if self.environment.stop():
                return _Stop("interrupted")
            if pause_s is not None:
                self.environment.rest(pause_s)
        load = self.past[-1].load
        unit = "/s" if self.search.axis == "rate" else " connections"
        why = f"{self.search.wording.poorly} at a low rate after the trial at {load:,}{unit}"
        return _Stop("target", f"{why}: {gone}" if (gone := self._gone()) else why)

    def _gone(self) -> str:
        """That the target's process ended in a trial, or between two; empty where that is not known."""
        placements = [trial.placement for trial in self.trials if trial.placement]
        seen = [placement.target for placement in placements if placement.target]
        if not seen:
            return ""
        left = f"{seen[-1].name} no longer listens" if placements[-1].where == "nobody" else ""
        return seen[-1].ended_text or left

    def _invalid_in_a_row(self) -> int:
        """Disturbances of a machine last: the rest before the next trial grows with this number."""
        return len(list(itertools.takewhile(lambda trial: trial.verdict == "invalid", reversed(self.past))))

    def _recovered(self) -> bool:
        try:
            return self.environment.recover()
        except TargetError:
            return False

    def _reason(self, done: Conclusion) -> str | None:
        """Why the upper bound failed; for a bound of the generator, why its trials were invalid."""
        if done.stopped_by == "generator":
            return self.invalid_why
        failed = [t.why for t in self.trials if t.verdict == "failed" and t.load == done.upper]
        return failed[-1] if failed else None

    def _report(self, step: NextTrial, run: RunProgress | None = None, finished: Trial | None = None) -> None:
        self.environment.progress(self.progress(step, run=run, finished=finished))

    def progress(
        self,
        step: NextTrial,
        run: RunProgress | None = None,
        finished: Trial | None = None,
        limit: Limit | None = None,
    ) -> SearchProgress:
        bounds = bounds_of(self.search, self.past)
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
    environment: Environment,
    *,
    host: Host,
    started_at: str,
    hint_per_s: float | None = None,
) -> LimitResult:
    """Searches the limit. Errors: TargetError and GeneratorError where no trial was completed."""
    run = _SearchRun(search, environment, hint_per_s, environment.clock())
    done, why = run.run()
    limit = Limit(
        axis=search.axis,
        value=done.value,
        lower=done.lower,
        upper=done.upper,
        unit=search.unit,
        goal=search.goal,
        stopped_by=done.stopped_by,
        conditional_throughput_per_s=done.conditional_throughput if search.axis == "rate" else None,
        interval=None if done.interval is None else list(done.interval),
        confirmed=done.confirmed,
        loss_below=done.loss_below,
        censored=done.censored,
    )
    environment.progress(run.progress(_last(run), limit=limit))
    return LimitResult(
        scenario=scenario,
        search=search,
        host=host,
        started_at=started_at,
        duration_s=run.elapsed_s(),
        limit=limit,
        rate_per_s=limit.value if search.axis == "rate" else None,
        trials=run.trials,
        sentence=sentence(limit, search, why),
    )


def _last(run: _SearchRun) -> NextTrial:
    if not run.past:
        return NextTrial(0, 0.0, "bracket")
    past = run.past[-1]
    return NextTrial(past.load, past.duration_s, past.phase)


def _trial(result: LoadResult, evaluation: TrialEvaluation, step: NextTrial, search: Search) -> Trial:
    run = msgspec.structs.asdict(result)
    run |= {
        "run_verdict": result.verdict,
        "verdict": evaluation.verdict,
        "why": evaluation.why,
        "intended_per_s": float(step.load) if search.axis == "rate" else search.min_per_s,
        "intended_connections": step.load if search.axis == "connections" else None,
        "phase": step.phase,
        "weight": evaluation.weight,
        # They have been judged, and are most of a file's size.
        "subintervals": None,
    }
    return Trial(**run)
