"""The limit search as a pure decider, played against simulated servers in virtual time."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from limit_servers import (
    LOSS,
    Played,
    Reply,
    Server,
    disturbed,
    driven_up_to,
    flattering,
    noisy,
    play,
    reply,
    search,
    sharp,
    soft,
)
from MLRsearch import AbstractMeasurer, Config, MeasurementResult, MultipleLossRatioSearch, SearchGoal

from flatout.limit_search.grid import Grid
from flatout.limit_search.search import Conclusion, NextTrial, PastTrial, TrialLengths, conclude, decide

CAPACITY = 204_000


def loads(played: Played, phase: str | None = None) -> list[int]:
    return [trial.load for trial in played.past if phase in (None, trial.phase)]


# --- a server without noise ---


@given(
    capacity=st.floats(1_100, 4_500_000),
    within=st.sampled_from([0.01, 0.02, 0.05, 0.2, 0.5]),
    hint=st.none() | st.floats(1_000, 1e7),
)
def test_finds_any_capacity_within_what_was_asked(capacity: float, within: float, hint: float | None) -> None:
    done = play(sharp(capacity), search(within=within), hint).done
    assert done.stopped_by == "found"
    assert done.confirmed
    assert done.value is not None
    assert done.value == done.lower <= capacity / (1.0 - LOSS)
    assert done.upper is not None
    assert capacity < done.upper <= done.value * (1.0 + within) + 1.0


def test_climbs_from_the_minimum_by_doubling_then_halves() -> None:
    played = play(sharp(CAPACITY), search())
    climb = loads(played, "bracket")
    assert climb[:9] == [1_000, 2_000, 4_000, 7_999, 15_996, 31_991, 63_979, 127_951, 255_887]
    assert loads(played, "search")[0] == pytest.approx((127_951 * 255_887) ** 0.5, rel=0.02)
    assert played.past[-1].phase == "confirm"
    assert played.past[-1].load == played.done.value
    assert played.past[-1].duration_s == 5.0


def test_takes_half_a_minute_of_the_60_s() -> None:
    assert play(sharp(CAPACITY), search()).elapsed_s < 35.0


def test_a_hint_saves_the_climb_but_starts_far_below_it() -> None:
    played = play(sharp(CAPACITY), search(), hint_per_s=1_500_000)
    assert 1_500_000 / 40 < played.past[0].load <= 1_500_000 / 32
    assert len(played.past) < len(play(sharp(CAPACITY), search()).past)


def test_goes_down_when_the_start_was_too_high() -> None:
    played = play(sharp(3_000), search(), hint_per_s=1_500_000)
    assert loads(played, "bracket")[:4] == pytest.approx([46_500, 46_500, 23_500, 23_500], rel=0.03)
    assert played.done.stopped_by == "found"
    assert played.done.value == pytest.approx(3_000, rel=0.02)


def test_holding_the_maximum_is_a_result() -> None:
    played = play(sharp(CAPACITY), search(max_per_s=150_000))
    assert (played.done.stopped_by, played.done.value, played.done.upper) == ("max", 150_000, None)
    assert played.past[-1].phase == "confirm"
    assert max(loads(played)) == 150_000


def test_failing_at_the_minimum_is_a_result() -> None:
    played = play(sharp(500), search())
    assert (played.done.stopped_by, played.done.value, played.done.upper) == ("min", None, 1_000)
    assert set(loads(played)) == {1_000}


def test_one_failure_at_the_minimum_is_not() -> None:
    fate = iter([reply(0.5)])
    assert play(lambda load, s: next(fate, None) or sharp(CAPACITY)(load, s), search()).done.stopped_by == "found"


def test_two_failures_at_the_minimum_are_not_yet_either() -> None:
    fate = iter([reply(0.5)] * 2)
    assert play(lambda load, s: next(fate, None) or sharp(CAPACITY)(load, s), search()).done.stopped_by == "found"


def test_where_minimum_is_maximum() -> None:
    assert play(sharp(2_000), search(1_000, 1_000)).done.stopped_by == "max"
    assert play(sharp(500), search(1_000, 1_000)).done.stopped_by == "min"


@pytest.mark.parametrize("capacity", [3.2, 7.9, 15.5, 40.0])
def test_small_loads_are_whole_numbers(capacity: float) -> None:
    done = play(sharp(capacity), search(min_per_s=0.5, within=0.01)).done
    assert (done.stopped_by, done.value) == ("found", int(capacity))


def test_a_soft_knee_is_found_where_its_loss_passes_the_goal() -> None:
    done = play(soft(CAPACITY), search()).done
    assert done.value is not None
    assert CAPACITY / 1.02 <= done.value <= CAPACITY


# --- whatever the server does ---


@st.composite
def whims(draw: st.DrawFn) -> Callable[[int, float], Reply]:
    """Any server at all: sharp somewhere, with any share of trials that fail, hold or are invalid by chance."""
    dice = random.Random(draw(st.integers(0, 2**32)))
    capacity = draw(st.floats(100, 1e7))
    chances = draw(st.tuples(*[st.sampled_from([0.0, 0.05, 0.3, 1.0])] * 3))

    def server(load: int, duration_s: float) -> Reply:
        for chance, answer in zip(chances, (reply(0.02), reply(0.0), ("invalid", 0.0)), strict=True):
            if dice.random() < chance:
                return answer
        return sharp(capacity)(load, duration_s)

    return server


any_search = given(
    whims(), st.sampled_from([0.01, 0.02, 0.1]), st.sampled_from([5.0, 60.0, 120.0]), st.none() | st.just(2e6)
)


@settings(max_examples=100)
@any_search
def test_laws_hold_whatever_the_server_does(server: Server, within: float, budget_s: float, hint: float | None) -> None:
    check_laws(server, within, budget_s, hint)


@pytest.mark.slow
@settings(max_examples=10_000)
@any_search
def test_laws_hold_for_thousands_of_servers(server: Server, within: float, budget_s: float, hint: float | None) -> None:
    check_laws(server, within, budget_s, hint)


def check_laws(server: Server, within: float, budget_s: float, hint: float | None) -> None:
    asked = search(within=within, budget_s=budget_s)
    played = play(server, asked, hint)
    done = played.done
    assert played.elapsed_s <= budget_s
    assert all(isinstance(load, int) and 1_000 <= load <= 5_000_000 for load in loads(played))
    held = 0
    for trial in played.past:
        assert trial.load <= max(2 * held, played.past[0].load)
        held = max(held, trial.load if trial.verdict == "held" else 0)
    assert done.value == done.lower
    assert done.lower is None or done.upper is None or done.lower < done.upper
    of = {v: {t.load for t in played.past if t.verdict == v} for v in ("held", "failed")}
    assert done.lower is None or done.lower in of["held"]
    assert done.upper is None or done.upper in of["failed"]
    lengths = TrialLengths.of(budget_s)
    assert all(trial.duration_s >= lengths.full_s for trial in played.past if trial.phase == "confirm")
    assert not (done.stopped_by == "found" and (not done.confirmed or done.upper is None))


@settings(max_examples=30)
@given(whims())
def test_ends_even_if_the_clock_stands_still(server: Server) -> None:
    past: list[PastTrial] = []
    while isinstance(step := decide(search(), past, 0.0), NextTrial):
        past.append(PastTrial(step.load, step.duration_s, *server(step.load, step.duration_s), step.phase))
        assert len(past) < 400


@settings(max_examples=30)
@given(whims(), st.integers(1, 40))
def test_invalid_trials_say_nothing_of_the_server(server: Server, cut: int) -> None:
    past = play(server, search()).past[:cut]
    valid = [trial for trial in past if trial.verdict != "invalid"]
    with_them, without = conclude(search(), past, "budget"), conclude(search(), valid, "budget")
    assert with_them.upper is None or with_them.upper in {trial.load for trial in valid}
    assert with_them.lower is None or (without.lower or 0) >= with_them.lower


# --- chance ---


@pytest.mark.parametrize("at", range(24))
def test_a_single_bad_trial_does_not_decide(at: int) -> None:
    calm = play(sharp(CAPACITY), search())
    count = itertools.count()
    shaken = play(lambda load, s: reply(0.3) if next(count) == at else sharp(CAPACITY)(load, s), search())
    assert shaken.done.value == calm.done.value
    assert shaken.done.stopped_by == "found"


@pytest.mark.parametrize("at", range(24))
def test_a_single_lucky_trial_does_not_decide(at: int) -> None:
    calm = play(sharp(CAPACITY), search())
    count = itertools.count()
    shaken = play(lambda load, s: reply(0.0) if next(count) == at else sharp(CAPACITY)(load, s), search())
    assert shaken.done.value == calm.done.value
    assert shaken.done.stopped_by == "found"


@pytest.mark.parametrize(
    ("make", "fives"),
    [
        (lambda seed: noisy(CAPACITY, 0.01, seed), 10),
        (lambda seed: disturbed(soft(CAPACITY), 0.10, seed), 10),
        (lambda seed: disturbed(noisy(CAPACITY, 0.01, seed), 0.05, seed + 100), 10),
        # With 2 % noise in every trial, however long, the ends of five may be three rungs of 2 % apart.
        (lambda seed: noisy(CAPACITY, 0.02, seed), 8),
    ],
    ids=["1 % noise", "10 % bad trials", "1 % noise, 5 % bad trials", "2 % noise"],
)
def test_five_searches_agree_within_5_percent(make: Callable[[int], Server], fives: int) -> None:
    agreed = 0
    for first in range(0, 50, 5):
        played = [play(make(seed), search()) for seed in range(first, first + 5)]
        values = sorted(p.done.value or 0 for p in played)
        agreed += values[-1] <= values[0] * 1.05
        assert values[2] == pytest.approx(CAPACITY, rel=0.03)
        assert all(p.elapsed_s <= 60.0 for p in played)
    assert agreed >= fives


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_mlrsearch(seed: int) -> None:
    server = noisy(CAPACITY, 0.005, seed)

    class Measurer(AbstractMeasurer):  # type: ignore[misc]
        def measure(self, intended_duration: float, intended_load: float) -> MeasurementResult:
            _, loss = server(round(intended_load), intended_duration)
            count = round(intended_load * intended_duration)
            return MeasurementResult(
                intended_duration=intended_duration,
                intended_load=intended_load,
                intended_count=count,
                offered_count=count,
                loss_count=round(count * loss),
            )

    goal = SearchGoal(
        loss_ratio=LOSS,
        exceed_ratio=0.5,
        relative_width=0.02,
        initial_trial_duration=1.0,
        final_trial_duration=2.0,
        duration_sum=6.0,
        preceding_targets=2,
        expansion_coefficient=2,
        fail_fast=True,
    )
    config = Config(goals=[goal], min_load=1e3, max_load=2e6, search_duration_max=600.0, warmup_duration=None)
    theirs = float(MultipleLossRatioSearch(config=config).search(measurer=Measurer())[goal].relevant_lower_bound)
    assert play(server, search()).done.value == pytest.approx(theirs, rel=0.04)


# --- the confirming run ---


def test_a_refuted_load_is_not_claimed() -> None:
    """Two long runs fail just where short trials hold: the value is lower, and a long run held it."""
    found = play(sharp(CAPACITY), search()).done.value
    assert found is not None

    def server(load: int, duration_s: float) -> Reply:
        return reply(0.002) if load == found and duration_s >= 5.0 else sharp(CAPACITY)(load, duration_s)

    done = play(server, search()).done
    assert done.value is not None
    assert found / 1.045 < done.value < found
    assert (done.upper, done.confirmed, done.stopped_by) == (found, True, "found")


def test_short_trials_that_flatter_are_not_believed() -> None:
    played = play(flattering(300_000, CAPACITY), search())
    assert played.done.value is not None
    assert CAPACITY * 0.95 < played.done.value <= CAPACITY
    assert played.done.confirmed
    assert 55.0 < played.elapsed_s <= 60.0


def test_long_runs_narrow_what_short_trials_cannot_see() -> None:
    done = play(flattering(300_000, CAPACITY), search(budget_s=120.0)).done
    assert done.stopped_by == "found"
    assert done.value is not None
    assert done.value <= CAPACITY < (done.upper or 0) <= done.value * 1.0201


def test_strides_grow_where_the_loss_of_long_runs_tells_nothing() -> None:
    def server(load: int, duration_s: float) -> Reply:
        return reply(0.002) if duration_s > 3.0 and load > CAPACITY else sharp(300_000)(load, duration_s)

    done = play(server, search(within=0.05, budget_s=120.0)).done
    assert done.confirmed
    assert done.value is not None
    assert done.value <= CAPACITY


def test_time_for_confirming_is_kept() -> None:
    played = play(sharp(CAPACITY), search(budget_s=18.0))
    assert played.done.stopped_by == "budget"
    assert played.done.confirmed
    assert played.past[-1].phase == "confirm"
    assert played.done.value is not None
    assert 127_951 <= played.done.value <= CAPACITY < (played.done.upper or 0)


def test_without_time_nothing_is_confirmed() -> None:
    done = play(sharp(CAPACITY), search(budget_s=2.5), overhead_s=1.1).done
    assert (done.stopped_by, done.confirmed) == ("budget", False)
    assert play(sharp(CAPACITY), search(budget_s=1.0)).past == []


def test_a_bound_that_only_short_trials_held_has_a_throughput() -> None:
    done = conclude(search(), play(sharp(CAPACITY), search()).past[:3], "interrupted")
    assert done.conditional_throughput == done.value == 4_000


def test_what_was_measured_counts_though_the_clock_stands_still() -> None:
    past = [PastTrial(1_000, 30.0, "held", 0.0, "bracket"), PastTrial(2_000, 30.0, "held", 0.0, "bracket")]
    assert decide(search(), past, 0.0) == Conclusion(2_000, None, 2_000, "budget", False, 2_000.0)


def test_a_load_that_held_above_one_that_failed_is_luck() -> None:
    past = [
        PastTrial(load, 0.5, "failed" if loss else "held", loss, "search")
        for load, loss in ((1_000, 0.0), (2_000, 0.1), (2_000, 0.1), (3_000, 0.0))
    ]
    done = conclude(search(), past, "interrupted")
    assert (done.lower, done.upper) == (1_000, 2_000)


def test_dear_trials_keep_to_the_budget() -> None:
    for overhead_s in (0.0, 1.0, 2.0, 4.0):
        assert play(sharp(CAPACITY), search(), overhead_s=overhead_s).elapsed_s <= 60.0


def test_conditional_throughput_is_the_lower_bound_less_its_loss() -> None:
    done = play(lambda load, _s: reply(max(0.0005, 1 - CAPACITY / load)), search()).done
    assert done.value is not None
    assert done.conditional_throughput == pytest.approx(done.value * 0.9995)


# --- the generator's bound ---


def test_a_generator_that_falls_behind_below_the_limit_is_no_server_limit() -> None:
    played = play(driven_up_to(sharp(CAPACITY), 150_000), search())
    assert (played.done.stopped_by, played.done.upper) == ("generator", None)
    assert played.done.value is not None
    assert 150_000 / 1.02 <= played.done.value <= 150_000
    assert played.done.confirmed


def test_a_generator_that_falls_behind_above_the_limit_does_not_matter() -> None:
    done = play(driven_up_to(sharp(CAPACITY), 220_000), search()).done
    assert done.stopped_by == "found"
    assert done.value == pytest.approx(CAPACITY, rel=0.02)


def test_an_invalid_load_is_tried_three_times() -> None:
    played = play(driven_up_to(sharp(CAPACITY), 150_000), search())
    invalid = [trial.load for trial in played.past if trial.verdict == "invalid"]
    assert {invalid.count(load) for load in invalid} == {3}


def test_more_patience_where_the_generator_is_able() -> None:
    """Three invalid trials at a load below one that was driven are the machine's fault, not a ceiling."""
    count = itertools.count()
    disturbed_at = range(13, 16)
    done = play(
        lambda load, s: ("invalid", 0.0) if next(count) in disturbed_at else sharp(CAPACITY)(load, s), search()
    ).done
    assert done.stopped_by == "found"


