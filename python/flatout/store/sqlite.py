"""SQLite's side of the store: how the file is opened, also on a disk that cannot be written."""

from __future__ import annotations

import os
import sqlite3
import urllib.parse
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sql

from flatout.errors import OutputError

# How long a writer waits for another one, s.
BUSY_S = 10.0
# What a connection needs besides the rows: the index of the write-ahead log.
_LEAST_FREE = 64 * 1024


def engine_of(path: Path) -> sql.Engine:
    """Connections to an SQLite file, whose folder is made. Errors: OutputError."""
    _make_folder(path)
    if _must_not_change(path):
        # Each time anew: where others do write, what they wrote is seen.
        return sql.create_engine("sqlite://", creator=partial(_unchanged, path), poolclass=sql.pool.NullPool)
    engine = sql.create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_S})
    sql.event.listen(engine, "connect", _set_up)
    sql.event.listen(engine, "begin", _begin)
    return engine


def cause(path: Path, reported: str) -> str:
    """Why something failed, in words: SQLite says "disk I/O error" where its log finds no room."""
    if "disk I/O error" not in reported:
        return reported
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return reported
    return "the disk is full" if disk.f_bavail * disk.f_frsize < _LEAST_FREE else reported


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise OutputError(f"the store {path} cannot be opened: {error.strerror}") from error


def _must_not_change(path: Path) -> bool:
    """Whether there is a file here that cannot be written, and no log beside it that would have to be read too."""
    if not path.is_file() or all(os.access(each, os.W_OK) for each in (path.parent, path)):
        return False
    log = path.with_name(f"{path.name}-wal")
    return not (log.exists() and log.stat().st_size)


def _unchanged(path: Path) -> sqlite3.Connection:
    """A connection that makes no log, which such a disk has no place for (sqlite.org/wal.html, read-only databases)."""
    where = f"file:{urllib.parse.quote(str(path))}?immutable=1"
    return sqlite3.connect(where, uri=True, timeout=BUSY_S, check_same_thread=False)


def _set_up(connection: Any, _record: Any) -> None:
    """Transactions are ours; readers do not wait for a writer; a commit has reached the disk (sqlite.org/wal.html)."""
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys=ON")
    # Refused on a read-only disk, where reading goes without.
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
    except Exception as error:
        if "readonly" not in str(error):
            raise


def _begin(connection: sql.Connection) -> None:
    """A transaction that reads before it writes takes the right to write first: of two, one would fail later."""
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("immediate") else "BEGIN")
