"""The command line under test: inside this process where that proves the same, else as a process of its own."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import sandbox
from flatout.cli import main

_numbers = itertools.count()
_HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Ran(NamedTuple):
    """What a command that has ended left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as one JSON value."""
        return json.loads(self.out)


# Under nohup a process ignores SIGHUP, and so would all that it starts.
_HEARS_HANGUPS = ("env", "--default-signal=HUP")


class Running:
    """A command that still runs, its output going to files."""

    def __init__(self, command: list[str], folder: Path) -> None:
        number = next(_numbers)
        self.out, self.err = folder / f"{number}.out", folder / f"{number}.err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            # A group of its own, so that `kill` ends what the command has started too.
            how: dict[str, Any] = {"stdin": subprocess.DEVNULL, "process_group": 0}
            self.process = subprocess.Popen([*_HEARS_HANGUPS, *command], cwd=folder, stdout=out, stderr=err, **how)

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def held_up(self, seconds: float) -> float:
        """Stops the process for so long and lets it go on; returns for how long it really stood still (s)."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            self.process.send_signal(signal.SIGCONT)
        return time.monotonic() - began

    def end(self, seconds: float = 60.0) -> Ran:
        """Waits for the end."""
        code = self.process.wait(seconds)
        return Ran(code, self.out.read_text(encoding="utf-8"), self.err.read_text(encoding="utf-8"))

    def kill(self) -> None:
        """Ends it, whatever it does."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Cli:
    """Runs `flatout`: called, it runs inside this process; `process` and `start` give it one of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[Running] = []

    def __call__(self, *arguments: object, inside: str | None = None, seconds: float = 60.0) -> Ran:
        """Runs it to its end: here, unless it is to be inside a network namespace."""
        if inside is not None:
            return self.process(*arguments, inside=inside, seconds=seconds)
        return run_here([str(argument) for argument in arguments], self.folder)

    def process(self, *arguments: object, inside: str | None = None, seconds: float = 60.0) -> Ran:
        """Runs it to its end as a process of its own: where memory, environment or descriptors are looked at."""
        # Through a shell that forks, as the kernel takes the memory of its starter for a process's own peak.
        return self._start(["sh", "-c", '"$@"; exit $?', "sh"], arguments, inside).end(seconds)

    def start(
        self,
        *arguments: object,
        inside: str | None = None,
        refused: Mapping[str, str] | None = None,
        through: Sequence[str] = (),
    ) -> Running:
        """Starts it, inside a network namespace where one is named.

        refused: system calls that fail, each with the name of its errno. through: a command that runs it.
        """
        return self._start([*through, *(sandbox.refusing(refused) if refused else [])], arguments, inside)

    def _start(self, through: list[str], arguments: Sequence[object], inside: str | None) -> Running:
        enter = ["ip", "netns", "exec", inside] if inside else []
        command = [*enter, *through, sys.executable, "-m", "flatout", *map(str, arguments)]
        running = Running(command, self.folder)
        self._running.append(running)
        return running

    def close(self) -> None:
        """Ends what still runs."""
        for running in self._running:
            running.kill()


def run_here(arguments: list[str], folder: Path) -> Ran:
    """Runs the command line's entry in this process and gives back what a process would have left."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with _signals_kept(), contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(arguments)
            code: Any = 0
        except SystemExit as end:
            code = end.code
        except Exception:
            # As the interpreter ends a process.
            traceback.print_exc()
            code = 1
    if code == 130:
        # Commands run here are not interrupted by tests, so someone wants the test run to end.
        raise KeyboardInterrupt
    assert isinstance(code, int), f"ended with {code!r}"
    return Ran(code, *(stream.buffer.getvalue().decode() for stream in (out, err)))  # type: ignore[attr-defined]


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Signal handlers that a command installs are gone after it."""
    kept = {number: signal.getsignal(number) for number in _HANDLED}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
