"""Writes what runs now: each load and each search its progress to a small file of its own beside the store.

A file is replaced whole, a few times a second, and removed at the end.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar

import msgspec

from flatout.result.model import Interval, Trial
from flatout.runner.progress import LatencySecond, RunProgress, SearchProgress
from flatout.scenario.model import Scenario
from flatout.store.live import LiveCommand, LiveHost, LiveLatency, LiveRun, LiveSearch, LiveSecond, LiveTrial

Of = TypeVar("Of")
To = TypeVar("To")
# At most so often a file is written; what ends a trial, or the run, is written at once.
_WRITE_S = 0.25
# How many seconds of a run, and trials of a search, a file has: the last ones.
_SECONDS, _TRIALS = 120, 100
# What a live run has of a run's progress under the same name.
_SAME = (
    *("phase", "t_s", "total_s", "rate_per_s", "planned", "sent", "unsent", "lost", "late", "refused", "invalid"),
    *("duplicate", "connections", "connections_asked", "one_way"),
)


class LivePublisher:
    """A context manager, and the progress callback of a run or a search. What cannot be written is not shown."""

    def __init__(
        self,
        folder: Path,
        command: LiveCommand,
        scenario: Scenario,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = folder / f"{os.getpid()}-{time.time_ns()}.json"
        self._now, self._written_at = now, float("-inf")
        self._trials: list[LiveTrial] = []
        self._latency = _LatencyColumns()
        self._one_way = False
        self._seconds: _Converted[Interval, LiveSecond] = _Converted(
            lambda second: _second(second, one_way=self._one_way)
        )
        self._run = LiveRun(
            id=self._path.stem,
            command=command,
            protocol=scenario.protocol,
            transport=scenario.transport,
            target=scenario.target,
            began_at=time.time(),
        )

    def __enter__(self) -> Self:
        """It is listed from now on."""
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._write()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """It is no longer listed."""
        with contextlib.suppress(OSError):
            self._path.unlink()

    def __call__(self, progress: RunProgress | SearchProgress) -> None:
        """Takes one event."""
        milestone = self._note(progress)
        self._latency.note(progress)
        if milestone or self._now() - self._written_at >= _WRITE_S:
            run = progress if isinstance(progress, RunProgress) else progress.run
            if run is not None:
                self._one_way = run.one_way
                self._run = _with_run(self._run, run, self._seconds(run.intervals), self._latency.last())
            if isinstance(progress, SearchProgress):
                search = _search(progress, self._trials)
                self._run = msgspec.structs.replace(self._run, search=search)
            self._write()

    def _note(self, progress: RunProgress | SearchProgress) -> bool:
        """Keeps a trial that has ended; true where the event must be written at once."""
        if isinstance(progress, RunProgress):
            return progress.phase == "done"
        if progress.finished is None:
            return progress.limit is not None
        self.end_trial(_trial(progress.trial, progress.finished))
        return True

    def end_trial(self, trial: LiveTrial) -> None:
        """Keeps a trial that has ended; it is shown with the next event."""
        if self._trials and self._trials[-1].trial >= trial.trial:
            self._trials = []  # another search
        self._trials = [*self._trials[1 - _TRIALS :], trial]

    def _write(self) -> None:
        self._written_at = self._now()
        new = self._path.with_suffix(".new")
        try:
            # Read by its owner alone: targets and rates are nobody else's.
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(_encoded(self._run))
            new.replace(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                new.unlink()


def _encoded(run: LiveRun) -> bytes:
    try:
        return msgspec.json.encode(run)
    except UnicodeEncodeError:
        # A target may be a file's name in no encoding.
        return msgspec.json.encode(msgspec.structs.replace(run, target=ascii(run.target)))


class _Converted(Generic[Of, To]):
    """The last seconds of a run as a file has them, made only when another one has ended."""

    def __init__(self, convert: Callable[[Of], To]) -> None:
        self._convert = convert
        self._count = 0
        self._last: Of | None = None
        self._made: list[To] = []

    def __call__(self, seconds: Sequence[Of]) -> list[To]:
        last = seconds[-1] if seconds else None
        if len(seconds) != self._count or last is not self._last:
            self._count, self._last = len(seconds), last
            self._made = [self._convert(second) for second in seconds[-_SECONDS:]]
        return self._made


class _LatencyColumns:
    """The latencies of the last seconds: of a run, or of the trials of a search one after the other."""

    def __init__(self) -> None:
        self._before: list[LiveLatency] = []
        self._trial: int | None = None
        self._now: Sequence[LatencySecond] = ()
        self._columns: _Converted[LatencySecond, LiveLatency] = _Converted(lambda second: _bands(second, self._trial))

    def note(self, progress: RunProgress | SearchProgress) -> None:
        """Takes one event, and none of its seconds apart: events may come far more often than they are written."""
        if isinstance(progress, RunProgress):
            self._now = progress.latency
        elif progress.run is not None:
            if progress.trial != self._trial:
                self._before, self._now, self._trial = self.last(), (), progress.trial
            self._now = progress.run.latency

    def last(self) -> list[LiveLatency]:
        """At most as many as a file has."""
        return [*self._before, *self._columns(self._now)][-_SECONDS:]


def _bands(second: LatencySecond, trial: int | None) -> LiveLatency:
    by_band = dict(second.bands)
    first, last = min(by_band), max(by_band)
    counts = [by_band.get(band, 0) for band in range(first, last + 1)]
    return LiveLatency(t_s=second.t_s, trial=trial, first=first, counts=counts)


def _with_run(live: LiveRun, run: RunProgress, seconds: list[LiveSecond], latency: list[LiveLatency]) -> LiveRun:
    return msgspec.structs.replace(
        live,
        **{name: getattr(run, name) for name in _SAME},
        came=run.received if run.one_way else run.answered,
        seconds=seconds,
        latency=latency,
        hosts=[LiveHost(**{name: getattr(host, name) for name in LiveHost.__struct_fields__}) for host in run.hosts],
    )


def _second(second: Interval, *, one_way: bool) -> LiveSecond:
    return LiveSecond(
        t_s=second.t_s,
        planned=second.planned,
        sent=second.sent,
        came=second.received if one_way else second.answered,
        lost=second.lost,
        p50=second.p50,
        p99=second.p99,
        lateness_p99=second.lateness_p99,
    )


def _trial(number: int, trial: Trial) -> LiveTrial:
    due = trial.latency_ns.from_due
    return LiveTrial(
        trial=number,
        load=trial.load,
        verdict=trial.verdict,
        loss=trial.loss,
        p99=due.p99 if due else None,
        why=trial.why,
    )


def _search(progress: SearchProgress, trials: list[LiveTrial]) -> LiveSearch:
    limit = progress.limit
    return LiveSearch(
        trial=progress.trial,
        phase=progress.phase,
        load=progress.load,
        unit="/s" if progress.axis == "rate" else "connections",
        lower=progress.lower,
        upper=progress.upper,
        elapsed_s=progress.elapsed_s,
        budget_s=progress.budget_s,
        limit=limit.value if limit else None,
        stopped_by=limit.stopped_by if limit else None,
        trials=trials,
    )
