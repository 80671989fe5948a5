"""What is used of a quota, kept over restarts in a file: bytes in each of the last periods, as JSON."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping

from flatout.errors import UsageError

# A clock that is set over the end of a period and back finds what the period before had used.
_PERIODS = 4
# Bytes, and Unix time in s: no file of ours has more.
_MOST = 2.0**62


class Usage:
    """The file, or none. Errors: UsageError where its folder is not there."""

    def __init__(self, path: str | None) -> None:
        self._path = None if path is None else os.path.realpath(path)
        self._trouble: dict[str, str] = {}
        if self._path is not None and not os.path.isdir(os.path.dirname(self._path)):
            raise UsageError(f"usage file '{path}': there is no folder {os.path.dirname(self._path)}")

    @property
    def notes(self) -> list[str]:
        """Why it could not be read, or not be written the last time."""
        return list(self._trouble.values())

    def read(self) -> dict[float, int]:
        """Bytes used, by when the period began (Unix time). A file that cannot be read is noted, and holds nothing."""
        if self._path is None:
            return {}
        try:
            with open(self._path, encoding="ascii") as file:
                periods = json.load(file)["periods"]
            return {_bounded(begin): int(_bounded(used)) for begin, used in periods.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            self._trouble["read"] = f"the usage file '{self._path}' cannot be read, so nothing counts as used: {error}"
            return {}

    def write(self, used: Mapping[float, int]) -> None:
        """Replaces the file as a whole; that it cannot be written is noted, and no reason to stop."""
        if self._path is None:
            return
        kept = {repr(begin): used[begin] for begin in latest(used)}
        draft = f"{self._path}.new"
        try:
            with open(draft, "w", encoding="ascii") as file:
                json.dump({"periods": kept}, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, self._path)
        except OSError as error:
            why = error.strerror or error
            self._trouble["write"] = f"the usage file '{self._path}' cannot be written: {why}"
        else:
            self._trouble.clear()

    def enter(self, root: str) -> None:
        """The root directory is about to change. Errors: UsageError for a file outside of it."""
        if self._path is None:
            return
        inside = os.path.relpath(self._path, os.path.realpath(root))
        if inside.startswith(".."):
            raise UsageError(f"usage file '{self._path}' is not inside the new root directory '{root}'")
        self._path = os.path.join("/", inside)


def latest(used: Mapping[float, int]) -> list[float]:
    """When the last periods began that are worth keeping."""
    return sorted(used)[-_PERIODS:]


def _bounded(value: object) -> float:
    number = float(str(value))
    if not math.isfinite(number) or not 0 <= number <= _MOST:
        raise ValueError(f"{value!r} is neither bytes nor a time")
    return number
