"""The folder of an experiment: what it is, which runs have ended, and their files. It is the journal of resumption.

A run has ended once its `run.json` is there, which is written whole and after all else of the run. What a crash leaves
of a run without it is removed when the run is made again.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from flatout.errors import OutputError, UsageError
from flatout.exclusive import exclusive
from flatout.experiments.model import Experiment
from flatout.host.describe import VERSION, describe
from flatout.result import files
from flatout.result.experiment import ExperimentRun
from flatout.result.model import SCHEMA, Host

RESULT = "result.json"
# What the host's settings were; there only while they are changed.
HOST_JOURNAL = "host.json"
_IDENTITY, _RUN, _LOCK = "experiment.json", "run.json", "lock"


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Which experiment a folder is of. `asked`: the experiment as it was when it began."""

    schema: str = SCHEMA
    kind: Literal["experiment-folder"] = "experiment-folder"
    id: str
    flatout: str
    host: Host
    started_at: str
    asked: dict[str, Any]


class Folder:
    """An experiment's folder. Errors of all methods: OutputError where it cannot be written or read."""

    def __init__(self, path: Path, identity: Identity) -> None:
        """Use `opened` or `found`."""
        self.path, self.identity = path, identity

    def run_folder(self, point: int, repetition: int) -> Path:
        """Where the files of a run are."""
        return self.path / f"point{point:03}-run{repetition}"

    def fresh(self, point: int, repetition: int) -> Path:
        """The folder of a run that begins, empty."""
        path = self.run_folder(point, repetition)
        with _said(self.path, "written"):
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(parents=True)
        return path

    def write(self, run: ExperimentRun) -> None:
        """Keeps a run that has ended."""
        files.write(self.path / run.folder / _RUN, files.to_json(run))

    def runs(self) -> list[ExperimentRun]:
        """All that have ended, by point and repetition."""
        found = []
        for path in sorted(self.path.glob(f"point*-run*/{_RUN}")):
            with _said(self.path, "read"):
                try:
                    found.append(msgspec.json.decode(path.read_bytes(), type=ExperimentRun))
                except msgspec.DecodeError as error:
                    raise OutputError(f"'{path}' was changed since flatout wrote it: {error}") from error
        return sorted(found, key=lambda run: (run.repetition, run.point))


@contextlib.contextmanager
def opened(path: Path, experiment: Experiment, *, restart: bool) -> Iterator[Folder]:
    """The folder for the runs of an experiment, made where there is none, and held against others.

    `restart`: what is there is moved aside, to a name with a number. Errors: UsageError for the folder of another
    experiment, or of one that has changed since; OutputError.
    """
    with _said(path, "written"):
        path.mkdir(parents=True, exist_ok=True)
    with _held(path):
        if restart and (path / _IDENTITY).exists():
            _move_aside(path)
        asked = _builtins(experiment)
        known = _identity(path)
        if known is None:
            if any(path.glob("point*-run*")):
                raise UsageError(f"the folder '{path}' has runs of no known experiment: name another one with --folder")
            known = Identity(id=uuid.uuid4().hex[:12], flatout=VERSION, host=describe(), started_at=_now(), asked=asked)
            files.write(path / _IDENTITY, files.to_json(known))
        elif changed := _changed(known.asked, asked):
            raise UsageError(
                f"the experiment has changed since its runs in '{path}': {'; '.join(changed[:5])}. Change it back, or "
                "begin anew with --restart (the runs so far are moved aside), or elsewhere with --folder"
            )
        yield Folder(path, known)


def found(path: Path) -> Folder:
    """The folder of an experiment that was begun. Errors: UsageError where there is none."""
    known = _identity(path)
    if known is None:
        raise UsageError(f"there are no runs in '{path}': make them with 'flatout experiment run'")
    return Folder(path, known)


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    with _said(path, "written"):
        handle = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    with exclusive(handle, f"another flatout is at this experiment, in '{path}': wait for its end"):
        yield


def _identity(path: Path) -> Identity | None:
    try:
        return msgspec.json.decode((path / _IDENTITY).read_bytes(), type=Identity)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputError(f"'{path}' cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise UsageError(f"'{path / _IDENTITY}' was changed since flatout wrote it: {error}") from error


def _move_aside(path: Path) -> None:
    """Moves what is in a folder into one beside it; the lock stays."""
    number = next(n for n in range(1, 1_000_000) if not path.with_name(f"{path.name}.{n}").exists())
    aside = path.with_name(f"{path.name}.{number}")
    with _said(path, "moved aside"):
        aside.mkdir()
        for entry in sorted(path.iterdir()):
            if entry.name not in (_LOCK, HOST_JOURNAL):
                entry.rename(aside / entry.name)


def _builtins(experiment: Experiment) -> dict[str, Any]:
    """The experiment as JSON has it."""
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(experiment))
    return found


def _changed(before: Any, now: Any, name: str = "") -> list[str]:
    """What differs, in words; the order of the grid's keys is that of the runs."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return [] if before == now else [f"{name}: {before!r} → {now!r}"]
    keys = [*before, *(key for key in now if key not in before)]
    reordered = name == "grid" and set(before) == set(now) and list(before) != list(now)
    found = [f"{name}: another order"] if reordered else []
    for key in keys:
        found += _changed(before.get(key), now.get(key), f"{name}.{key}" if name else str(key))
    return found


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@contextlib.contextmanager
def _said(path: Path, done: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"'{path}' cannot be {done}: {error.strerror or error}") from error