def test_a_generator_that_cannot_drive_the_minimum() -> None:
    played = play(driven_up_to(sharp(CAPACITY), 10), search())
    assert (played.done.stopped_by, played.done.lower, played.done.upper) == ("generator", None, None)
    assert len(played.past) == 3


def test_a_long_run_that_cannot_be_driven_is_no_failure() -> None:
    def server(load: int, duration_s: float) -> Reply:
        return ("invalid", 0.0) if duration_s > 3.0 and load > 200_000 else sharp(CAPACITY)(load, duration_s)

    played = play(server, search(budget_s=100.0))
    assert played.done.stopped_by == "generator"
    assert (played.done.upper or 0) > CAPACITY
    assert played.done.value is not None
    assert 200_000 / 1.03 < played.done.value <= 200_000
    long = [trial.load for trial in played.past if trial.verdict == "invalid"]
    assert {long.count(load) for load in long} == {3}


def test_full_trials_that_cannot_be_driven_are_given_up() -> None:
    def server(load: int, duration_s: float) -> Reply:
        return ("invalid", 0.0) if duration_s > 0.75 and load > 200_000 else sharp(CAPACITY)(load, duration_s)

    played = play(server, search())
    invalid = [trial.load for trial in played.past if trial.verdict == "invalid"]
    assert {invalid.count(load) for load in invalid} == {4}
    assert played.done.stopped_by == "generator"
    assert played.done.value == 197_809


