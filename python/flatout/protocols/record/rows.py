"""Rows for messages out of a file: `.npy` or CSV, each row as hexadecimal digits.

Method: what a row gives is taken for the fields that have no value of their own; the engine writes over the rest.
"""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np

from flatout import text_files
from flatout.errors import UsageError
from flatout.protocols.record.layout import Layout
from flatout.protocols.record.roles import Field, read_number

_MOST_BYTES = 64 << 20
_Rows = np.ndarray[Any, np.dtype[Any]]


def lines(layout: Layout, path: str) -> list[str]:
    """A line for each row. Errors: UsageError."""
    try:
        rows = _load(path, layout) if path.endswith(".npy") else _read_csv(path, layout)
    except OSError as error:
        raise UsageError(f"the values in '{path}' cannot be read: {error.strerror or error}") from error
    if not 0 < rows.nbytes <= _MOST_BYTES:
        raise UsageError(f"'{path}' holds {len(rows):,} rows: give at least one, and no more than 64 MiB of them")
    return [row.tobytes().hex() for row in rows]


def _load(path: str, layout: Layout) -> _Rows:
    try:
        rows = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise UsageError(f"'{path}' is no array that NumPy can load: {error}") from error
    if rows.dtype.newbyteorder("<") != layout.dtype.newbyteorder("<"):
        raise UsageError(f"'{path}' holds rows of {rows.dtype}, not of the format '{layout.text}'")
    return _filled(layout, rows.reshape(-1))


def _filled(layout: Layout, given: _Rows) -> _Rows:
    """Rows of the layout: the fields given, constants in their place, and zeros between."""
    rows: _Rows = np.zeros(len(given), layout.dtype)
    for field in layout.fields:
        if field.value is None:
            rows[field.name] = given[field.name]
        elif isinstance(field.value, int | float | bytes):
            rows[field.name] = field.value
    return rows


def _read_csv(path: str, layout: Layout) -> _Rows:
    text = text_files.read(path, f"'{path}'")
    try:
        names, *table = [row for row in csv.reader(io.StringIO(text, newline="")) if row] or [[]]
    except (ValueError, csv.Error) as error:
        raise UsageError(f"'{path}' is neither .npy nor CSV: {error}") from error
    known = {field.name: field for field in layout.fields}
    names = [name.strip() for name in names]
    strange = [name for name in names if name not in known] or [name for name in names if names.count(name) > 1]
    if strange or not names:
        said = f"'{strange[0]}'" if strange else "nothing"
        raise UsageError(f"'{path}' begins with {said}: its first line names fields, each once, of {', '.join(known)}")
    rows: _Rows = np.zeros(len(table), layout.dtype)
    for number, cells in enumerate(table):
        if len(cells) != len(names):
            raise UsageError(f"'{path}', row {number + 1}: {len(cells)} values for {len(names)} fields")
        for name, text in zip(names, cells, strict=True):
            rows[number][name] = _cell(path, number, known[name], text.strip())
    return _filled(layout, rows)


def _cell(path: str, number: int, field: Field, text: str) -> Any:
    kind = field.code[0]
    try:
        value: Any = bytes.fromhex(text.removeprefix("0x")) if kind == "V" else text.encode() if kind == "S" else text
    except ValueError:
        value = None
    if kind in "SV":
        fits = value is not None and len(value) <= field.width
    else:
        value = read_number(field, text) if kind in "uifb" else None
        fits = value is not None
    if field.shape or not fits:
        raise UsageError(f"'{path}', row {number + 1}, column {field.name}: '{text}' is no {field.type_text}")
    return value
