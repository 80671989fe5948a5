"""The loop of commands that run until they are stopped: one line and one JSON object a second.

The commands themselves say what is counted.
"""

from __future__ import annotations

import abc
import contextlib
import errno
import os
import select
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any, BinaryIO, Protocol

import msgspec
from cyclopts import Parameter

from flatout.cli import output as out
from flatout.errors import OutputError

Stats = dict[str, Any]

# Flags of these commands.
For = Annotated[str | None, Parameter(name="--for", help="Stop after this time. [until Ctrl-C]")]
Json = Annotated[
    str | None,
    Parameter(
        allow_leading_hyphen=True, help="One JSON object a second and a last one with totals (-: standard output)."
    ),
]
Quiet = Annotated[bool, Parameter(negative=(), show_default=False, help="Print errors only.")]


class Running(Protocol):
    """Something that runs, counts and can be stopped."""

    @property
    def alive(self) -> bool:
        """Whether all its threads are at work."""

    @property
    def errors(self) -> list[str]:
        """The system calls that failed so that threads could not go on."""

    def stats(self) -> Stats:
        """Its counters since the beginning."""

    def stop(self) -> None:
        """Ends it; the counters stay."""


class Stop:
    """A request to stop, by signal.

    A pipe and no `threading.Event`: the handler runs in the thread that waits, and would hang on the event's own lock.
    """

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # Under nohup a hang-up is ignored, and stays so.
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._request)

    def _request(self, *_: object) -> None:
        # A full pipe means that a request is pending.
        with contextlib.suppress(BlockingIOError):
            os.write(self._writer, b".")

    def wait(self, seconds: float) -> bool:
        """Waits so many seconds at most for a request; it stays requested."""
        return bool(select.select([self._reader], [], [], seconds)[0])


class Objects:
    """JSON objects for programs, one a line. What cannot be written is reported once, and no reason to stop."""

    def __init__(self, stream: BinaryIO | None) -> None:
        """`stream`: None writes nothing."""
        self._stream = stream
        self.failed = False

    @property
    def closed(self) -> bool:
        """Whether nothing is written, or not any more."""
        return self._stream is None

    def write(self, value: Mapping[str, Any] | msgspec.Struct) -> None:
        """Writes one object."""
        if self._stream is None:
            return
        try:
            self._stream.write(msgspec.json.encode(value) + b"\n")
            self._stream.flush()
        except OSError as error:
            out.say(f"flatout: the JSON cannot be written any more: {error.strerror}; it goes on without")
            self._stream = None
            # A reader that has left had what it wanted.
            self.failed = error.errno != errno.EPIPE


class Lines(abc.ABC):
    """One object a second for programs, and beside it lines for people where `people` is set."""

    def __init__(self, objects: BinaryIO | None, *, people: bool) -> None:
        self.objects = Objects(objects)
        self.people = people

    def second(self, before: Stats, now: Stats) -> None:
        """The events of one second, between two samples."""
        self.objects.write({**self.difference(before, now), "t_s": now["t_s"]})
        if self.people:
            for line in self.of_second(before, now, max(now["t_s"] - before["t_s"], 1e-9)):
                out.say(line)

    def last(self, totals: Stats) -> None:
        """The totals."""
        self.objects.write({**totals, "total": True})
        if self.people:
            for line in self.of_all(totals):
                out.say(line)

    @abc.abstractmethod
    def difference(self, before: Stats, now: Stats) -> Stats:
        """The events between two samples, in the form of a sample."""

    @abc.abstractmethod
    def of_second(self, before: Stats, now: Stats, span: float) -> list[str]:
        """The same for people."""

    @abc.abstractmethod
    def of_all(self, totals: Stats) -> list[str]:
        """The totals for people."""


def run_until_stopped(
    running: Running,
    lines: Callable[[BinaryIO | None], Lines],
    stop: Stop,
    *,
    seconds: float | None,
    json: str | None,
) -> int:
    """Writes a line a second until `stop`, or for `seconds`; returns the exit code."""
    left = seconds if seconds is not None else float("inf")
    with contextlib.ExitStack() as opened:
        reported = lines(opened_for(json, opened))
        # From zero, not from a first sample: events before that would be in no second.
        before = _zero(running.stats())
        while left > 0 and running.alive and not stop.wait(min(1.0, left)):
            left -= 1.0
            now = running.stats()
            reported.second(before, now)
            before = now
        died = not running.alive
        running.stop()
        reported.last(running.stats())
    for error in running.errors:
        out.say(f"flatout: a serving thread cannot go on: {error}")
    if died and not running.errors:
        out.say("flatout: a serving thread has ended, which is a fault of flatout")
    broken = out.GENERATOR if died or running.errors else out.DONE
    return out.worst([broken, out.UNMET if reported.objects.failed else out.DONE])


def _zero(stats: Any) -> Any:
    """A sample in which every counter is 0."""
    if isinstance(stats, dict):
        return {name: _zero(value) for name, value in stats.items()}
    if isinstance(stats, list):
        return [_zero(value) for value in stats]
    return 0 if isinstance(stats, int | float) else stats


def opened_for(path: str | None, opened: contextlib.ExitStack) -> BinaryIO | None:
    """Where the objects go. A file is opened before anything is counted, so that a bad one costs nothing.

    Errors: OutputError.
    """
    if path is None or path == "-":
        return sys.stdout.buffer if path else None
    try:
        file = open(path, "wb")  # noqa: SIM115 - closed by `opened`
    except OSError as error:
        raise OutputError(f"'{path}' cannot be written: {error.strerror}") from error
    opened.callback(_close, file)
    return file


def _close(file: BinaryIO) -> None:
    # What it cannot write now was reported when it was flushed.
    with contextlib.suppress(OSError):
        file.close()


def events(before: Mapping[str, int], now: Mapping[str, int], held: frozenset[str] = frozenset()) -> dict[str, int]:
    """The differences of counters; those in `held` are gauges and keep their last value."""
    return {name: value if name in held else value - before[name] for name, value in now.items()}
