"""Distributions of times that may be negative: made of two histograms, shown, merged."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
import results

from flatout._engine import Histogram
from flatout.result.histogram import both_sides, signed_distribution
from flatout.result.model import SignedDistribution
from flatout.view.page import tables
from flatout.view.terminal import summary


def measured(samples: list[int]) -> SignedDistribution:
    behind, ahead = Histogram(), Histogram()
    for sample in samples:
        (behind if sample < 0 else ahead).record(abs(sample))
    made = signed_distribution(behind, ahead)
    assert made
    return made


@pytest.mark.parametrize("middle", [-3_000_000, -500, 0, 800, 3_000_000])
def test_quantiles_are_those_of_the_samples(middle: int) -> None:
    samples = np.random.default_rng(7).normal(middle, 2_000, 20_000).astype(int)
    found = measured([int(sample) for sample in samples])
    assert found.count == len(samples)
    ordered = np.sort(samples)
    for name, share in (("p1", 1), ("p10", 10), ("p50", 50), ("p90", 90), ("p99", 99), ("p999", 99.9)):
        exact = ordered[math.ceil(share * len(samples) / 100 - 1e-6) - 1]
        assert getattr(found, name) == pytest.approx(exact, rel=2e-3, abs=2), name
    assert found.min == pytest.approx(samples.min(), rel=2e-3)
    assert found.max == pytest.approx(samples.max(), rel=2e-3)
    assert found.mean == pytest.approx(samples.mean(), rel=1e-3, abs=3)
    # A step of the histogram is a thousandth of the value.
    assert found.stddev == pytest.approx(samples.std(), rel=0.2 if abs(middle) > 1e6 else 1e-2)


def test_one_side_may_be_empty() -> None:
    assert signed_distribution(Histogram(), Histogram()) is None
    assert (measured([-5, -5]).max, measured([-5, -5]).p50) == (-5, -5)
    assert (measured([5, 7]).min, measured([5, 7]).p1) == (5, 5)


def test_the_histograms_come_back() -> None:
    behind, ahead = both_sides(measured([-3, -4, 9]))
    assert (behind.count, behind.max, ahead.count, ahead.max) == (2, 4, 1, 9)


def test_they_are_shown() -> None:
    run = msgspec.structs.replace(results.load(), offset_ns=measured([-1500, 250, 2500]))
    text = summary.text(run)
    assert "offset" in text
    assert "-1.50 µs" in text
    assert all(len(line) <= 80 for line in text.splitlines())
    table = next(table for table in tables.of_run(run) if table.caption.startswith("Offset"))
    assert table.rows[0][:3] == ["offset", "3", "-1.50 µs"]
