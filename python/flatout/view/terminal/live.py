"""The live view: progress of a run or a search, drawn on standard error.

Drawing takes time from the CPUs that are measured, so it is cheap: a frame is a handful of strings joined and
written once, at most four times a second, on the thread that calls back. No thread, no timer, no layout engine.
A frame leaves the cursor at the start of the line below it and every colour ended, and nothing is switched on in the
terminal, so the terminal is usable however the process ends. Where standard error is no terminal there are
plain lines: one a second of a run, one a trial of a search.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self, TextIO

from flatout.runner.progress import RunProgress, SearchProgress
from flatout.view.exchange import exchange_of
from flatout.view.terminal import frame
from flatout.view.terminal.screen import Screen, is_terminal

REDRAW_S = 0.25
Progress = RunProgress | SearchProgress


class Live:
    """A context manager to be passed as the progress callback."""

    def __init__(
        self,
        title: str = "",
        stream: TextIO | None = None,
        now: Callable[[], float] = time.monotonic,
        terminal: bool | None = None,
    ) -> None:
        """`title`: protocol and target. `terminal`: whether to draw; None: as the stream says."""
        out = sys.stderr if stream is None else stream
        drawn = is_terminal(out) if terminal is None else terminal
        self._view: _Frames | _Lines = _Frames(title, out, now) if drawn else _Lines(title, out)

    def __enter__(self) -> Self:
        """Nothing is drawn before the first event."""
        return self

    def __call__(self, progress: Progress) -> None:
        """Takes one event; whatever cannot be written, the measurement goes on."""
        with suppress(OSError, ValueError):
            self._view.show(progress)

    def clear(self) -> None:
        """Clears the frame, so that something else can be printed; the next event draws it again."""
        with suppress(OSError, ValueError):
            self._view.close(cleared=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Clear the frame after a good end; leave it to be read after a bad one."""
        with suppress(OSError, ValueError):
            self._view.close(cleared=kind is None)


class _Frames:
    """Draws over its own last frame."""

    def __init__(self, title: str, stream: TextIO, now: Callable[[], float]) -> None:
        self._screen = Screen(stream)
        self._now = now
        self._memory = frame.Memory(title)
        self._drawn_at = float("-inf")

    def show(self, progress: Progress) -> None:
        milestone = self._memory.note(progress)
        now = self._now()
        if milestone or now - self._drawn_at >= REDRAW_S:
            self._drawn_at = now
            self._screen.draw(frame.lines(progress, self._memory))

    def close(self, *, cleared: bool) -> None:
        self._screen.close(cleared=cleared)


class _Lines:
    """Writes a plain line when a second of a run, or a trial of a search, is over."""

    def __init__(self, title: str, stream: TextIO) -> None:
        self._stream = stream
        self._title = title
        self._collected = 0
        self._connecting = False

    def show(self, progress: Progress) -> None:
        line = self._search(progress) if isinstance(progress, SearchProgress) else self._run(progress)
        if not line:
            return
        if self._title:
            line, self._title = f"{frame.safe(self._title)}\n{line}", ""
        self._stream.write(line + "\n")
        self._stream.flush()

    def close(self, *, cleared: bool) -> None:
        """Lines stay."""

    def _run(self, progress: RunProgress) -> str:
        if self._connecting != (progress.phase == "connecting"):
            self._connecting = not self._connecting
            return frame.connecting_line(progress)
        if len(progress.intervals) < self._collected:
            self._collected = 0  # another run
        # Several may be over at once: a run's last second and what is left of it.
        new, self._collected = progress.intervals[self._collected :], len(progress.intervals)
        exchange = exchange_of(progress)
        return "\n".join(frame.second_line(second, exchange) for second in new)

    def _search(self, progress: SearchProgress) -> str | None:
        if progress.finished is not None:
            return frame.trial_line(progress.trial, progress.finished, progress)
        return frame.limit_line(progress.limit) if progress.limit is not None else None
