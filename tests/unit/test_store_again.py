"""Runs again before a verdict: which sides are repeated, how often, and what then counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import results

from flatout.errors import TargetError, UsageError
from flatout.result.model import Result
from flatout.store.again import Limits, Shell, compare_again, is_settled, may_begin, why_not
from flatout.store.compare import Comparison, Outcome
from flatout.store.rows import StoredRun
from flatout.store.store import Store, Wanted

OLD, NEW = "192.0.2.1:123", "192.0.2.2:123"
HOST = results.HOST.hostname


def found(value: float, target: str = NEW) -> Any:
    base = results.limit(target=target)
    return msgspec.structs.replace(base, limit=msgspec.structs.replace(base.limit, value=value))


class Bench:
    """A store, and servers of known capacity in place of runs; a run takes 60 s of a clock of its own."""

    def __init__(self, store: Store) -> None:
        self.store, self.now, self.ran, self.said = store, 0.0, list[str](), list[str]()
        self.values: dict[str, Iterator[Any]] = {}

    def keep(self, label: str, *values: float, target: str = NEW) -> None:
        for value in values:
            self.store.add(found(value, target), label)

    def _run(self, stored: Result) -> Result:
        self.now += 60
        target = stored.scenario.target
        self.ran.append(target)
        value = next(self.values[target])
        if isinstance(value, Exception):
            raise value
        return value if isinstance(value, msgspec.Struct) else found(value, target)  # type: ignore[return-value]

    def compare(self, a: str = "a", b: str = "b", times: int = 3, budget_s: float = 1e9) -> Comparison:
        shell = Shell(
            run=self._run,
            endpoints=lambda scenario: frozenset([scenario.target]),
            clock=lambda: self.now,
            hostname=HOST,
            say=self.said.append,
        )
        return compare_again(self.store, (a, b), 0.05, Limits(times=times, budget_s=budget_s), shell)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Store(f"sqlite:///{tmp_path / 'runs.db'}") as store:
        yield Bench(store)


@pytest.mark.parametrize(
    ("outcomes", "settled"),
    [
        (["same"], True),
        (["better"], True),
        (["worse"], False),
        (["invalid"], False),
        (["worse", "worse"], True),
        (["invalid", "worse"], True),
        (["worse", "invalid"], False),
        (["worse", "same"], True),
    ],
)
def test_when_a_verdict_stands(outcomes: list[Outcome], settled: bool) -> None:
    assert is_settled(outcomes) == settled


def test_what_may_begin() -> None:
    limits = Limits(times=2, budget_s=100)
    assert may_begin(limits, 0, 0, 100)
    assert may_begin(limits, 1, 40, 60)
    assert not may_begin(limits, 2, 0, 1)
    assert not may_begin(limits, 1, 40, 61)


def test_what_is_the_same_is_not_run_again(bench: Bench) -> None:
    bench.keep("a", 100e3, 101e3)
    bench.keep("b", 100e3, 101e3)
    ended = bench.compare()
    assert (ended.outcome, ended.retries, bench.ran) == ("same", [], [])


def test_worse_counts_once_it_is_said_again(bench: Bench) -> None:
    bench.keep("a", 100e3, 101e3)
    bench.keep("b", 80e3, 81e3)
    bench.values[NEW] = iter([80.5e3])
    ended = bench.compare()
    assert ended.outcome == "worse"
    assert [(retry.outcome, retry.a, retry.b) for retry in ended.retries] == [("worse", None, 5)]
    assert ended.b.runs == [5, 4, 3]
    assert bench.ran == [NEW]


def test_a_bad_run_by_chance_is_no_regression_and_stays_in_the_group(bench: Bench) -> None:
    bench.keep("a", 100e3, 101e3, 99e3)
    bench.keep("b", 90e3)
    bench.values[NEW] = iter([101e3, 100e3, 101e3])
    ended = bench.compare()
    assert ended.outcome != "worse"
    assert ended.retries[0].outcome == "worse"
    assert 4 in ended.b.runs


def test_runs_that_cannot_tell_are_repeated_as_often_as_allowed(bench: Bench) -> None:
    bench.keep("a", 60e3, 140e3)
    bench.keep("b", 100e3)
    bench.values[NEW] = iter([150e3, 60e3, 90e3])
    ended = bench.compare(times=2)
    assert ended.outcome == "invalid"
    assert len(ended.retries) == 2


def test_one_run_a_side_becomes_a_verdict(bench: Bench) -> None:
    bench.keep("a", 100e3)
    bench.keep("b", 100e3)
    bench.values[NEW] = iter([100.1e3, 100.2e3])
    ended = bench.compare()
    assert ended.outcome == "same"
    assert ended.retries[0].outcome == "invalid"


def test_both_are_run_in_turn_where_their_targets_differ(bench: Bench) -> None:
    bench.keep("a", 100e3, target=OLD)
    bench.keep("b", 100e3)
    bench.values = {OLD: iter([100e3]), NEW: iter([100.1e3])}
    ended = bench.compare()
    assert bench.ran == [OLD, NEW]
    assert (ended.retries[0].a, ended.retries[0].b) == (3, 4)
    assert [run.target for run in bench.store.runs(Wanted(label="a"))] == [OLD, OLD]


def test_a_baseline_at_the_same_target_is_never_measured_anew(bench: Bench) -> None:
    bench.keep("a", 100e3)
    bench.keep("b", 80e3)
    bench.values[NEW] = iter([80e3, 80e3, 80e3])
    bench.compare()
    assert len(bench.store.runs(Wanted(label="a"))) == 1
    assert "B has its target" in bench.said[0]


@pytest.mark.parametrize("gone", [TargetError("refused"), "no answer"])
def test_a_baseline_that_is_gone_is_said_and_not_kept(bench: Bench, gone: Any) -> None:
    bench.keep("a", 100e3, 101e3, target=OLD)
    bench.keep("b", 80e3)
    if gone == "no answer":
        gone = found(0, OLD)
        gone = msgspec.structs.replace(gone, limit=msgspec.structs.replace(gone.limit, stopped_by="target"))
    bench.values = {OLD: iter([gone]), NEW: iter([80e3, 80e3])}
    assert bench.compare().outcome == "worse"
    assert len(bench.store.runs(Wanted(label="a"))) == 2
    assert any("a is not run again" in line for line in bench.said)


def test_a_server_under_test_that_is_gone_is_an_error(bench: Bench) -> None:
    bench.keep("a", 100e3, 101e3)
    bench.keep("b", 80e3)
    bench.values[NEW] = iter([TargetError("refused")])
    with pytest.raises(TargetError):
        bench.compare()


def test_sides_named_by_numbers_grow(bench: Bench) -> None:
    bench.keep("x", 100e3, 101e3, 99e3, 100e3)
    bench.keep("y", 80e3)
    bench.values[NEW] = iter([80e3])
    ended = bench.compare("1-4", "5")
    assert ended.b.runs == [5, 6]


def test_nothing_begins_that_would_end_after_the_budget(bench: Bench) -> None:
    bench.keep("a", 60e3, 140e3)
    bench.keep("b", 100e3)
    bench.values[NEW] = iter([150e3, 60e3, 90e3])
    ended = bench.compare(budget_s=130)
    assert len(ended.retries) == 2
    assert bench.now == 120


def test_an_interrupt_ends_it_and_keeps_nothing_half(bench: Bench) -> None:
    bench.keep("a", 100e3, 101e3)
    bench.keep("b", 80e3)
    bench.values[NEW] = iter([results.limit_interrupted()])
    ended = bench.compare()
    assert ended.interrupted
    assert ended.b.runs == [3]


def _elsewhere(run: StoredRun, result: Any) -> tuple[StoredRun, Any]:
    return msgspec.structs.replace(run, hostname="elsewhere"), result


def _scenario(**changes: Any) -> Callable[[StoredRun, Any], tuple[StoredRun, Any]]:
    def changed(run: StoredRun, result: Any) -> tuple[StoredRun, Any]:
        scenario = msgspec.structs.replace(result.scenario, **changes)
        return run, msgspec.structs.replace(result, scenario=scenario)

    return changed


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda run, result: (run, result), ""),
        (_elsewhere, "run from elsewhere"),
        (_scenario(node=(1, 2)), "several hosts"),
        (_scenario(start_at="2026-03-14T15:09:26Z"), "start time"),
    ],
)
def test_what_cannot_be_repeated(bench: Bench, change: Any, why: str) -> None:
    bench.keep("a", 100e3)
    reported = why_not(*change(bench.store.runs()[0], found(100e3)), HOST)
    assert (why in reported) if why else reported == ""


def test_a_side_of_several_targets_is_refused_before_anything_is_sent(bench: Bench) -> None:
    bench.keep("a", 100e3, 101e3)
    bench.keep("b", 100e3)
    bench.keep("b", 100e3, target=OLD)
    with pytest.raises(UsageError, match="several targets"):
        bench.compare()
    assert bench.ran == []
