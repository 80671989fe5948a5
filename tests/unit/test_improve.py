"""`limit --improve` decides by the limit alone, and leaves nothing changed that it was not told to keep."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import results
from hypothesis import given
from hypothesis import strategies as st

from conftest import Cli
from flatout import api, searching
from flatout.cli import output
from flatout.errors import Interrupted, TargetError
from flatout.host.tuning.check import Setting
from flatout.host.tuning.remedies import Remedy
from flatout.limit_search.improve import ROUNDS, Again, Holds, improved
from flatout.result.model import LimitResult, StoppedBy


def step(name: str, *keys: str, unmet: str = "") -> Remedy:
    made = [
        Setting(name=key, key=key, now="1", wanted="4", state="differs", why="", risk="") for key in keys or (name,)
    ]
    return Remedy(f"cause of {name}", name, () if unmet else tuple(made), "a risk", unmet)


def limit(
    value: float | None, half: float = 0.0, stopped_by: StoppedBy = "found", upper: float | None = None
) -> LimitResult:
    """A search that ended at a value, with an interval on both sides of it; at `upper` a trial failed."""
    found = results.limit()
    interval = None if value is None else (value - half, value + half)
    done = msgspec.structs.replace(found.limit, value=value, interval=interval, stopped_by=stopped_by, upper=upper)
    return msgspec.structs.replace(found, limit=done, trials=[])


class Fakes:
    """Settings that are changed in a dictionary. `fails`: steps that cannot be changed, or half; `stuck`: no undo."""

    how_to_undo = "flatout host undo --journal there"

    def __init__(self, *steps: Remedy, fails: Collection[str] = (), stuck: Collection[str] = ()) -> None:
        self.offered, self.fails, self.stuck = steps, fails, stuck
        self.changed: list[str] = []
        self.tried: list[str] = []

    def steps(self, _: LimitResult) -> list[Remedy]:
        return list(self.offered)

    def change(self, step: Remedy) -> str:
        self.tried.append(step.name)
        self.changed += [one.key for one in step.settings]
        if step.name in self.fails:
            self.changed = [key for key in self.changed if key not in {one.key for one in step.settings}]
            return "the kernel refused the value"
        return ""

    def undo(self, but: Collection[str] = ()) -> list[str]:
        left = [key for key in self.changed if key in self.stuck and key not in but]
        self.changed = [key for key in self.changed if key in but or key in left]
        return [f"{key} could not be restored" for key in left]


def checks(*answers: bool | BaseException | None, loads: list[float] | None = None) -> Holds:
    """Whether each load holds without the change; in turn, and then never."""
    left = iter(answers)

    def holds(load: float) -> bool | None:
        if loads is not None:
            loads.append(load)
        answer = next(left, False)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return holds


def searches(*ends: LimitResult | BaseException) -> Again:
    left = iter(ends)

    def search(*_: object) -> LimitResult:
        end = next(left)
        if isinstance(end, BaseException):
            raise end
        return end

    return search


# --- What holds whatever happens ---

NAMES = ["a", "b", "c", "d", "e"]
ENDS = st.one_of(
    st.builds(limit, st.floats(1e3, 1e6), st.floats(0, 500)),
    st.just(limit(None)),
    st.just(limit(1e6, stopped_by="interrupted")),
    st.sampled_from([TargetError("gone"), RuntimeError("a fault"), KeyboardInterrupt()]),
)
ANSWERS = st.sampled_from([True, False, None, TargetError("gone"), Interrupted(None), RuntimeError("a fault")])


@given(
    ends=st.lists(ENDS, min_size=9, max_size=9),
    answers=st.none() | st.lists(ANSWERS, min_size=9, max_size=9),
    first=st.floats(1e3, 1e6),
    fails=st.sets(st.sampled_from(NAMES)),
    unmet=st.sets(st.sampled_from(NAMES)),
    offered=st.lists(st.sampled_from(NAMES), max_size=8),
    keep=st.booleans(),
    rounds=st.integers(0, 5),
)
def test_only_what_is_kept_stays_changed(
    *,
    ends: list[LimitResult | BaseException],
    answers: list[bool | BaseException | None] | None,
    first: float,
    fails: set[str],
    unmet: set[str],
    offered: list[str],
    keep: bool,
    rounds: int,
) -> None:
    fakes = Fakes(*(step(name, unmet="why not" if name in unmet else "") for name in offered), fails=fails)
    found: LimitResult | None = None
    holds = None if answers is None else checks(*answers)
    with suppress(KeyboardInterrupt):
        found = improved(limit(first), fakes, searches(*ends), keep=keep, holds=holds, rounds=rounds)
    # Twice where it was tried without it in between.
    tried = list(dict.fromkeys(fakes.tried))
    assert len(tried) <= rounds
    assert len(fakes.tried) == len(tried) or answers is not None
    assert not unmet & set(fakes.tried)
    if found is None:
        assert fakes.changed == []
        return
    assert fakes.changed == [key for one in found.improvements if keep and one.kept for key in one.keys]
    assert [one.setting for one in found.improvements if one.keys] == tried
    high = first
    for one in found.improvements:
        assert one.undone == (bool(one.keys) and not (keep and one.kept))
        if one.kept:
            assert one.limit_after is not None
            assert one.limit_after > high * 1.02
            high = one.limit_after


# --- When a limit rose ---


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        (limit(1000), limit(1019), False),
        (limit(1000), limit(1021), True),
        (limit(1000, half=100), limit(1100), False),
        (limit(1000, half=100), limit(1101), True),
        (limit(1000), limit(900), False),
        (limit(1000), limit(None), False),
        (limit(None, upper=900), limit(1000), True),
        (limit(None, upper=2000), limit(1000), False),
        (limit(1000), limit(5000, stopped_by="interrupted"), False),
    ],
    ids=["1.9 %", "2.1 %", "within", "above", "fell", "none after", "none before", "below what failed", "interrupted"],
)
def test_it_rose_above_the_whole_interval_and_by_2_percent(before: LimitResult, after: LimitResult, kept: bool) -> None:
    found = improved(before, Fakes(step("a")), searches(after), keep=False)
    (one,) = found.improvements
    assert (one.kept, one.undone) == (kept, True)
    assert (one.limit_before, one.limit_after) == (before.limit.value, after.limit.value)
    # The result is the first search; what came after stands beside it.
    assert msgspec.structs.replace(found, improvements=[]) == before


def test_the_next_step_is_judged_by_the_limit_that_was_kept() -> None:
    fakes = Fakes(step("a"), step("b"), step("c"))
    found = improved(limit(1000), fakes, searches(limit(2000), limit(1500), limit(3000)), keep=True)
    assert [(one.limit_before, one.kept) for one in found.improvements] == [(1000, True), (2000, False), (2000, True)]
    assert fakes.changed == ["a", "c"]


def test_a_step_that_did_not_help_is_undone_before_the_next() -> None:
    fakes = Fakes(step("a"), step("b", "b1", "b2"), step("c"))
    during: list[list[str]] = []
    ends = searches(limit(2000), limit(2000), limit(2000))

    def search(*_: object) -> LimitResult:
        during.append(list(fakes.changed))
        return ends()

    improved(limit(1000), fakes, search, keep=False)
    assert during == [["a"], ["a", "b1", "b2"], ["a", "c"]]
    assert fakes.changed == []


def test_there_are_at_most_three_searches() -> None:
    fakes = Fakes(*map(step, NAMES))
    found = improved(limit(1000), fakes, searches(*(limit(1000 * n) for n in range(2, 9))), keep=False)
    assert fakes.tried == NAMES[:ROUNDS]
    assert len(found.improvements) == ROUNDS == 3


# --- In turn: with, without, with ---


def test_a_new_limit_is_tried_without_the_change_and_the_change_then_made_again() -> None:
    fakes, loads = Fakes(step("a"), step("b")), list[float]()
    during: list[list[str]] = []

    def holds(load: float) -> bool | None:
        during.append(list(fakes.changed))
        return checks(False, loads=loads)(load)

    found = improved(limit(1000), fakes, searches(limit(2000), limit(3000)), keep=True, holds=holds)
    assert [one.kept for one in found.improvements] == [True, True]
    assert found.improvements[0].why.startswith("the limit rose: without it that load failed, and it stays: ")
    # What was kept before stays while the next one is tried without.
    assert (loads, during) == ([2000, 3000], [[], ["a"]])
    assert fakes.changed == ["a", "b"]


def test_a_load_that_holds_without_the_change_is_no_gain_of_it() -> None:
    fakes = Fakes(step("a"), step("b"))
    found = improved(limit(1000), fakes, searches(limit(2000), limit(1900)), keep=True, holds=checks(True, False))
    one, other = found.improvements
    assert (one.kept, one.undone, one.limit_after) == (False, True, 2000)
    assert one.why == "2,000 holds without it too: the limit rose for another reason"
    # The limit to beat is still the first.
    assert (other.limit_before, other.kept) == (1000, True)
    assert fakes.changed == ["b"]


def test_disturbed_trials_without_the_change_leave_the_intervals_to_decide() -> None:
    (one,) = improved(limit(1000), Fakes(step("a")), searches(limit(2000)), keep=False, holds=checks(None)).improvements
    assert one.kept
    assert one.why == "the limit rose: not checked without it, for trials were disturbed"


@pytest.mark.parametrize(
    ("end", "why", "interrupted"),
    [
        (TargetError("the target has ended"), "the check without it failed: the target has ended", False),
        (RuntimeError("a fault"), "the check without it failed: RuntimeError: a fault", False),
        (Interrupted(None), "the check without it was interrupted", True),
        (KeyboardInterrupt(), "the check without it was interrupted", True),
    ],
)
def test_a_check_that_fails_keeps_nothing(end: BaseException, why: str, interrupted: bool) -> None:
    fakes = Fakes(step("a"), step("b"))
    found = improved(limit(1000), fakes, searches(limit(2000), limit(2000)), keep=True, holds=checks(end, True))
    one = found.improvements[0]
    assert (one.why, one.kept, one.interrupted) == (why, False, interrupted)
    assert len(found.improvements) == (1 if interrupted else 2)
    assert fakes.changed == []


def test_a_change_that_did_not_help_is_not_checked() -> None:
    loads: list[float] = []
    improved(limit(1000), Fakes(step("a")), searches(limit(1000)), keep=False, holds=checks(True, loads=loads))
    assert loads == []


# --- What goes wrong ---


def test_a_later_search_that_fails_loses_nothing() -> None:
    fakes = Fakes(step("a"), step("b"), step("c"))
    found = improved(limit(1000), fakes, searches(limit(2000), TargetError("the target has ended")), keep=False)
    assert [(one.setting, one.limit_after, one.undone) for one in found.improvements] == [
        ("a", 2000, True),
        ("b", None, True),
    ]
    assert found.improvements[1].why == "the target has ended"
    assert fakes.changed == []


@pytest.mark.parametrize("keep", [False, True])
def test_a_change_whose_search_was_cut_short_is_undone(keep: bool) -> None:
    """With --keep too: nobody has seen what it does."""
    fakes = Fakes(step("a"), step("b"))
    with pytest.raises(KeyboardInterrupt):
        improved(limit(1000), fakes, searches(limit(2000), KeyboardInterrupt()), keep=keep)
    assert fakes.changed == []
    for end, why in ((TargetError("gone"), "gone"), (RuntimeError("a fault"), "RuntimeError: a fault")):
        fakes = Fakes(step("a"), step("b"))
        found = improved(limit(1000), fakes, searches(limit(2000), end), keep=keep)
        assert [one.limit_after for one in found.improvements] == [2000, None]
        assert found.improvements[1].why == why
        assert fakes.changed == (["a"] if keep else [])


def test_what_cannot_be_restored_is_said_and_ends_it() -> None:
    fakes = Fakes(step("a"), step("b"), stuck=["a"])
    (one,) = improved(limit(1000), fakes, searches(limit(1000)), keep=False).improvements
    assert not one.undone
    assert one.why.endswith("; a could not be restored")


def test_what_stays_names_the_command_that_undoes_it() -> None:
    (one,) = improved(limit(1000), Fakes(step("a")), searches(limit(2000)), keep=True).improvements
    assert one.why == "the limit rose, and it stays: `flatout host undo --journal there` undoes it"
    assert not one.undone


def test_what_cannot_be_changed_costs_no_search() -> None:
    fakes = Fakes(step("a", unmet="the target is on another host"), step("b"), fails=["b"])
    found = improved(limit(1000), fakes, searches(), keep=False)
    assert [(one.setting, one.finding, one.why) for one in found.improvements] == [
        ("a", "cause of a", "the target is on another host"),
        ("b", "cause of b", "the kernel refused the value"),
    ]


def test_without_a_step_the_result_is_as_it_was() -> None:
    assert improved(limit(1000), Fakes(), searches(), keep=False) == limit(1000)


# --- Command and API ---


def test_an_interrupt_of_a_later_search_is_one_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    cut = improved(limit(1000), Fakes(step("a")), searches(limit(900, stopped_by="interrupted")), keep=False)
    assert output.exit_code(cut) == output.INTERRUPTED
    monkeypatch.setattr(api, "raised", lambda *_, **__: cut)
    with pytest.raises(Interrupted) as caught:
        api.limit("echo", "127.0.0.1:9", transport="udp", improve=True)
    assert caught.value.result == cut


def test_each_search_has_half_of_the_budget(tmp_path: Path) -> None:
    budgets = []

    def seek(_: Any, search: Any, **__: Any) -> LimitResult:
        budgets.append(search.budget_s)
        return limit(None, stopped_by="interrupted")

    scenario = searching.trial_scenario("echo", "127.0.0.1:9", transport="udp")
    for budget in (60.0, 6.0):
        search = searching.search_of(scenario, axis="rate", rate=None, least=None, most=None, budget=budget, **GOAL)
        found = searching.raised(scenario, search, seek, keep=False, journal=tmp_path / "improve.json")
        # After Ctrl-C there is nothing to improve.
        assert found.improvements == []
    assert budgets == [30.0, 5.0]


GOAL: dict[str, Any] = {"loss": 0.001, "p99": None, "within": 0.02}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--keep"], "--keep says what becomes of the changes"),
        (["--journal", "there"], "--journal names the file for the changes"),
        (["--improve", "--sweep", "1k..2k"], "--sweep"),
    ],
)
def test_flags_that_do_not_go_together(cli: Cli, options: list[str], said: str) -> None:
    done = cli("limit", "echo", "127.0.0.1:9", "--transport", "udp", *options)
    assert (done.code, said in done.err) == (2, True), done.err
