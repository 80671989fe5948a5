"""The limit search and a generator that cannot drive what it is asked for, or is held up: the pure decider."""

from __future__ import annotations

import itertools

import pytest
from limit_servers import Reply, driven_up_to, play, search, sharp

from flatout.limits.search import Done, Measure, Past, decide

CAPACITY = 204_000


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


def test_an_invalid_load_is_tried_twice_and_the_bound_once_more_at_the_end() -> None:
    played = play(driven_up_to(sharp(CAPACITY), 150_000), search())
    invalid = [trial.load for trial in played.past if trial.verdict == "invalid"]
    assert [invalid.count(load) for load in sorted(set(invalid))] == [3, *[2] * (len(set(invalid)) - 1)]
    assert [trial.phase for trial in played.past[-2:]] == ["confirm", "search"]
    assert played.past[-1].load == min(invalid)


def test_what_kept_the_generator_down_may_pass() -> None:
    """A machine that is busy for 5 s in mid-search must not bound the generator for good."""
    began, count = 10, itertools.count()

    def server(load: int, duration_s: float) -> Reply:
        busy = began <= next(count) < began + 4
        return ("invalid", 0.0) if busy and load > 100_000 else sharp(CAPACITY)(load, duration_s)

    played = play(server, search())
    assert sum(trial.verdict == "invalid" for trial in played.past) == 4
    assert (played.done.stopped_by, played.done.value) == ("found", play(sharp(CAPACITY), search()).done.value)


def test_no_time_to_look_at_the_generators_bound_once_more_is_no_open_question() -> None:
    held = [Past(load, 0.5, "held", 0.0, "bracket") for load in (1_000, 2_000, 4_000)]
    beyond = [Past(4_079, 0.5, "invalid", 0.0, "search")] * 2
    past = [*held, *beyond, Past(4_000, 4.0, "held", 0.0, "confirm")]
    assert decide(search(), past, 20.0) == Measure(4_079, 0.5, "search")
    done = decide(search(), past, 57.0)
    assert isinstance(done, Done)
    assert (done.stopped_by, done.lower, done.upper, done.confirmed) == ("generator", 4_000, None, True)


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


def test_long_runs_that_cannot_be_driven_get_shorter() -> None:
    calm = play(sharp(CAPACITY), search()).done
    played = play(lambda load, s: ("invalid", 0.0) if s > 2.5 else sharp(CAPACITY)(load, s), search())
    assert [trial.duration_s for trial in played.past if trial.phase == "confirm"] == [4.0, 2.0]
    assert (played.done.stopped_by, played.done.value) == ("found", calm.value)
    assert (played.done.confirmed, played.done.confirmed_s) == (True, 2.0)


def test_a_long_run_that_cannot_be_driven_is_no_failure() -> None:
    def server(load: int, duration_s: float) -> Reply:
        return ("invalid", 0.0) if duration_s > 1.5 and load > 200_000 else sharp(CAPACITY)(load, duration_s)

    played = play(server, search(budget_s=100.0))
    assert played.done.stopped_by == "generator"
    assert (played.done.upper or 0) > CAPACITY
    assert played.done.value is not None
    assert 200_000 / 1.03 < played.done.value <= 200_000
    long = [trial.load for trial in played.past if trial.verdict == "invalid" and trial.phase == "confirm"]
    assert [long.count(load) for load in sorted(set(long))] == [3, *[2] * (len(set(long)) - 1)]


def test_full_trials_that_cannot_be_driven_are_given_up() -> None:
    def server(load: int, duration_s: float) -> Reply:
        return ("invalid", 0.0) if duration_s > 0.75 and load > 200_000 else sharp(CAPACITY)(load, duration_s)

    played = play(server, search())
    invalid = [trial.load for trial in played.past if trial.verdict == "invalid"]
    assert {invalid.count(load) for load in invalid} <= {3, 4}
    assert played.done.stopped_by == "generator"
    assert played.done.value == 197_809


def test_a_disturbed_machine_is_given_more_trials_not_called_the_generators_end() -> None:
    held = [Past(load, 0.5, "held", 0.0, "bracket") for load in (1_000, 2_000)]
    bad = Past(4_000, 0.5, "invalid", 0.0, "bracket", disturbed=True)
    steps = [decide(search(), [*held, *[bad] * times], 5.0 + times) for times in range(1, 8)]
    assert steps == [Measure(4_000, 0.5, "bracket")] * 7
    beyond = decide(search(), [*held, *[bad] * 8], 13.0)
    assert isinstance(beyond, Measure)
    assert beyond.load < 4_000


def test_a_budget_spent_on_trials_that_were_all_held_up_is_the_generators_trouble() -> None:
    bad = Past(1_000, 0.5, "invalid", 0.0, "bracket", disturbed=True)
    done = decide(search(), [bad] * 3, 59.5)
    assert isinstance(done, Done)
    assert (done.stopped_by, done.lower, done.upper) == ("generator", None, None)
