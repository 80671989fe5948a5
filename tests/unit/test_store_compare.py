"""Comparing kept runs: what noise is known, and what may be said with it."""

from __future__ import annotations

import math
import random
from typing import Any

import msgspec
import pytest

from flatout.store.compare import METRICS, compared, noise
from flatout.store.rows import StoredRun

_numbers = iter(range(1, 10**9))


def run(value: float | None, **other: Any) -> StoredRun:
    usual: dict[str, Any] = {
        "id": next(_numbers),
        "kind": "limit",
        "label": "a",
        "protocol": "ntp",
        "transport": "udp",
        "target": "127.0.0.1:1123",
        "exchange": "e",
        "hostname": "h",
        "version": "1",
        "started_at": 0.0,
        "duration_s": 1.0,
        "verdict": "found",
        "valid": True,
        "value": value,
        "unit": "requests/s",
        "loss": 0.0,
        "p50_ns": None,
        "p99_ns": None,
    }
    return StoredRun(**usual | other)


def group(label: str, *values: float, **other: Any) -> tuple[str, list[StoredRun]]:
    return label, [run(value, label=label, **other) for value in values]


def test_one_run_a_side_says_nothing_without_noise() -> None:
    found = compared(group("a", 100e3), group("b", 50e3))
    assert found.outcome == "invalid"
    assert "unknown" in found.why
    assert found.changes[0].interval is None
    assert found.changes[0].change == pytest.approx(-0.5)


def test_earlier_runs_make_the_noise_known() -> None:
    earlier = [run(value, label="main") for value in (100e3, 101e3, 99e3, 100.5e3, 99.5e3)]
    assert compared(group("a", 100e3), group("b", 50e3), earlier).outcome == "worse"
    assert compared(group("a", 100e3), group("b", 150e3), earlier).outcome == "better"
    assert compared(group("a", 100e3), group("b", 100.2e3), earlier).outcome == "same"


def test_runs_that_ask_otherwise_are_another_group() -> None:
    # Two hosts, one run each: they say nothing of noise.
    earlier = [run(100e3, label="x", hostname="one"), run(200e3, label="x", hostname="two")]
    assert compared(group("a", 100e3), group("b", 50e3), earlier).outcome == "invalid"


def test_a_change_within_the_noise_is_no_change() -> None:
    found = compared(group("a", 80e3, 100e3, 120e3), group("b", 70e3, 90e3, 110e3))
    assert found.outcome == "invalid"
    low, high = found.changes[0].interval or (0.0, 0.0)
    assert low < found.changes[0].change < high  # type: ignore[operator]
    assert low < 0 < high


def test_the_tolerance_decides_what_counts() -> None:
    a, b = group("a", 100e3, 100.1e3, 99.9e3), group("b", 93e3, 93.1e3, 92.9e3)
    assert compared(a, b, tolerance=0.05).outcome == "worse"
    assert compared(a, b, tolerance=0.1).outcome == "same"


def test_more_latency_is_worse() -> None:
    a = group("a", 1e4, 1e4, kind="load", p50_ns=10_000, p99_ns=50_000)
    b = group("b", 1e4, 1e4, kind="load", p50_ns=10_000, p99_ns=90_000)
    found = compared(a, b)
    assert [change.outcome for change in found.changes] == ["same", "same", "worse"]
    assert found.outcome == "worse"
    assert found.why.startswith("latency p99")
    assert compared(b, a).changes[2].outcome == "better"


def test_invalid_runs_are_left_out_and_named() -> None:
    name, runs = group("b", 50e3, 100e3, 101e3)
    runs[0] = msgspec.structs.replace(runs[0], valid=False)
    found = compared(group("a", 100e3, 101e3), (name, runs))
    assert found.b.left_out == [runs[0].id]
    assert found.outcome == "same"
    none = compared(group("a", 100e3, 101e3), (name, runs[:1]))
    assert none.outcome == "invalid"
    assert "no run of b is valid" in none.why


def test_a_side_without_answers_is_not_the_same() -> None:
    a = group("a", 1e4, 1e4, kind="load", p50_ns=10_000, p99_ns=50_000)
    b = group("b", 0.0, 0.0, kind="load")
    assert compared(a, b).outcome == "worse"
    assert [change.outcome for change in compared(a, b).changes] == ["worse", "invalid", "invalid"]
    assert compared(b, a).changes[0].outcome == "better"


def test_noise_is_pooled_over_groups_and_not_between_them() -> None:
    (metric,) = METRICS["limit"]
    deviation, degrees = noise(metric, [group("a", 100.0, 110.0)[1], group("b", 1000.0, 1100.0)[1], group("c", 5.0)[1]])
    assert degrees == 2
    assert deviation == pytest.approx(math.log(1.1) / math.sqrt(2))


@pytest.mark.parametrize("ratio", [1.0, 0.9])
def test_intervals_hold_the_true_change_as_often_as_they_say(ratio: float) -> None:
    chance, inside, wrong, rounds = random.Random(7), 0, 0, 600
    for _ in range(rounds):
        a = group("a", *(1e5 * math.exp(chance.gauss(0, 0.02)) for _ in range(4)))
        b = group("b", *(ratio * 1e5 * math.exp(chance.gauss(0, 0.02)) for _ in range(4)))
        found = compared(a, b)
        low, high = found.changes[0].interval or (1.0, -1.0)
        inside += low <= ratio - 1 <= high
        wrong += found.outcome == ("worse" if ratio == 1.0 else "better")
    assert inside / rounds == pytest.approx(0.95, abs=0.03)
    assert wrong / rounds < 0.02
