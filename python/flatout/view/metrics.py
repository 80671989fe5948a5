"""The progress of a run or a search as Prometheus reads it (text exposition format 0.0.4)."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator

from flatout.runner.progress import RunProgress, SearchProgress
from flatout.server.exposition import lines_of

_COUNTERS = {
    "planned": "Requests that were due.",
    "sent": "Requests that left.",
    "unsent": "Requests that could not leave in time.",
    "answered": "Right answers in time.",
    "late": "Right answers after the time-out.",
    "refused": "Requests that were refused.",
    "invalid": "Answers that are no right ones.",
    "duplicate": "Answers that came again.",
    "lost": "Requests whose time-out has passed without an answer.",
}


class RunMetrics:
    """Takes progress; another thread may ask for the text meanwhile.

    Counters go on over the trials of a search. They begin with the counted time: those of a warm-up are left out.
    """

    def __init__(self, protocol: str, target: str) -> None:
        target = target.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        self._label = f'protocol="{protocol}",target="{target}"'
        self._lock = threading.Lock()
        self._before: Counter[str] = Counter()
        self._run: RunProgress | None = None
        self._search: SearchProgress | None = None

    def __call__(self, progress: RunProgress | SearchProgress) -> None:
        """Takes one event of a run or of a search."""
        with self._lock:
            if isinstance(progress, RunProgress):
                self._run = progress
                return
            self._search = progress
            if progress.run is not None:
                self._run = progress.run
            if progress.finished is not None:
                outcomes = progress.finished.outcomes
                self._before.update({name: getattr(outcomes, name) for name in _COUNTERS})
                self._run = None

    def text(self) -> str:
        """All metrics."""
        with self._lock:
            return "\n".join([*self._lines(), ""])

    def _lines(self) -> Iterator[str]:
        run, label = self._run, self._label
        for name, text in _COUNTERS.items():
            count = self._before[name] + (getattr(run, name) if run is not None else 0)
            yield from lines_of(f"flatout_load_{name}_total", "counter", text, [(label, count)])
        if run is not None:
            yield from self._of_run(run)
        if self._search is not None:
            yield from self._of_search(self._search)

    def _of_run(self, run: RunProgress) -> Iterator[str]:
        if run.rate_per_s is not None:
            text = "The rate that is asked for now."
            yield from lines_of("flatout_load_rate_per_second", "gauge", text, [(self._label, run.rate_per_s)])
        if run.connections is not None:
            yield from lines_of("flatout_load_connections", "gauge", "Open now.", [(self._label, run.connections)])
        latest = run.latest
        for quantile, ns in (("0.5", latest.p50), ("0.99", latest.p99)) if latest is not None else ():
            if ns is not None:
                samples = [(f'{self._label},quantile="{quantile}"', ns / 1e9)]
                text = "From due to the answer, in the last second."
                yield from lines_of("flatout_load_latency_seconds", "gauge", text, samples)

    def _of_search(self, search: SearchProgress) -> Iterator[str]:
        numbers = {
            "trial": ("The trial's number.", search.trial),
            "load": ("The load of the trial, per second or connections.", search.load),
            "lower": ("The highest load that held.", search.lower),
            "upper": ("The lowest load that failed.", search.upper),
            "value": ("What was found.", search.limit.value if search.limit is not None else None),
        }
        for name, (text, value) in numbers.items():
            if value is not None:
                yield from lines_of(f"flatout_limit_{name}", "gauge", text, [(self._label, value)])
