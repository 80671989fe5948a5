"""The progress of all hosts as that of one: events that come by the scheduler, added up."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, NamedTuple

import msgspec

from flatout.fleet.cluster import FleetHost
from flatout.fleet.worker import TOPIC
from flatout.result.merge import added_second
from flatout.result.model import Interval
from flatout.runner.progress import LATENCY_SECONDS, HostProgress, LatencySecond, RunProgress

_COUNTS = ("planned", "sent", "unsent", "answered", "late", "refused", "invalid", "duplicate", "lost")
_ORDER = ("connecting", "waiting", "warm-up", "running", "draining", "done")
# The sum is passed on at most so often: each of many hosts tells something four times a second.
_EVERY_S = 0.1
# Seconds that some host has not ended yet; one whose event went missing is left out.
_PENDING = 10


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


def short_names(hosts: Sequence[FleetHost]) -> dict[str, str]:
    """A name for each address: the host's, with the worker's address where several workers have the same."""
    times = Counter(host.capabilities.hostname for host in hosts)
    return {host.address: _short_name(host, alone=times[host.capabilities.hostname] == 1) for host in hosts}


def _short_name(host: FleetHost, *, alone: bool) -> str:
    hostname = host.capabilities.hostname
    return hostname if alone else f"{hostname} {host.address.partition('://')[2]}"


def host_progress(name: str, part: RunProgress, silent_s: float) -> HostProgress:
    """One host's line."""
    latest = part.latest
    return HostProgress(
        host=name,
        phase=part.phase,
        rate_per_s=None if latest is None else latest.sent / _length_s(latest),
        sent=part.sent,
        answered=part.answered,
        lost=part.lost,
        unsent=part.unsent,
        lateness_p99_ns=latest.lateness_p99 if latest is not None else None,
        connections=part.connections,
        silent_s=round(silent_s, 1),
    )


def _length_s(second: Interval) -> float:
    """The last one may be shorter."""
    return max(second.t_s - math.ceil(second.t_s - 1e-3) + 1, 1e-3)


class Seconds:
    """The seconds of all hosts, added up once each host has ended one."""

    def __init__(self, hosts: int) -> None:
        self._hosts = hosts
        self._pending: dict[int, dict[str, Interval]] = {}
        self._bands: dict[int, Counter[int]] = {}
        self._ended: tuple[Interval, ...] = ()
        self._latency: deque[LatencySecond] = deque(maxlen=LATENCY_SECONDS)

    def add(self, address: str, latest: Interval | None, latency: Sequence[LatencySecond] = ()) -> None:
        """Takes the last second that a host has ended, which may be one that it has told of before."""
        if latest is None:
            return
        second = math.ceil(latest.t_s - 1e-3)
        if self._ended and second <= math.ceil(self._ended[-1].t_s - 1e-3):
            return
        reported = self._pending.setdefault(second, {})
        if address not in reported and latency and latency[-1].t_s == latest.t_s:
            self._bands.setdefault(second, Counter()).update(dict(latency[-1].bands))
        reported[address] = latest
        if len(reported) == self._hosts:
            self._ended += (added_second(list(reported.values())),)
            if bands := self._bands.get(second):
                self._latency.append(LatencySecond(self._ended[-1].t_s, sorted(bands.items())))
            self._bands = {number: bands for number, bands in self._bands.items() if number > second}
            self._pending = {number: parts for number, parts in self._pending.items() if number > second}
        elif len(self._pending) > _PENDING:
            self._bands.pop(min(self._pending), None)
            del self._pending[min(self._pending)]

    @property
    def ended(self) -> tuple[Interval, ...]:
        """Those that all hosts have ended."""
        return self._ended

    @property
    def latency(self) -> tuple[LatencySecond, ...]:
        """Of the last of them, latencies of all hosts together."""
        return tuple(self._latency)


class _Last(NamedTuple):
    """A host's last event, and when it came."""

    progress: RunProgress
    came_s: float


class FleetProgress:
    """Passes on the sum of all hosts' progress while it is entered. `names`: by the worker's address."""

    def __init__(self, client: Any, name: str, names: dict[str, str], progress: Callable[[RunProgress], None]) -> None:
        self._client, self._name, self._names, self._progress = client, name, names, progress
        self._last: dict[str, _Last] = {}
        self._seconds = Seconds(len(names))
        self._next_s = 0.0
        self._lock = threading.Lock()

    def standing(self) -> set[str]:
        """The addresses of the hosts whose connections are open."""
        with self._lock:
            return {address for address, last in self._last.items() if last.progress.phase != "connecting"}

    def __enter__(self) -> None:
        self._client.subscribe_topic(TOPIC, self.take)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(ValueError):
            self._client.unsubscribe_topic(TOPIC)

    def take(self, event: tuple[float, dict[str, Any]]) -> None:
        """Takes one event of a topic: when the scheduler had it, and what it says."""
        _, reported = event
        if reported.get("run") != self._name or reported["worker"] not in self._names:
            return
        now, part = time.monotonic(), msgspec.convert(reported["progress"], RunProgress)
        with self._lock:
            self._last[reported["worker"]] = _Last(part, now)
            self._seconds.add(reported["worker"], part.latest, part.latency)
            if now < self._next_s and part.phase != "done":
                return
            self._next_s = now + _EVERY_S
            self._progress(self._sum(now))

    def _sum(self, now: float) -> RunProgress:
        whole = added([last.progress for last in self._last.values()], len(self._names))
        hosts = [
            host_progress(name, self._last[address].progress, now - self._last[address].came_s)
            for address, name in self._names.items()
            if address in self._last
        ]
        ended = self._seconds.ended
        return msgspec.structs.replace(
            whole,
            hosts=tuple(hosts),
            intervals=ended,
            latest=ended[-1] if ended else None,
            latency=self._seconds.latency,
        )
