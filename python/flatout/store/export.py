"""The rows of kept runs for other programs: CSV, Parquet, a DataFrame."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from flatout.errors import UsageError
from flatout.result.files import write
from flatout.store.rows import StoredRun

FORMATS = (".csv", ".parquet")


def export(runs: Sequence[StoredRun], path: str) -> None:
    """Writes the rows to a file, by its ending. Errors: UsageError for another one, OutputError."""
    write(path, encoded(runs, path))


def encoded(runs: Sequence[StoredRun], path: str) -> bytes:
    """The rows in the form that the file's name asks for. Errors: UsageError."""
    ending = Path(path).suffix.lower()
    if ending == ".csv":
        return to_csv(runs)
    if ending == ".parquet":
        data = io.BytesIO()
        frame(runs).write_parquet(data)
        return data.getvalue()
    raise UsageError(f"'{path}': the name must end in {' or '.join(FORMATS)}")


def to_csv(runs: Sequence[StoredRun]) -> bytes:
    """CSV (RFC 4180) with a line of names; what is unknown is empty."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(StoredRun.__struct_fields__)
    writer.writerows(msgspec.structs.astuple(run) for run in runs)
    return text.getvalue().encode()


def frame(runs: Sequence[StoredRun]) -> Any:
    """A polars.DataFrame, one row a run. Errors: UsageError without the extra."""
    try:
        import polars
    except ModuleNotFoundError as error:
        raise UsageError("data frames and Parquet need the extra: pip install 'flatout[dataframe]'") from error
    types = {int: polars.Int64, str: polars.String, float: polars.Float64, bool: polars.Boolean}
    fields = msgspec.structs.fields(StoredRun)
    schema = {field.name: types[_plain(field.type)] for field in fields}
    return polars.DataFrame([msgspec.structs.astuple(run) for run in runs], schema=schema, orient="row")


def _plain(kind: Any) -> type:
    """`int` of `int | None`."""
    return kind if isinstance(kind, type) else next(one for one in kind.__args__ if one is not type(None))
