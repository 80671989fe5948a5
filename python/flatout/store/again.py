"""Runs again before a verdict: a comparison that ends as worse, or cannot tell, is repeated with further runs.

Method: further runs of B join the earlier ones, with runs of A in turn where A's target can still be measured, so that
a drift of the machine is in both. "Worse" counts once a comparison with further runs says it again; "invalid" is
repeated as often as is allowed; anything else ends it. No run is left out: a good one does not erase a bad one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from flatout.errors import TargetError, UsageError
from flatout.result.model import LimitResult, Result
from flatout.scenario.model import Scenario
from flatout.store.choose import chosen, compare, numbers_given
from flatout.store.compare import Comparison, Outcome, Retry
from flatout.store.rows import StoredRun
from flatout.store.store import Store


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How often at most a comparison is repeated, and how long all of it may take, s."""

    times: int
    budget_s: float


class Shell(msgspec.Struct, frozen=True, kw_only=True):
    """What repeating needs from outside.

    `run` makes a stored run once more; `endpoints` are what a scenario sends to; `clock` is in s; `hostname` this
    host's; `say` takes lines for people.
    """

    run: Callable[[Result], Result]
    endpoints: Callable[[Scenario], frozenset[str]]
    clock: Callable[[], float]
    hostname: str
    say: Callable[[str], object]


class _Side(msgspec.Struct, kw_only=True):
    """One side: the text that names its runs, and the run that is repeated, if one can be."""

    text: str
    label: str
    model: Result | None


def is_settled(outcomes: Sequence[Outcome]) -> bool:
    """Whether the verdict stands; `outcomes`: of all comparisons so far, in order."""
    return outcomes[-1] in ("better", "same") or (outcomes[-1] == "worse" and len(outcomes) > 1)


def may_begin(limits: Limits, done: int, elapsed_s: float, next_s: float) -> bool:
    """Whether further runs of so many seconds may begin."""
    return done < limits.times and elapsed_s + next_s <= limits.budget_s


def compare_again(store: Store, named: tuple[str, str], tolerance: float, limits: Limits, shell: Shell) -> Comparison:
    """Compares as `compare`, and repeats what is not settled, within the limits; further runs are kept in the store.

    Errors: as `compare`; UsageError where B's runs cannot be repeated from here, before anything is sent; those of a
    run, after which all earlier ones are kept. Ctrl-C ends it, with `interrupted`.
    """
    found = compare(store, *named, tolerance)
    sides = _sides(store, *named, shell)
    outcomes, retries, began, longest_s = [found.outcome], list[Retry](), shell.clock(), _expected_s(sides)
    while not is_settled(outcomes) and not found.interrupted:
        turn_began = shell.clock()
        if not may_begin(limits, len(retries), turn_began - began, longest_s):
            break
        shell.say(f"{found.outcome}: {found.why}; run again, {len(retries) + 1} of at most {limits.times}")
        made, interrupted = _turn(store, sides, shell)
        retries.append(Retry(outcome=found.outcome, a=made[0], b=made[1]))
        found = compare(store, sides[0].text, sides[1].text, tolerance)
        found = msgspec.structs.replace(found, retries=list(retries), interrupted=interrupted)
        outcomes.append(found.outcome)
        longest_s = max(longest_s, shell.clock() - turn_began)
    return found


def _expected_s(sides: Sequence[_Side]) -> float:
    return sum(side.model.duration_s for side in sides if side.model is not None)


def _turn(store: Store, sides: Sequence[_Side], shell: Shell) -> tuple[list[int | None], bool]:
    """One further run of each side that can be repeated: their numbers, and whether Ctrl-C ended it."""
    made: list[int | None] = [None, None]
    for place, side in enumerate(sides):
        if side.model is None:
            continue
        result = _one(side, shell, needed=place == 1)
        if result is None:
            continue
        if _ended_by(result) == "interrupted":
            return made, True
        number = made[place] = store.add(result, side.label)
        if numbers_given(side.text):
            side.text += f",{number}"
    return made, False


def _one(side: _Side, shell: Shell, *, needed: bool) -> Result | None:
    """A further run; None where the side is not needed and its target is gone: it is not repeated any more."""
    assert side.model is not None
    try:
        result = shell.run(side.model)
    except TargetError as error:
        if needed:
            raise
        why = str(error)
    else:
        if needed or _ended_by(result) not in ("target", "target-lost"):
            return result
        why = "its target does not answer"
    side.model = None
    shell.say(f"{side.text} is not run again: {why}")
    return None


def _ended_by(result: Result) -> str:
    return result.limit.stopped_by if isinstance(result, LimitResult) else result.verdict


def _sides(store: Store, a: str, b: str, shell: Shell) -> tuple[_Side, _Side]:
    first, second = (_side(store, text, shell) for text in (a, b))
    if isinstance(second, str):
        raise UsageError(f"--again: {b} cannot be run again from here: {second}")
    assert second.model is not None
    if not isinstance(first, str):
        first = _apart(first, second.model.scenario, shell) or first
    if isinstance(first, str):
        shell.say(f"{a} is not run again: {first}")
        first = _Side(text=a, label="", model=None)
    return first, second


def _apart(side: _Side, other: Scenario, shell: Shell) -> str:
    """Why A cannot be repeated beside B: else B would be measured and called A. An empty text: it can."""
    assert side.model is not None
    scenario, beside = side.model.scenario, shell.endpoints(other)
    try:
        same = shell.endpoints(scenario) & beside
    except TargetError as error:
        return str(error)
    return f"B has its target, {scenario.target}" if same else ""


def _side(store: Store, text: str, shell: Shell) -> _Side | str:
    """A side with the run to repeat, its newest valid one; or why none can be."""
    runs = chosen(store, text)[1]
    if len({(run.exchange, run.target) for run in runs}) > 1:
        return "its runs ask differently, or have several targets"
    newest = max(runs, key=lambda run: (run.valid, run.id))
    model = store.result(newest.id)
    why = why_not(newest, model, shell.hostname)
    return why or _Side(text=text, label=newest.label, model=model)


def why_not(run: StoredRun, result: Result, hostname: str) -> str:
    """Why a run cannot be repeated from this host; an empty text: it can."""
    if run.hostname != hostname:
        return f"it was run from {run.hostname}, and this is {hostname}"
    if isinstance(result, LimitResult):
        nodes = any(trial.nodes for trial in result.trials)
        if result.improvements:
            return "settings were changed for it (--improve)"
    else:
        nodes = bool(result.nodes)
    if nodes or result.scenario.node is not None:
        return "several hosts drove it"
    if result.scenario.start_at is not None:
        return "it had a start time (--start-at)"
    return ""
