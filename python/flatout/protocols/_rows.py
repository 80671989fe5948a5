"""Rows for messages out of a file: `.npy` or CSV, each row as hexadecimal digits."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np

from flatout.errors import UsageError
from flatout.protocols._layout import Layout

_MOST_BYTES = 64 << 20


def lines(layout: Layout, path: str) -> list[str]:
    """A line for each row. Errors: UsageError."""
    try:
        rows = _load(path, layout) if path.endswith(".npy") else _read_csv(path, layout)
    except OSError as error:
        raise UsageError(f"the values in '{path}' cannot be read: {error.strerror or error}") from error
    if rows.nbytes > _MOST_BYTES or not len(rows):
        raise UsageError(
            f"'{path}' holds {len(rows):,} rows: at least one, and no more than 64 MiB of them, can be sent"
        )
    return [bytes(row).hex() for row in rows.view(np.uint8).reshape(len(rows), layout.size)]


def _load(path: str, layout: Layout) -> np.ndarray[Any, Any]:
    try:
        rows = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise UsageError(f"'{path}' is no array that NumPy can load: {error}") from error
    if rows.dtype.itemsize != layout.size or rows.dtype.newbyteorder("<") != layout.dtype.newbyteorder("<"):
        raise UsageError(f"'{path}' holds rows of {rows.dtype}, not of the format: {layout.dtype}")
    return _blank(layout, rows.reshape(-1))


def _blank(layout: Layout, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Copies what messages take from rows, with the constants in place and nothing in between."""
    made: np.ndarray[Any, Any] = np.zeros(len(rows), layout.dtype)
    for field in layout.fields:
        if field.value is None:
            made[field.name] = rows[field.name]
        elif isinstance(field.value, int | float | bytes):
            made[field.name] = field.value
    return made


def _read_csv(path: str, layout: Layout) -> np.ndarray[Any, Any]:
    known = {field.name: field for field in layout.fields}
    with Path(path).open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        names = [name.strip() for name in next(reader, [])]
        strange = [name for name in names if name not in known]
        if strange or not names:
            raise UsageError(
                f"'{path}' begins with {', '.join(strange) or 'nothing'}: its first line names fields of the format, "
                f"which has {', '.join(known)}"
            )
        cells = [row for row in reader if row]
    rows = np.zeros(len(cells), layout.dtype)
    for at, name in enumerate(names):
        try:
            rows[name] = [_cell(known[name].code, row[at]) for row in cells]
        except (ValueError, OverflowError, IndexError) as error:
            raise UsageError(f"'{path}', column {name}: {error}") from error
    return _blank(layout, rows)


def _cell(code: str, text: str) -> Any:
    text = text.strip()
    if code[0] in "fc":
        return complex(text) if code[0] == "c" else float(text)
    return int(text, 0) if code[0] in "uib" else text
