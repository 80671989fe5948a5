"""Results as JSON and as files. A file is written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Literal

import msgspec

from flatout import arguments, text_files
from flatout.errors import ArgumentError, OutputError, UsageError
from flatout.result import file_names
from flatout.result.model import SCHEMA, LimitResult, LoadResult, Result


def to_json(result: msgspec.Struct) -> bytes:
    """The result as one JSON object, indented, ending in a newline."""
    try:
        data = msgspec.json.encode(result)
    except UnicodeEncodeError:
        data = msgspec.json.encode(file_names.encoded(msgspec.to_builtins(result)))
    return msgspec.json.format(data, indent=1) + b"\n"


def from_json(data: bytes | str) -> Result:
    """A result from its JSON, in UTF-8. Errors: UsageError for anything else, or another schema."""
    if not isinstance(data, bytes | bytearray | str):
        raise ArgumentError("data", f"={type(data).__name__}: give the JSON of a result, as bytes or text")
    if isinstance(data, str):
        data = data.removeprefix(text_files.MARK)
    else:
        data = text_files.unmarked(bytes(data), "this JSON")
    return _from_json(data)


def _from_json(data: bytes | str) -> Result:
    try:
        head = msgspec.json.decode(data, type=_Head)
        if head.schema != SCHEMA:
            raise UsageError(f"this result says schema '{head.schema}', and this flatout reads '{SCHEMA}'")
        if file_names.may_have_uris(data):
            return msgspec.convert(file_names.decoded(msgspec.json.decode(data)), _KINDS[head.kind])
        return msgspec.json.decode(data, type=_KINDS[head.kind])
    except (msgspec.DecodeError, UnicodeError, RecursionError, ValueError) as error:
        raise UsageError(f"this is no result of flatout: {error}") from error


class _Head(msgspec.Struct):
    schema: str
    kind: Literal["load", "limit"]


_KINDS: dict[str, type[LoadResult | LimitResult]] = {"load": LoadResult, "limit": LimitResult}


def unfold(title: str, result: Result) -> list[tuple[str, Result]]:
    """A result and those kept beside it, each with its title."""
    if not isinstance(result, LimitResult):
        return [(title, result)]
    return [(result.title or title, result), *((other.title, other.result) for other in result.beside)]


def read(path: str | os.PathLike[str]) -> Result:
    """A result from a file. Errors: UsageError."""
    name = arguments.path("path", path)
    try:
        data = Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"'{name}' cannot be read: {error.strerror}") from error
    try:
        return from_json(text_files.unmarked(data, "the file"))
    except UsageError as error:
        raise UsageError(f"'{name}': {error}") from error


def write(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file whole or not at all: on a full disk an older file stays as it was."""
    path = arguments.path("path", path)
    target = Path(path)
    if target.exists() and not target.is_file():
        _write_through(target, data)
        return
    # What a link leads to is replaced, not the link: /dev/stdout is one.
    target = Path(os.path.realpath(target))
    temporary: str | None = None
    try:
        # Not after the target, whose name may be as long as names can be.
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".flatout-", delete=False) as file:
            temporary = file.name
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(target)
    except BaseException as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OutputError(f"'{path}' cannot be written: {error.strerror or error}") from error
        raise


def _write_through(target: Path, data: bytes) -> None:
    """To a pipe or a device, which cannot be replaced."""
    try:
        with target.open("wb") as file:
            file.write(data)
    except OSError as error:
        raise OutputError(f"'{target}' cannot be written: {error.strerror or error}") from error
