"""Layouts and NumPy dtypes, both ways. Imports NumPy, so it is itself imported only where one is needed."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from flatout.errors import UsageError
from flatout.protocols.record.roles import (
    Field,
    check_shape,
    code_swaps,
    is_code,
    is_name,
    role_text,
    value_text,
    with_role,
    with_value,
)


def dtype_of(fields: Sequence[Field], size: int) -> np.dtype[Any]:
    """The dtype with exactly these offsets and so many bytes; what names do not imply is in the fields' metadata."""
    formats = [_field_dtype(field) for field in fields]
    return np.dtype(
        {
            "names": [field.name for field in fields],
            "formats": formats,
            "offsets": [field.offset for field in fields],
            "itemsize": size,
        }
    )


def _field_dtype(field: Field) -> np.dtype[Any]:
    order = (">" if field.big else "<") if code_swaps(field.code) else "|"
    base = np.dtype(f"{order}{field.code}")
    reported = {"role": role_text(field), "value": value_text(field.value)}
    reported = {key: word for key, word in reported.items() if word}
    if reported:
        base = np.dtype(base, metadata=reported)
    return np.dtype((base, field.shape)) if field.shape else base


def read_dtype(given: Any) -> tuple[list[Field], set[str], np.dtype[Any]]:
    """The fields of a structured dtype, the names of those that say their role, and it itself. Errors: UsageError."""
    try:
        dtype = np.dtype(given)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{given!r} is no dtype: {error}") from error
    if dtype.names is None or dtype.fields is None:
        raise UsageError(f"dtype {dtype} has no fields: name them, as in np.dtype([('id', '<u4'), ('x', '<f4')])")
    if dtype.hasobject:
        raise UsageError(f"dtype {dtype} holds Python objects, which have no bytes to send")
    fields: list[Field] = []
    explicit: set[str] = set()
    for name in dtype.names:
        kind, offset = dtype.fields[name][:2]
        field, reported = _read_field(name, kind, offset)
        if field is None:
            continue
        if reported:
            explicit.add(name)
        fields.append(field)
    fields.sort(key=lambda field: field.offset)
    for before, after in itertools.pairwise(fields):
        if before.offset + before.size > after.offset:
            raise UsageError(f"fields '{before.name}' and '{after.name}' overlap: give each byte to one field")
    return fields, explicit, dtype


def _read_field(name: str, kind: np.dtype[Any], offset: int) -> tuple[Field | None, bool]:
    """A field (none where it has no bytes), and whether it was told what it is for."""
    base, shape = kind.base, kind.shape
    if not kind.itemsize:
        return None, False
    if not is_name(name):
        raise UsageError(f"field '{name}': a name has no spaces and none of , : @ = ( ) < >")
    check_shape(name, shape)
    code = base.str[1:]
    # Structures within, and types that only NumPy has, are so many bytes.
    code = code if base.names is None and is_code(code) else f"V{base.itemsize}"
    field = Field(name, code, offset, code_swaps(code) and base.str[0] == ">", shape)
    reported = dict(base.metadata or {})
    if "value" in reported:
        return with_value(field, str(reported["value"])), True
    if "role" in reported:
        return with_role(field, str(reported["role"])), True
    return field, False
