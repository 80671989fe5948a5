"""Opens the store that is meant: the one named, or that of the environment."""

from __future__ import annotations

import os

from flatout.errors import UsageError
from flatout.store.location import VARIABLE, store_url
from flatout.store.store import Store


def open_store(where: str | None = None) -> Store:
    """Opens a store of kept runs, which is made where there is none; use it as a context manager.

    `where`: the path of an SQLite file, or postgresql://USER@HOST/DATABASE; default: what `FLATOUT_STORE` says, else
    the file in the user's data folder. Errors: UsageError for another URL, where `FLATOUT_STORE` is off, and for a
    store that a newer flatout wrote; OutputError where it cannot be opened.
    """
    url = store_url(os.environ if where is None else {VARIABLE: where})
    if url is None:
        raise UsageError(f"{VARIABLE}=off: nothing is kept")
    return Store(url)
