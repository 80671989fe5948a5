"""Applies a server's limits while it runs: bandwidth and quota each second, new limits at once; and keeps its peaks."""

from __future__ import annotations

import threading
import time
from typing import Any

from flatout._engine import Server as _Server
from flatout.errors import UsageError
from flatout.server import limits as limiting
from flatout.server.driver import joined, of_driver
from flatout.server.limits import Limits
from flatout.server.peaks import Peaks
from flatout.server.quota import lower
from flatout.server.usage import Usage, latest

# Between two writes of what is used of the quota.
_KEEP_S = 60.0
_PEAKS = ("received", "answered", "dropped", "kernel_drops", "sent_bytes")


class Governor:
    """The limits of one running server. Any thread may call it."""

    def __init__(self, limits: Limits, *, kisses: bool, usage_file: str | None) -> None:
        """Errors: UsageError for limits that are none, or a file of usage without its folder."""
        self.admission = limiting.admission(limits, kisses=kisses)
        self._kisses = kisses
        self._limits = limits
        self._began_limited = limits.any
        self._quota = limiting.quota(limits)
        self._file = Usage(usage_file)
        self._usage = self._file.read()
        self._used = 0
        self._sent = 0
        self._kept_s = 0.0
        self._bandwidth: float | None = None
        self._peaks = Peaks()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._engine: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def notes(self) -> list[str]:
        """What is wrong with the file of usage."""
        return self._file.notes

    def enter(self, root: str) -> None:
        """The root directory is about to change. Errors: UsageError where the file of usage is outside of it."""
        self._file.enter(root)

    @property
    def active(self) -> bool:
        """Whether it governs an engine."""
        return self._engine is not None

    def begin(self, engine: _Server) -> None:
        """Governs this engine from now on, in a thread of its own."""
        self._engine = engine
        self._tick()
        self._thread = threading.Thread(target=self._run, name="flatout-govern", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread, and keeps what is used of the quota."""
        if self._thread is None or self._ended.is_set():
            return
        self._ended.set()
        self._thread.join(5)
        self._tick()
        self._keep()

    def replace(self, limits: Limits) -> None:
        """Other limits from now on; clients stay known, and their number stays what it was. Errors: UsageError."""
        if limits.any and not self._began_limited:
            raise UsageError("limits: a server that began without any gets them by a restart")
        admission = limiting.admission(limits, kisses=self._kisses)
        quota = limiting.quota(limits)
        with self._lock:
            self.admission, self._limits, self._quota = admission, limits, quota
            if self._engine is not None:
                self._engine.set_admission(admission)
        self._tick()

    def stats(self) -> dict[str, Any]:
        """{bandwidth_bytes_per_s, quota, peaks_per_s}; quota {bytes, used, ends_unix_s}, None: there is none."""
        with self._lock:
            quota = self._quota
            reported = None
            if quota is not None:
                reported = {"bytes": quota.bytes, "used": self._used, "ends_unix_s": quota.period(time.time()).end}
            bandwidth = None if self._bandwidth is None else round(self._bandwidth)
            return {
                "bandwidth_bytes_per_s": bandwidth,
                "quota": reported,
                "peaks_per_s": self._peaks.highest(time.monotonic()),
            }

    def clients(self, seconds: float = 5.0) -> list[dict[str, Any]]:
        """The clients that ask most: {address, answered, limited, withheld, silent_s}; none without limits."""
        engine = self._engine
        if engine is None or not self._limits.any:
            return []
        question, until = engine.ask_for_clients(), time.monotonic() + seconds
        while (rows := engine.clients(question)) is None and time.monotonic() < until:
            time.sleep(0.02)
        named = [
            {
                "address": str(address),
                "answered": answered,
                "limited": limited,
                "withheld": withheld,
                "silent_s": round(silent_ns / 1e9, 1),
            }
            for address, answered, limited, withheld, silent_ns in rows or []
        ]
        return sorted(named, key=_requests, reverse=True)

    def _run(self) -> None:
        while not self._ended.wait(1.0):
            self._tick()

    def _tick(self) -> None:
        engine = self._engine
        if engine is None:
            return
        workers = engine.served()
        totals = {name: sum(worker[name] for worker in workers) for name in _PEAKS}
        totals = joined(totals, of_driver(engine))
        with self._lock:
            self._peaks.note(time.monotonic(), totals)
            self._use(totals["sent_bytes"], time.time())
            engine.set_budget(None if self._bandwidth is None else round(self._bandwidth))
        if time.monotonic() - self._kept_s > _KEEP_S:
            self._keep()

    def _use(self, sent: int, now: float) -> None:
        fresh, self._sent = sent - self._sent, sent
        self._bandwidth = limiting.max_rate(self._limits)
        if self._quota is None:
            return
        begin = self._quota.period(now).begin
        self._used = self._usage[begin] = self._usage.get(begin, 0) + fresh
        self._usage = {begin: self._usage[begin] for begin in {begin, *latest(self._usage)}}
        self._bandwidth = lower(self._bandwidth, self._quota.allowed(now, self._used))

    def _keep(self) -> None:
        """Writes what is used of the quota."""
        self._kept_s = time.monotonic()
        if self._quota is not None:
            with self._lock:
                used = dict(self._usage)
            self._file.write(used)


def _requests(client: dict[str, Any]) -> int:
    return int(client["answered"]) + int(client["limited"]) + int(client["withheld"])
