"""Finds spikes in the packets of each 1/64 s: far above what is usual. Pure: seconds come in, spikes come out.

Usual is what most of the last 30 seconds were like. So a rate that stays becomes usual after 15 seconds, and a burst
that comes each second does, too; the bins show it all the same.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from flatout.watch.source import BINS

# Seconds of which what is usual is made, and fewer than which do not tell.
_WINDOW = 30
_LEAST = 3
# A bin is a burst with so many times the usual packets, or of the usual peak; and a second with so many times.
_TIMES = 4.0
_PEAK_TIMES = 2.0
_SECOND_TIMES = 2.0
# Beyond chance: so many standard deviations of a Poisson process, and so many packets.
_DEVIATIONS = 6.0
_FEW = 16
# Bins below the threshold that a burst may have inside.
_PAUSE = 1


class Burst(NamedTuple):
    """Bins from `first` up to `last` inside, numbered from the start of the second's clock; their packets.

    `goes_on`: it continues the burst before.
    """

    first: int
    last: int
    packets: int
    peak: int
    usual: float
    goes_on: bool = False

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return (self.last - self.first + 1) / BINS


@dataclass(frozen=True)
class _Usual:
    mean: float
    peak: float

    @property
    def burst(self) -> float:
        """More packets than this in a bin are a burst."""
        return max(_TIMES * self.mean + _DEVIATIONS * math.sqrt(self.mean) + _FEW, _PEAK_TIMES * self.peak)

    @property
    def second(self) -> float:
        """More packets than this in a second are a spike."""
        mean = BINS * self.mean
        return _SECOND_TIMES * mean + _DEVIATIONS * math.sqrt(mean) + BINS


class BurstFinder:
    """Of one port and direction; seconds are given in their order."""

    def __init__(self) -> None:
        self._means: deque[float] = deque(maxlen=_WINDOW)
        self._peaks: deque[int] = deque(maxlen=_WINDOW)
        self._last: Burst | None = None

    def second(self, number: int, bins: Sequence[int]) -> list[Burst]:
        """The bursts of a second, with what went before where one goes on. `number`: of the second."""
        found: list[Burst] = []
        if len(self._means) >= _LEAST:
            usual = _Usual(statistics.median(self._means), statistics.median(self._peaks))
            found = _bursts(number * BINS, bins, usual) or _whole(number * BINS, bins, usual)
        self._means.append(sum(bins) / BINS)
        self._peaks.append(max(bins))
        if found and self._last is not None and found[0].first <= self._last.last + 1 + _PAUSE:
            found[0] = _joined(self._last, found[0])
        self._last = found[-1] if found else None
        return found


def _bursts(start: int, bins: Sequence[int], usual: _Usual) -> list[Burst]:
    found: list[Burst] = []
    for at, packets in enumerate(bins):
        if packets <= usual.burst:
            continue
        if found and start + at - found[-1].last <= 1 + _PAUSE:
            before = found[-1]
            between = sum(bins[before.last - start + 1 : at])
            found[-1] = before._replace(
                last=start + at, packets=before.packets + between + packets, peak=max(before.peak, packets)
            )
        else:
            found.append(Burst(start + at, start + at, packets, packets, usual.mean))
    return found


def _whole(start: int, bins: Sequence[int], usual: _Usual) -> list[Burst]:
    """The second as one, where it has too many packets without a burst in it."""
    total = sum(bins)
    return [Burst(start, start + BINS - 1, total, max(bins), usual.mean)] if total > usual.second else []


def _joined(before: Burst, after: Burst) -> Burst:
    return Burst(
        before.first,
        after.last,
        before.packets + after.packets,
        max(before.peak, after.peak),
        before.usual,
        goes_on=True,
    )
