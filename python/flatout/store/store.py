"""The store: adds, lists, reads and removes runs. Several processes may do so at once."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import msgspec
import sqlalchemy as sql

from flatout.errors import FlatoutError, OutputError, UsageError
from flatout.result.files import from_json, to_json
from flatout.result.model import Result
from flatout.store import migrate, sqlite
from flatout.store.location import sqlite_path
from flatout.store.rows import StoredRun, row_of
from flatout.store.tables import RESULTS, RUNS

# The highest number of a run: that of the column, in any database.
_HIGHEST = 2**31 - 1
_COLUMNS = [RUNS.c[name] for name in StoredRun.__struct_fields__]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs: all that are given must fit; `since` is Unix time in s."""

    kind: str | None = None
    label: str | None = None
    protocol: str | None = None
    target: str | None = None
    exchange: str | None = None
    hostname: str | None = None
    since: float | None = None
    before: float | None = None


class Store:
    """An open store; use it as a context manager.

    Errors of all methods: OutputError where the database cannot be reached, read or written.
    """

    def __init__(self, url: str) -> None:
        """`url`: as `store_url` gives it. An absent SQLite file is made. Errors: UsageError for a newer store."""
        self._file = sqlite_path(url)
        self._where = str(self._file or sql.make_url(url).render_as_string(hide_password=True))
        self._engine = _engine(url)
        try:
            with self._said("opened"):
                migrate.bring_up(self._engine)
        except BaseException:
            self._engine.dispose()
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes its connections."""
        self._engine.dispose()

    def add(self, result: Result, label: str = "") -> int:
        """Keeps a result under a label, whole or not at all; returns its number."""
        row, data = row_of(result, label), zlib.compress(to_json(result), 6)
        with self._said("written"), self._engine.begin() as connection:
            made = connection.execute(RUNS.insert().values(**row)).inserted_primary_key
            assert made is not None
            number = int(made[0])
            connection.execute(RESULTS.insert().values(run=number, result=data))
        return number

    def runs(self, wanted: Wanted | None = None, last: int | None = None) -> list[StoredRun]:
        """The runs, the newest first; at most the `last` ones."""
        query = sql.select(*_COLUMNS).where(*_conditions(wanted or Wanted())).order_by(RUNS.c.id.desc()).limit(last)
        return self._listed(query)

    def numbered(self, numbers: Sequence[int]) -> list[StoredRun]:
        """The runs of these numbers, in this order. Errors: UsageError where there is no such run."""
        possible = [number for number in numbers if number <= _HIGHEST]
        found = {run.id: run for run in self._listed(sql.select(*_COLUMNS).where(RUNS.c.id.in_(possible)))}
        for number in numbers:
            if number not in found:
                raise UsageError(f"there is no run {number} in {self._where}: see `flatout runs list`")
        return [found[number] for number in numbers]

    def _listed(self, query: sql.Select[Any]) -> list[StoredRun]:
        with self._said("read"), self._engine.connect() as connection:
            return [StoredRun(**row) for row in connection.execute(query).mappings()]

    def result(self, number: int) -> Result:
        """The whole result of a run. Errors: UsageError where there is no such run."""
        with self._said("read"), self._engine.connect() as connection:
            chosen = RESULTS.c.run == min(number, _HIGHEST)
            data = connection.execute(sql.select(RESULTS.c.result).where(chosen)).scalar()
        if data is None:
            raise UsageError(f"there is no run {number} in {self._where}: see `flatout runs list`")
        try:
            return from_json(zlib.decompress(data))
        except zlib.error as error:
            raise OutputError(f"run {number} in {self._where} is damaged: {error}") from error

    def remove(self, numbers: Iterable[int]) -> int:
        """Removes runs for good; returns how many there were."""
        with self._said("written"), self._engine.begin() as connection:
            chosen = list(numbers)
            connection.execute(RESULTS.delete().where(RESULTS.c.run.in_(chosen)))
            return connection.execute(RUNS.delete().where(RUNS.c.id.in_(chosen))).rowcount

    @contextmanager
    def _said(self, done: str) -> Iterator[None]:
        """Turns the database's errors into ours."""
        try:
            yield
        except FlatoutError:
            raise
        except (sql.exc.SQLAlchemyError, OSError) as error:
            text = str(getattr(error, "orig", None) or getattr(error, "strerror", None) or error).strip()
            cause = text.split("\n")[0]
            if self._file is not None:
                cause = sqlite.cause(self._file, cause)
            raise OutputError(f"the store {self._where} cannot be {done}: {cause}") from error


def _conditions(wanted: Wanted) -> list[sql.ColumnElement[bool]]:
    equal = ("kind", "label", "protocol", "target", "exchange", "hostname")
    conditions = [RUNS.c[name] == value for name in equal if (value := getattr(wanted, name)) is not None]
    if wanted.since is not None:
        conditions.append(RUNS.c.started_at >= wanted.since)
    if wanted.before is not None:
        conditions.append(RUNS.c.started_at < wanted.before)
    return conditions


def _engine(url: str) -> sql.Engine:
    path = sqlite_path(url)
    if path is not None:
        return sqlite.engine_of(path)
    try:
        return sql.create_engine(url, connect_args={"connect_timeout": int(sqlite.BUSY_S)})
    except ModuleNotFoundError as error:
        raise UsageError("PostgreSQL needs the extra: pip install 'flatout[postgresql]'") from error
