"""A start that is told while the run waits for it, with its connections open: several hosts begin together so."""

from __future__ import annotations

import threading

from flatout._engine import LoadRun


class HeldStart:
    """Passes the start on to the engine, from whatever thread it is told in."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: LoadRun | None = None
        self._unix_ns: int | None = None

    def attach(self, running: LoadRun) -> None:
        """Names the run that waits; one that follows, to another address of the target, takes its place."""
        with self._lock:
            self._running = running
            if self._unix_ns is not None:
                running.start_at(self._unix_ns)

    def tell(self, unix_ns: int) -> None:
        """The start, Unix time of this host in ns; what is told first counts."""
        with self._lock:
            if self._unix_ns is None:
                self._unix_ns = unix_ns
                if self._running is not None:
                    self._running.start_at(unix_ns)