def test_a_disturbed_machine_is_given_more_and_longer_trials_not_called_the_generators_end() -> None:
    held = [PastTrial(load, 0.5, "held", 0.0, "bracket") for load in (1_000, 2_000)]
    bad = PastTrial(4_000, 0.5, "invalid", 0.0, "bracket", disturbed=True)
    steps = [decide(search(), [*held, *[bad] * times], 5.0 + times) for times in range(1, 8)]
    assert all(isinstance(step, NextTrial) and step.load == 4_000 for step in steps)
    lengths = [step.duration_s for step in steps if isinstance(step, NextTrial)]
    assert lengths[0] == 2 * TrialLengths.of(60.0).sort_s
    assert max(lengths) == 4 * TrialLengths.of(60.0).sort_s
    beyond = decide(search(), [*held, *[bad] * 8], 13.0)
    assert isinstance(beyond, NextTrial)
    assert beyond.load < 4_000


def test_a_budget_spent_on_trials_that_were_all_held_up_is_the_generators_trouble() -> None:
    bad = PastTrial(1_000, 0.5, "invalid", 0.0, "bracket", disturbed=True)
    done = decide(search(), [bad] * 3, 59.5)
    assert isinstance(done, Conclusion)
    assert (done.stopped_by, done.lower, done.upper) == ("generator", None, None)


