"""Detection of a lost target, in virtual time."""

from __future__ import annotations

import pytest

from flatout.runner.target_monitor import Sample, TargetMonitor


def silent(
    monitor: TargetMonitor, until_s: float, step_s: float = 0.1, per_s: float = 1000.0, answered: int = 0
) -> float | None:
    """When the monitor calls a target lost that answers no more; None if never."""
    steps = round(until_s / step_s)
    for step in range(1, steps + 1):
        t_s = step * step_s
        if monitor.lost(Sample(t_s, int(per_s * t_s), answered, 0, 0)):
            return t_s
    return None


def test_silence_is_awaited_two_seconds_or_two_timeouts() -> None:
    assert silent(TargetMonitor(0.5), 10.0) == pytest.approx(2.2, abs=0.11)
    assert silent(TargetMonitor(3.0), 10.0) == pytest.approx(6.2, abs=0.11)


def test_few_requests_can_be_lost_by_chance() -> None:
    assert silent(TargetMonitor(0.5), 10.0, per_s=0.9) is None
    assert silent(TargetMonitor(0.5), 60.0, per_s=0.9) == pytest.approx(12, abs=1.5)


def test_a_target_that_answers_is_never_lost() -> None:
    monitor = TargetMonitor(0.5)
    for step in range(1, 1000):
        assert monitor.lost(Sample(step * 0.1, step * 100, step, 0, 0)) is None


def test_patience_begins_again_with_each_answer() -> None:
    monitor = TargetMonitor(0.5)
    for step in range(1, 100):
        answers = 1 + step // 15
        assert monitor.lost(Sample(step * 0.1, step * 100, answers, 0, 0)) is None, f"at {step * 0.1} s"
    assert monitor.lost(Sample(20.0, 20_000, 7, 0, 0)) is not None


def test_refusals_are_believed_sooner() -> None:
    monitor = TargetMonitor(0.5)
    assert monitor.lost(Sample(0.1, 100, 0, 100, 0)) is None
    assert monitor.lost(Sample(0.5, 500, 0, 500, 0)) is None
    why = monitor.lost(Sample(0.8, 800, 0, 800, 0))
    assert why is not None
    assert "refuses" in why
    assert "never answered" in why


def test_resets_are_no_refusals_where_other_connections_are_open() -> None:
    monitor = TargetMonitor(0.5)
    monitor.lost(Sample(0.1, 100, 100, 0, 0, live=10))
    assert monitor.lost(Sample(0.8, 800, 100, 700, 0, live=10)) is None
    assert monitor.lost(Sample(0.9, 900, 100, 800, 0, live=0)) is not None


def test_a_few_refusals_among_many_requests_are_not() -> None:
    monitor = TargetMonitor(0.5)
    monitor.lost(Sample(0.1, 100, 100, 0, 0))
    assert monitor.lost(Sample(1.0, 1000, 100, 400, 0)) is None
    assert monitor.lost(Sample(1.1, 1100, 100, 900, 0)) is not None


def test_wrong_answers_are_no_answers_and_are_named() -> None:
    monitor = TargetMonitor(0.5)
    monitor.lost(Sample(0.1, 100, 100, 0, 0))
    why = monitor.lost(Sample(3.0, 3000, 100, 0, 2900))
    assert why is not None
    assert "all of 2,900 answers were wrong" in why
    assert "since 0.1 s" in why


def test_a_target_without_any_connection_left_is_lost_after_the_same_patience() -> None:
    monitor = TargetMonitor(0.5)
    assert monitor.lost(Sample(1.0, 100, 100, 0, 0, live=5)) is None
    assert monitor.lost(Sample(2.9, 100, 100, 0, 0, live=0)) is None
    assert monitor.lost(Sample(3.1, 100, 100, 0, 0, live=0)) == (
        "the target has not answered since 1.0 s: all connections have ended"
    )


def test_a_connection_that_is_opened_again_shows_that_the_target_is_there() -> None:
    monitor = TargetMonitor(0.5)
    assert monitor.lost(Sample(1.0, 5, 5, 0, 0, live=1)) is None
    for t_s, live in ((2.9, 0), (3.0, 1), (3.1, 0), (4.9, 0)):
        assert monitor.lost(Sample(t_s, 5, 5, 0, 0, live=live)) is None
    assert monitor.lost(Sample(5.1, 5, 5, 0, 0, live=0)) is not None
