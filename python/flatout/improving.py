"""A limit, and what raises it: searches, changes to the host between them, and trials that check these."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from flatout.host.tuning.remedies import Remedy
from flatout.host.tuning.steps import Steps
from flatout.limit_search.improve import Holds, improved
from flatout.limit_search.trial_verdict import evaluate_trial
from flatout.plan.resolve import AsTrial, make
from flatout.result.histogram import share_later_than
from flatout.result.model import LimitResult, Search
from flatout.runner.run import run
from flatout.scenario.model import Scenario

_LEAST_BUDGET_S = 5.0
# Trials without a change, at the load that held with it: so long each, at most so many, and so many have to hold.
_CHECK_S, _CHECKS, _HELD = 1.0, 3, 2
_REST_S = 0.5
# A later search begins at this part of the limit before: less than half of it is no gain, however much less.
_BEGIN = 0.5


class Seek(Protocol):
    """Searches; `title` is what a live view shows, None its usual one."""

    def __call__(self, scenario: Scenario, search: Search, *, title: str | None = None) -> LimitResult: ...  # noqa: D102


def raised(
    scenario: Scenario,
    search: Search,
    seek: Seek,
    trial: Callable[[float, float], Scenario],
    *,
    keep: bool,
    journal: Path | None,
    say: Callable[[str], object],
) -> LimitResult:
    """Searches, and then changes one setting after the other that the findings name; see `limit_search.improve`.

    `seek` searches; `trial` is the scenario of a trial, from its load and its length in s. Each search has half of the
    budget, so that one setting takes all of it. `keep`: what raised the limit stays. `journal`: the file that has the
    values before. `say` is told, before anything is measured, what cannot be changed. Errors: UsageError, then too.
    """
    targets = [(endpoint.address, endpoint.port) for endpoint in make(scenario).engine.targets]
    search = msgspec.structs.replace(search, budget_s=max(search.budget_s / 2, _LEAST_BUDGET_S))

    def again(step: Remedy, before: LimitResult) -> LimitResult:
        title = f"limit of {scenario.protocol} {scenario.target} after a change: {step.name}"
        return seek(scenario, _from_near(search, before), title=title)

    with Steps(targets, journal) as steps:
        for line in steps.outlook(stream=scenario.streams):
            say(line)
        first = seek(scenario, search)
        if first.limit.stopped_by == "interrupted":
            return first
        if not first.findings:
            say("no cause was found of what stopped the search, so nothing is changed")
        return improved(first, steps, again, keep=keep, holds=_checker(search, trial))


def _from_near(search: Search, before: LimitResult) -> Search:
    """The search that begins a doubling below the limit before."""
    begin, (low, high) = _BEGIN * (before.limit.value or 0.0), search.bounds
    if not low < begin < high:
        return search
    if search.axis == "connections":
        return msgspec.structs.replace(search, min_connections=int(begin))
    return msgspec.structs.replace(search, min_per_s=begin)


def _checker(search: Search, trial: Callable[[float, float], Scenario]) -> Holds:
    """Whether a load holds, by a few trials."""

    def holds(load: float) -> bool | None:
        held = 0
        for _ in range(_CHECKS):
            time.sleep(_REST_S)
            result = run(trial(load, _CHECK_S), as_trial=AsTrial(slow_after_ns=search.goal.p99_ns))
            verdict = evaluate_trial(result, search.goal, share_later_than).verdict
            if verdict == "failed":
                return False
            held += verdict == "held"
            if held == _HELD:
                return True
        return None

    return holds
