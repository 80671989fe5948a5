"""The progress of all hosts as that of one: events that come by the scheduler, added up."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

import msgspec

from flatout.fleet.worker import TOPIC
from flatout.runner.progress import RunProgress

_COUNTS = ("planned", "sent", "unsent", "answered", "late", "refused", "invalid", "duplicate", "lost")
_ORDER = ("connecting", "waiting", "warm-up", "running", "draining", "done")


def added(parts: list[RunProgress], hosts: int) -> RunProgress:
    """The progress of all `hosts`, from the last event of those that have reported some; the phase is the earliest."""
    slowest = min(parts, key=lambda part: _ORDER.index(part.phase))
    connections = [part.connections for part in parts if part.connections is not None]
    received = [part.received for part in parts if part.received is not None]
    opening = any(part.connections_asked for part in parts)
    return msgspec.structs.replace(
        slowest,
        phase=slowest.phase if len(parts) == hosts else "connecting" if opening else "waiting",
        **{name: sum(getattr(part, name) for part in parts) for name in _COUNTS},
        rate_per_s=slowest.rate_per_s,
        connections=sum(connections) if connections else None,
        connections_asked=sum(part.connections_asked or 0 for part in parts) or None,
        received=max(received, default=None),
        latest=None,
        intervals=(),
    )


class FleetProgress:
    """Passes on the sum of all hosts' progress while it is entered."""

    def __init__(self, client: Any, name: str, hosts: int, progress: Callable[[RunProgress], None]) -> None:
        self._client, self._name, self._hosts, self._progress = client, name, hosts, progress
        self._last: dict[str, RunProgress] = {}
        self._lock = threading.Lock()

    def standing(self) -> set[str]:
        """The addresses of the hosts whose connections are open."""
        with self._lock:
            return {address for address, last in self._last.items() if last.phase != "connecting"}

    def __enter__(self) -> None:
        self._client.subscribe_topic(TOPIC, self._take)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(ValueError):
            self._client.unsubscribe_topic(TOPIC)

    def _take(self, event: tuple[float, dict[str, Any]]) -> None:
        _, reported = event
        if reported.get("run") != self._name:
            return
        with self._lock:
            self._last[reported["worker"]] = msgspec.convert(reported["progress"], RunProgress)
            self._progress(added(list(self._last.values()), self._hosts))
