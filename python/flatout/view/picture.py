"""Where everything went, by load: the parts of each stack of the picture. Pure: results in, numbers out.

The parts of a stack add up to what was planned, whatever a ledger says; trials of one load are added up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from flatout.result.model import LimitResult, LoadResult, Trial
from flatout.view.ledger import PLACES

# Beside the places: the rest of what was lost, or not sent, that no line of a ledger has.
_LOST, _UNEXPLAINED, _UNSENT, _UNKNOWN = "lost", "unexplained", "unsent", "unknown"


class Stack(NamedTuple):
    """All requests of one load: `parts` are counts by name, in the order of `names`; their sum is `planned`."""

    load: float | None
    trials: int
    planned: int
    parts: Mapping[str, int]

    def share(self, name: str) -> float:
        """The share of what was planned."""
        return self.parts.get(name, 0) / self.planned if self.planned else 0.0


class Picture(NamedTuple):
    """Stacks in ascending order of load, and the names of all parts from the bottom of a stack to its top."""

    stacks: list[Stack]
    names: list[str]


def picture(result: LoadResult | LimitResult) -> Picture:
    """The picture of a search, or of one run, whose load is None. A load at which nothing was planned has no stack."""
    stacks: dict[float | None, Stack] = {}
    runs: Sequence[LoadResult] = result.trials if isinstance(result, LimitResult) else [result]
    for run in runs:
        load = run.load if isinstance(run, Trial) else None
        stacks[load] = _added(stacks.get(load), Stack(load, 1, run.outcomes.planned, parts(run)))
    ordered = sorted((stack for stack in stacks.values() if stack.planned), key=lambda stack: stack.load or 0.0)
    present = {name for stack in ordered for name, number in stack.parts.items() if number}
    return Picture(ordered, [name for name in _order(result.wording.came) if name in present])


def parts(run: LoadResult) -> dict[str, int]:
    """One run by outcome, each loss and each request that was not sent by its place."""
    outcomes, ledger, came = run.outcomes, run.ledger, run.wording.came
    if run.one_way and outcomes.received is None:
        sent = {_UNKNOWN: outcomes.sent}
    else:
        good = (outcomes.received or 0) if run.one_way else outcomes.answered
        counted = {came: good, "late": outcomes.late, "refused": outcomes.refused, "invalid": outcomes.invalid}
        rest = _UNEXPLAINED if ledger is not None else _LOST
        lost = max(outcomes.sent - sum(counted.values()), 0)
        sent = _summed(counted, _filled(_places(run, "lost"), lost, rest))
    return _summed(sent, _filled(_places(run, "unsent"), outcomes.planned - outcomes.sent, _UNSENT))


def _places(run: LoadResult, side: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in run.ledger.lines if run.ledger else ():
        if line.side == side and line.count:
            name = PLACES.get(line.place, line.place)
            found[name] = found.get(name, 0) + line.count
    return found


def _filled(places: Mapping[str, int], total: int, rest: str) -> dict[str, int]:
    """The places, none with more than is left of the total, and what no place has."""
    found, left = {}, total
    for name, number in places.items():
        found[name] = min(number, left)
        left -= found[name]
    return found | {rest: left}


def _added(before: Stack | None, one: Stack) -> Stack:
    if before is None:
        return one
    both = _summed(before.parts, one.parts)
    return Stack(one.load, before.trials + one.trials, before.planned + one.planned, both)


def _summed(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in (*one, *other)}


def _order(came: str) -> list[str]:
    """From what came back to what never left: the order of the ledger's table within each."""
    unsent = [name for name in PLACES.values() if name.startswith("unsent")]
    lost = [name for name in PLACES.values() if name not in unsent]
    return [came, "late", "refused", "invalid", *lost, _LOST, _UNEXPLAINED, _UNKNOWN, *unsent, _UNSENT]
