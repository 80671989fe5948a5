"""Metrics of a search over a fleet in which each one has a value, as `--prometheus` serves them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from flatout.runner.progress import HostProgress, RunProgress, SearchProgress
from flatout.view.metrics import RunMetrics

_COUNTERS = ("planned", "sent", "unsent", "answered", "late", "refused", "invalid", "duplicate", "lost")
_OF_HOSTS = ("sent", "unsent", "answered", "lost")


class Everything:
    """A search whose counters go on; `step` moves it."""

    def __init__(self, target: str = "192.0.2.1:123") -> None:
        self.metrics = RunMetrics("ntp", target)
        self._steps = 0
        self.step()

    def step(self) -> None:
        """Something of everything happens: 10 of each counter."""
        self._steps += 1
        count = 10 * self._steps
        hosts = tuple(self._host(name, count) for name in ("1", "2"))
        latest: Any = SimpleNamespace(p50=20_000, p99=900_000)
        run = RunProgress(
            phase="running",
            t_s=1,
            total_s=10,
            rate_per_s=200.0,
            latest=latest,
            connections=7,
            hosts=hosts,
            **dict.fromkeys(_COUNTERS, count),  # type: ignore[arg-type]
        )
        found: Any = SimpleNamespace(value=5e4)
        bounds = {"lower": 4e4, "upper": 6e4, "ceiling_hint_per_s": None}
        times = {"trial_s": 1.0, "elapsed_s": 2.0, "budget_s": 60.0}
        self.metrics(SearchProgress(trial=3, phase="x", rate_per_s=5e4, run=run, limit=found, **bounds, **times))

    def _host(self, name: str, count: int) -> HostProgress:
        counts = dict.fromkeys(_OF_HOSTS, count)
        return HostProgress(
            host=name,
            phase="running",
            rate_per_s=100.0,
            lateness_p99_ns=1500,
            silent_s=0.1,
            **counts,  # type: ignore[arg-type]
        )
