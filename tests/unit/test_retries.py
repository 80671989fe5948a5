"""Attempts are counted and shown, and in strict mode a quiet machine allows three of them."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

import retries
from conftest import ROOT
from retries import CpuTime, cpu_time, until_good, was_quiet


class World:
    """A clock that each attempt moves on by a second, and CPUs that others use for a share of it."""

    def __init__(self, *others: float) -> None:
        self.now_s, self.taken_s, self.made = 0.0, 0.0, 0
        self.others = itertools.chain(others, itertools.repeat(others[-1]))
        self.pauses = 0.0

    def attempt(self) -> int:
        self.now_s += 1.0
        self.taken_s += next(self.others)
        self.made += 1
        return self.made

    def look(self) -> CpuTime:
        return CpuTime(all=self.now_s + self.taken_s, own=self.now_s, stolen=0.0)

    def until(self, good: Callable[[int], bool], seconds: float = 0.0) -> int:
        result: int = until_good(
            self.attempt, good, seconds, clock=lambda: self.now_s, look=self.look, watch=lambda: self.pauses
        )
        return result


def never(_: int) -> bool:
    return False


def needed() -> retries.Attempts:
    found = retries.take(os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0])
    assert found is not None
    return found


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLATOUT_STRICT", "1")


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLATOUT_STRICT", raising=False)


def test_the_first_good_result_ends_it() -> None:
    assert World(0.0).until(lambda made: made == 2, seconds=60) == 2
    assert needed() == (2, 2)


@pytest.mark.usefixtures("lenient")
@pytest.mark.parametrize(("seconds", "attempts"), [(0.0, 3), (2.5, 3), (9.5, 10)])
def test_it_goes_on_for_so_long_and_three_times_at_least(seconds: float, attempts: int) -> None:
    assert World(0.0).until(never, seconds) == attempts
    assert needed() == (attempts, attempts)
    assert retries.machine_may_be_blamed()


@pytest.mark.usefixtures("strict")
def test_a_quiet_machine_allows_three_in_strict_mode() -> None:
    assert World(0.0).until(never, seconds=60) == 3
    assert not retries.machine_may_be_blamed()
    assert needed() == (3, 3)


@pytest.mark.usefixtures("strict")
def test_attempts_that_others_disturbed_do_not_count_in_strict_mode() -> None:
    assert World(0.5, 0.5, 0.0, 0.5, 0.0, 0.0).until(never, seconds=60) == 6
    assert needed() == (6, 3)


@pytest.mark.usefixtures("strict")
def test_a_busy_machine_has_its_time_in_strict_mode_too() -> None:
    assert World(0.5).until(never, seconds=9.5) == 10
    assert retries.machine_may_be_blamed()
    assert needed() == (10, 0)


@pytest.mark.usefixtures("strict")
def test_a_machine_whose_clock_has_gaps_is_not_quiet() -> None:
    """A virtual machine's host may take the CPU without telling."""
    world = World(0.0)
    world.pauses = 0.05
    assert world.until(never, seconds=9.5) == 10
    assert retries.machine_may_be_blamed()
    assert needed() == (10, 0)


def test_pauses_are_seen_in_the_gaps_of_a_clock() -> None:
    steady = itertools.count(0, 1_000)
    assert retries.pauses(lambda: next(steady)) == 0.0
    gapped = itertools.accumulate(itertools.cycle([1_000] * 9 + [1_000_000]))
    assert retries.pauses(lambda: next(gapped)) > 0.9


@pytest.mark.usefixtures("strict")
def test_of_several_in_one_test_the_worst_is_told() -> None:
    World(0.0).until(never)
    World(0.0).until(lambda made: made == 1)
    assert needed() == (3, 3)


# --- The machine ---


@pytest.mark.parametrize(
    ("all_", "own", "stolen", "quiet"),
    [
        (2.0, 2.0, 0.0, True),
        (2.1, 2.0, 0.0, True),
        (2.2, 2.0, 0.0, False),
        (2.0, 2.0, 0.2, False),
        (1.9, 2.0, 0.0, True),
    ],
    ids=["alone", "next to nothing", "others", "stolen", "ticks that disagree"],
)
def test_a_machine_is_quiet_when_others_take_next_to_nothing(
    all_: float, own: float, stolen: float, quiet: bool
) -> None:
    before = CpuTime(100.0, 50.0, 1.0)
    assert was_quiet(before, CpuTime(100.0 + all_, 50.0 + own, 1.0 + stolen), 1.0) is quiet


def test_a_machine_that_tells_nothing_is_not_known_to_be_quiet(tmp_path: Path) -> None:
    assert cpu_time(tmp_path) is None
    assert not was_quiet(None, CpuTime(0, 0, 0), 1.0)


def test_the_time_of_a_process_is_that_of_its_tree(tmp_path: Path) -> None:
    def process(pid: int, parent: int, ticks: int, name: str = "x") -> None:
        words = ["S", str(parent), *["0"] * 9, str(ticks), "1", "1", "1", "20"]
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "stat").write_text(f"{pid} ({name}) {' '.join(words)}\n", encoding="ascii")

    (tmp_path / "stat").write_text("cpu  500 100 400 9999 9 70 30 50 0 0\ncpu0 1 1\n", encoding="ascii")
    process(1, 0, 1000)
    process(10, 1, 97, "a child of 1")
    process(11, 10, 97, "named (so) 1 2")
    process(12, 11, 97)
    process(20, 1, 5000)
    hertz = os.sysconf("SC_CLK_TCK")
    assert cpu_time(tmp_path, 10) == CpuTime(1100 / hertz, 300 / hertz, 50 / hertz)


def test_the_time_that_this_process_uses_is_its_own() -> None:
    before = cpu_time()
    assert before is not None
    spent = time.process_time() + 0.2
    while time.process_time() < spent:
        pass
    after = cpu_time()
    assert after is not None
    assert after.own - before.own >= 0.15


# --- What is shown ---


def test_the_summary_lists_who_needed_more_than_one() -> None:
    reports = [
        SimpleNamespace(nodeid="a", user_properties=[(retries.PROPERTY, [1, 1])]),
        SimpleNamespace(nodeid="b", user_properties=[(retries.PROPERTY, [2, 0])]),
        SimpleNamespace(nodeid="c", user_properties=[("other", [9, 9]), (retries.PROPERTY, [4, 3])]),
        SimpleNamespace(),
    ]
    assert retries.summary(reports) == [
        "4 attempts (3 on a quiet machine): c",
        "2 attempts (0 on a quiet machine): b",
    ]


_TESTS = """
from retries import CpuTime, until_good

alone = lambda: CpuTime(0.0, 0.0, 0.0)

def test_needs_two():
    results = iter([0, 1])
    assert until_good(lambda: next(results), bool, look=alone, watch=lambda: 0.0)

def test_needs_four():
    results = iter([0, 0, 0, 1])
    assert until_good(lambda: next(results), bool, look=alone, watch=lambda: 0.0)
"""


def test_a_test_that_needs_more_than_three_fails_and_all_are_shown_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(_TESTS, encoding="ascii")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "conftest", "-p", "no:cacheprovider", "--rootdir", ".", "."]
    paths = os.pathsep.join([str(ROOT / "tests"), str(ROOT / "python")])
    environment = {**os.environ, "PYTHONPATH": paths, "FLATOUT_STRICT": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    shown = done.stdout.split("tests that needed more than one attempt")[1].splitlines()[1:3]
    assert shown == [
        "3 attempts (3 on a quiet machine): test_it.py::test_needs_four",
        "2 attempts (2 on a quiet machine): test_it.py::test_needs_two",
    ]
