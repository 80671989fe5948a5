"""Asks a source for the state that a server answers from, each second, in a thread of its own, and tells the engine.

A source that fails leaves the last state: how long that holds is in the state itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from flatout.protocols.base import StateSource

_STOP_S = 2.0


class StatePoller:
    """The thread; it begins at once."""

    def __init__(self, source: StateSource, tell: Callable[[list[int]], None]) -> None:
        self._source = source
        self._tell = tell
        self._stop = threading.Event()
        self._asked = self._told = self._failed = 0
        self._why: str | None = None
        self._told_at: float | None = None
        # A daemon: a question that waits never holds up the end of the program.
        self._thread = threading.Thread(target=self._run, name="flatout-state", daemon=True)
        if source.interval_s is None:
            self.once()
        else:
            self._thread.start()

    def once(self) -> None:
        """Asks, and tells what was learnt."""
        self._asked += 1
        try:
            self._tell(self._source.poll())
        except Exception as error:
            # Whatever it is: the thread must live, or the state is never replaced again.
            self._failed += 1
            self._why = f"{self._source.describe().get('source', 'the source')}: {error}"
        else:
            self._told += 1
            self._why, self._told_at = None, time.monotonic()

    def _run(self) -> None:
        while not self._stop.is_set():
            self.once()
            self._stop.wait(self._source.interval_s)
        self._source.close()

    def stats(self) -> dict[str, Any]:
        """How often it asked, how often that failed, and the last state."""
        return {
            "asked": self._asked,
            "told": self._told,
            "failed": self._failed,
            "why": self._why,
            "age_s": None if self._told_at is None else round(time.monotonic() - self._told_at, 3),
            **self._source.describe(),
        }

    def stop(self) -> None:
        """Ends the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)
