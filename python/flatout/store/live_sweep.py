"""A sweep for who watches it: its rates are the trials of a search without bounds."""

from __future__ import annotations

import time
from collections.abc import Callable

from flatout.result.sweep import SweepRow
from flatout.runner.progress import RunProgress, SearchProgress
from flatout.store.live import LiveTrial
from flatout.store.live_publisher import LivePublisher


class LiveSweep:
    """The progress callback of a sweep; `whole_s` is how long it takes if each rate is driven at once."""

    def __init__(self, live: LivePublisher, whole_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self._live, self._whole_s, self._now = live, whole_s, now
        self._began, self._done = now(), 0

    def __call__(self, run: RunProgress) -> None:
        """Takes an event of the run at one rate."""
        self._live(
            SearchProgress(
                trial=self._done + 1,
                phase="sweep",
                rate_per_s=run.rate_per_s or 0.0,
                trial_s=run.total_s,
                elapsed_s=self._now() - self._began,
                budget_s=self._whole_s,
                lower=None,
                upper=None,
                ceiling_hint_per_s=None,
                run=run,
            )
        )

    def row(self, row: SweepRow) -> None:
        """A rate is done. It counts as held if all was answered and in time; nobody asked for more."""
        self._done += 1
        verdict = "held" if row.bad == row.late == 0 else "failed"
        self._live.end_trial(
            LiveTrial(
                trial=self._done,
                load=row.rate_per_s,
                verdict="invalid" if row.verdict == "generator-limited" else verdict,
                loss=row.bad,
                p99=row.p99_ns,
                why=row.why,
            )
        )
