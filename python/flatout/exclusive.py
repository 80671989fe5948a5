"""Holds an open file or folder against other processes (flock(2)); the kernel lets go of it with its holder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

from flatout.errors import UsageError


@contextlib.contextmanager
def exclusive(handle: int, busy: str) -> Iterator[None]:
    """Holds what is open while the block runs, then closes it. Errors: UsageError with `busy` where another does."""
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A holder that ended between opening and locking may have removed the name: a lock without one is none.
            if os.fstat(handle).st_nlink == 0:
                raise BlockingIOError
        except BlockingIOError as error:
            raise UsageError(busy) from error
        yield
    finally:
        os.close(handle)
