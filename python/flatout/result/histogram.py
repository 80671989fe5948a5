"""Distributions of results and the histograms behind them."""

from __future__ import annotations

import base64
import math

from flatout._engine import Histogram
from flatout.result.model import Distribution


def distribution(durations: Histogram) -> Distribution | None:
    """A histogram in the contract's form; None without samples."""
    if not durations.count:
        return None
    return Distribution(
        count=durations.count,
        min=durations.min,
        mean=durations.mean,
        p50=durations.quantile(0.5),
        p90=durations.quantile(0.9),
        p99=durations.quantile(0.99),
        p999=durations.quantile(0.999),
        max=durations.max,
        hdr=base64.b64encode(bytes(durations.encode())).decode(),
    )


def histogram(measured: Distribution) -> Histogram:
    """The histogram behind a distribution: any quantile, exact merging."""
    return Histogram.decode(base64.b64decode(measured.hdr))


def share_later_than(measured: Distribution, ns: int) -> float:
    """The share of samples greater than `ns`."""
    return histogram(measured).count_above(ns) / measured.count if measured.count else 0.0


def standard_deviation_ns(measured: Distribution) -> float:
    """Over all samples, as precise as the histogram's steps are."""
    durations = histogram(measured)
    squares, below = 0.0, 0
    while below < durations.count:
        # From one step that holds samples to the next.
        value = durations.quantile((below + 0.5) / durations.count)
        upto = durations.count - durations.count_above(value)
        squares += (upto - below) * (value - durations.mean) ** 2
        below = max(upto, below + 1)
    return math.sqrt(squares / durations.count) if durations.count else 0.0