# --- the parts ---


def test_rungs_are_within_apart_and_widths_reverse() -> None:
    grid = Grid.of(1_000, 5_000_000, 0.02)
    low, high = 127_951, 255_887
    assert grid.up(low) == high
    assert grid.down(high, grid.doubling) == low
    while not grid.adjacent(low, high):
        low = grid.middle(low, high)
    assert high / low == pytest.approx(1.02, rel=1e-4)


def test_wide_rungs_of_small_loads_stay_whole_and_apart() -> None:
    grid = Grid.of(1, 100, 0.45)
    assert (grid.up(1), grid.middle(1, 3), grid.down(2, 1)) == (2, 2, 1)


@given(st.floats(0.1, 1e6), st.floats(1.0, 1e7), st.sampled_from([0.001, 0.01, 0.02, 0.3, 0.45, 1.0]), st.data())
def test_steps_stay_inside(low: float, high: float, within: float, data: st.DataObject) -> None:
    grid = Grid.of(low, high, within)
    load = data.draw(st.integers(grid.bottom, grid.top))
    other = data.draw(st.integers(grid.bottom, grid.top))
    assert min(load + 1, grid.top) <= grid.up(load) <= min(max(2 * load, load + 1), grid.top)
    assert grid.bottom <= grid.down(load, 3) <= max(load - 1, grid.bottom)
    assert grid.bottom <= grid.at_most(float(load)) <= load * (1 + 1e-9) + 1
    if load < other and not grid.adjacent(load, other):
        assert load < grid.middle(load, other) < other


@pytest.mark.parametrize("budget_s", [1.0, 17.3, 60.0, 61.0, 600.0, 1e6])
def test_trial_lengths_follow_the_budget_and_add_up_exactly(budget_s: float) -> None:
    lengths = TrialLengths.of(budget_s)
    assert lengths.full_s == 2 * lengths.sort_s
    assert sum([lengths.full_s] * 4) == lengths.settle_sum_s
    assert 0.25 <= lengths.full_s <= 10.0


def test_nothing_measured_is_no_bound() -> None:
    assert conclude(search(), [], "interrupted") == Conclusion(None, None, None, "interrupted", False, None)
