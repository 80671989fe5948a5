"""Distributions of results and the histograms behind them."""

from __future__ import annotations

import base64
import math

from flatout._engine import Histogram
from flatout.result.model import Distribution, SignedDistribution


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
        hdr=_encoded(durations),
    )


def signed_distribution(behind: Histogram, ahead: Histogram) -> SignedDistribution | None:
    """Two histograms, of times below 0 without their sign and of those from 0 on, in the contract's form."""
    count = behind.count + ahead.count
    if not count:
        return None
    mean = (ahead.mean * ahead.count - behind.mean * behind.count) / count

    def at(quantile: float) -> int:
        # Half a rank below, so that rounding meets no neighbour.
        rank = max(math.ceil(quantile * count - 1e-6), 1)
        if rank <= behind.count:
            return -behind.quantile((behind.count - rank + 0.5) / behind.count)
        return ahead.quantile((rank - behind.count - 0.5) / ahead.count)

    squares = _squares(ahead, mean) + _squares(behind, -mean)
    return SignedDistribution(
        count=count,
        min=-behind.max if behind.count else ahead.min,
        mean=mean,
        stddev=math.sqrt(squares / count),
        p1=at(0.01),
        p10=at(0.1),
        p50=at(0.5),
        p90=at(0.9),
        p99=at(0.99),
        p999=at(0.999),
        max=ahead.max if ahead.count else -behind.min,
        hdr_ahead=_encoded(ahead),
        hdr_behind=_encoded(behind),
    )


def both_sides(measured: SignedDistribution) -> tuple[Histogram, Histogram]:
    """The histograms behind a signed distribution: below 0, and from 0 on."""
    behind, ahead = (Histogram.decode(base64.b64decode(hdr)) for hdr in (measured.hdr_behind, measured.hdr_ahead))
    return behind, ahead


def _encoded(durations: Histogram) -> str:
    return base64.b64encode(bytes(durations.encode())).decode()


def histogram(measured: Distribution) -> Histogram:
    """The histogram behind a distribution: any quantile, exact merging."""
    return Histogram.decode(base64.b64decode(measured.hdr))


def share_later_than(measured: Distribution, ns: int) -> float:
    """The share of samples greater than `ns`."""
    return histogram(measured).count_above(ns) / measured.count if measured.count else 0.0


def standard_deviation_ns(measured: Distribution) -> float:
    """Over all samples, as precise as the histogram's steps are."""
    durations = histogram(measured)
    return math.sqrt(_squares(durations, durations.mean) / durations.count) if durations.count else 0.0


def _squares(durations: Histogram, mean: float) -> float:
    """The sum of all samples' squared distances from `mean`."""
    squares, below = 0.0, 0
    while below < durations.count:
        # From one step that holds samples to the next.
        value = durations.quantile((below + 0.5) / durations.count)
        upto = durations.count - durations.count_above(value)
        squares += (upto - below) * (value - mean) ** 2
        below = max(upto, below + 1)
    return squares
