"""The highest seconds of the last 24 hours, in memory of fixed size. Pure: the time is an argument."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

_MINUTES = 24 * 60


class Peaks:
    """For each counter the most events in one second, a minute at a time, for 24 hours."""

    def __init__(self) -> None:
        self._minutes: deque[tuple[int, dict[str, float]]] = deque(maxlen=_MINUTES)
        self._last: tuple[float, dict[str, int]] | None = None

    def note(self, steady_s: float, counters: Mapping[str, int]) -> None:
        """Takes a sample of cumulative counters, about one a second."""
        last, self._last = self._last, (steady_s, dict(counters))
        if last is None or steady_s - last[0] < 0.5:
            return
        span = steady_s - last[0]
        rates = {name: (value - last[1].get(name, 0)) / span for name, value in counters.items()}
        minute = int(steady_s // 60)
        if not self._minutes or self._minutes[-1][0] != minute:
            self._minutes.append((minute, rates))
            return
        kept = self._minutes[-1][1]
        for name, rate in rates.items():
            kept[name] = max(kept.get(name, 0.0), rate)

    def highest(self, steady_s: float) -> dict[str, float]:
        """The highest rate of each counter in the last 24 hours, per s."""
        since = steady_s // 60 - _MINUTES
        highest: dict[str, float] = {}
        for minute, rates in self._minutes:
            if minute > since:
                for name, rate in rates.items():
                    highest[name] = max(highest.get(name, 0.0), rate)
        return {name: round(rate, 1) for name, rate in highest.items()}
