"""Where runs are kept: `FLATOUT_STORE`, or SQLite in the user's data folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from flatout.errors import UsageError

VARIABLE = "FLATOUT_STORE"
# What turns keeping off.
OFF = "off"
_POSTGRESQL = ("postgresql://", "postgres://", "postgresql+psycopg://")
_SQLITE = "sqlite:///"


def store_url(environment: Mapping[str, str] = os.environ) -> str | None:
    """The database's URL, as SQLAlchemy takes it; None: nothing is kept.

    `environment`: its `FLATOUT_STORE` is `off`, `postgresql://…`, `sqlite:///PATH` or the path of a file; default:
    `flatout/runs.db` in `XDG_DATA_HOME` (XDG Base Directory Specification). Errors: UsageError for other URLs.
    """
    given = environment.get(VARIABLE, "").strip()
    if given == OFF:
        return None
    if not given:
        home = environment.get("XDG_DATA_HOME") or os.path.join(environment.get("HOME") or "~", ".local", "share")
        return f"{_SQLITE}{Path(home, 'flatout', 'runs.db').expanduser()}"
    for beginning in _POSTGRESQL:
        if given.startswith(beginning):
            return f"postgresql+psycopg://{given.removeprefix(beginning)}"
    if given.startswith(_SQLITE):
        return given
    if "://" in given:
        raise UsageError(f"{VARIABLE}='{given}': give postgresql://USER@HOST/DATABASE, the path of a file, or '{OFF}'")
    return f"{_SQLITE}{Path(given).expanduser().absolute()}"


def sqlite_path(url: str) -> Path | None:
    """The file of an SQLite database; None for another database."""
    return Path(url.removeprefix(_SQLITE)) if url.startswith(_SQLITE) else None
