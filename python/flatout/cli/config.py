"""Flags from a TOML file: its keys are the flags' names, in tables of any name or in none."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

from flatout import text_files
from flatout.errors import UsageError


def with_file(path: str | None, groups: tuple[Any, ...]) -> tuple[Any, ...]:
    """The groups of flags (dataclasses) with the values of the file where the command line gave none.

    Errors: UsageError for a file that cannot be read, a key that is no flag, a value that does not fit it.
    """
    if path is None:
        return groups
    values = dict(_values(path, _read(path)))
    filled = []
    for flags in groups:
        hints, usual = get_type_hints(type(flags)), type(flags)()
        known = {option.name: option.name.rstrip("_") for option in dataclasses.fields(flags)}
        changes = {}
        for name, key in known.items():
            if key in values:
                value = _fitting(path, key, values.pop(key), hints[name])
                if getattr(flags, name) == getattr(usual, name):
                    changes[name] = value
        filled.append(dataclasses.replace(flags, **changes))
    if values:
        raise UsageError(f"{path}: '{min(values)}' is no flag of this command")
    return tuple(filled)


def _read(path: str) -> Mapping[str, Any]:
    text = text_files.read(path, f"the configuration '{path}'")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is no TOML: {error}") from error


def _values(path: str, table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    seen: set[str] = set()
    for key, value in _flat(table):
        name = key.replace("-", "_")
        if name in seen:
            raise UsageError(f"{path}: '{key}' is there twice")
        seen.add(name)
        yield name, value


def _flat(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from value.items()
        else:
            yield key, value


def _fitting(path: str, key: str, value: Any, hint: Any) -> Any:
    """The value as the flag takes it. Errors: UsageError."""
    kinds = [kind for kind in get_args(hint) if kind is not type(None)] if _is_union(hint) else [hint]
    for kind in kinds:
        if get_origin(kind) is Literal and value in get_args(kind):
            return value
        if get_origin(kind) is list and isinstance(value, str | list):
            texts = [value] if isinstance(value, str) else value
            if all(isinstance(text, str) for text in texts):
                return list(texts)
        if kind is bool and isinstance(value, bool):
            return value
        if kind is int and isinstance(value, int) and not isinstance(value, bool):
            return value
        if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if kind is str and isinstance(value, str | int | float) and not isinstance(value, bool):
            return str(value)
    raise UsageError(f"{path}: {key} = {value!r} does not fit --{key.replace('_', '-')}")


def _is_union(hint: Any) -> bool:
    return type(None) in get_args(hint) and get_origin(hint) is not Literal
