"""Experiment files: TOML → Experiment, strictly. An error names the key and its line."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from flatout import arguments, text_files
from flatout.errors import UsageError
from flatout.experiments.key_lines import Key, key_lines, line_of
from flatout.experiments.model import Experiment, HostSettings, ServerUnderTest

_TABLES: dict[Key, type[msgspec.Struct]] = {(): Experiment, ("server",): ServerUnderTest, ("host",): HostSettings}


class Source(NamedTuple):
    """Where an experiment comes from: what errors begin with, the lines of its keys, and where its files are."""

    name: str
    lines: Mapping[Key, int]
    folder: Path

    def refuse(self, key: Key, reason: str) -> UsageError:
        """The error for a key's value."""
        line = line_of(dict(self.lines), key)
        where = self.name if line is None else f"{self.name}, line {line}"
        return UsageError(f"{where}: {'.'.join(key)}: {reason}" if key else f"{where}: {reason}")


def read(path: str | os.PathLike[str]) -> tuple[Experiment, Source]:
    """An experiment from its file. Errors: UsageError."""
    name = arguments.path("path", path)
    text = text_files.read(name, f"the experiment '{name}'")
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{name} is no TOML: {error}") from error
    source = Source(name, key_lines(text), Path(name).absolute().parent)
    experiment = _converted(table, source)
    return msgspec.structs.replace(experiment, name=experiment.name or Path(name).stem), source


def checked(experiment: Experiment) -> tuple[Experiment, Source]:
    """An experiment made in Python, with the types checked. Errors: UsageError."""
    source = Source("the experiment", {}, Path.cwd())
    try:
        table = msgspec.to_builtins(experiment)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{source.name}: {error}") from error
    converted = _converted(table, source)
    return msgspec.structs.replace(converted, name=converted.name or "experiment"), source


def _converted(table: Any, source: Source) -> Experiment:
    try:
        experiment = msgspec.convert(table, Experiment)
    except msgspec.ValidationError as error:
        raise _said(str(error), source) from error
    if not experiment.name.isprintable() or "/" in experiment.name:
        raise source.refuse(("name",), f"{experiment.name!r}: give a name without slashes and control characters")
    if not 1 <= experiment.repetitions <= 10_000:
        raise source.refuse(("repetitions",), f"{experiment.repetitions}: give 1 to 10,000")
    return experiment


def _said(text: str, source: Source) -> UsageError:
    """An error of the types in our words: "Expected `int`, got `str` - at `$.server.port`"."""
    what, _, where = text.partition(" - at `$")
    table: Key = tuple(part for part in re.split(r"[.\[\]`]+", where) if part and not part.isdecimal())
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", what)
    if unknown:
        kind = _TABLES.get(table)
        known = ", ".join(kind.__struct_fields__) if kind else ""
        return source.refuse((*table, unknown[1]), f"there is no such key; there are {known}")
    missing = re.fullmatch(r"Object missing required field `(.*)`", what)
    if missing:
        return source.refuse(table, f"the key '{missing[1]}' is missing")
    return source.refuse(table, what.replace("`", "").replace("Expected", "expected"))
