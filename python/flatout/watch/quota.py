"""The traffic of a month or a day against a quota: used, projected, and the rate that would fit."""

from __future__ import annotations

from collections import deque
from typing import Literal, NamedTuple

from flatout.server.quota import Quota
from flatout.server.usage import Usage, latest
from flatout.watch.model import QuotaProjection

CountedWay = Literal["out", "in", "both"]
_KEEP_S = 60.0
# The rate that is projected is that of so long, from one sample in so many seconds.
_RATE_S = 3600.0
_SAMPLE_S = 60.0


class Pace(NamedTuple):
    """Bytes counted until a moment (monotonic, s)."""

    at_s: float
    bytes: int


class Use(NamedTuple):
    """What is used: the direction that counts, bytes, bytes per s now, bytes of a packet (None: not known)."""

    counted: CountedWay
    used: int
    rate: float
    packet: float | None


def project(quota: Quota, use: Use, unix_s: float) -> QuotaProjection:
    """Where the use of a quota leads. Pure."""
    counted, used, rate, packet = use
    end = quota.period(unix_s).end
    left_s = max(end - unix_s, 1.0)
    fits = max(quota.bytes - used, 0) / left_s
    return QuotaProjection(
        bytes=quota.bytes,
        per=quota.per,
        counted=counted,
        used=used,
        projected=round(used + rate * left_s),
        bytes_per_s=rate,
        fits_bytes_per_s=fits,
        fits_packets_per_s=fits / packet if packet else None,
        ends_unix_s=end,
    )


class QuotaMeter:
    """Adds up what counts against a quota, and keeps it in a file over restarts."""

    def __init__(self, quota: Quota, counted: CountedWay, usage: Usage) -> None:
        """What the file has is read here; `notes` says where that failed."""
        self._quota = quota
        self.counted = counted
        self._usage = usage
        self._used = usage.read()
        self._kept_s: float | None = None
        self._paces: deque[Pace] = deque()
        self._all = 0
        self._packets = 0

    @property
    def notes(self) -> list[str]:
        """Why the file could not be read or written."""
        return self._usage.notes

    def add(self, size: int, packets: int, unix_s: float, now_s: float) -> QuotaProjection:
        """Bytes and packets that went since the last call; `now_s` is the monotonic clock's."""
        begin = self._quota.period(unix_s).begin
        self._used[begin] = self._used.get(begin, 0) + size
        self._all += size
        self._packets += packets
        packet = self._all / self._packets if self._packets else None
        rate = self._rate(now_s)
        if self._kept_s is None:
            self._kept_s = now_s
        elif now_s - self._kept_s >= _KEEP_S:
            self._kept_s = now_s
            self.keep()
        return project(self._quota, Use(self.counted, self._used[begin], rate, packet), unix_s)

    def _rate(self, now_s: float) -> float:
        """Bytes per s over the last hour, or since the start."""
        if not self._paces:
            # What is counted first belongs to the second before.
            self._paces.append(Pace(now_s - 1, 0))
        while len(self._paces) > 1 and now_s - self._paces[1].at_s > _RATE_S:
            self._paces.popleft()
        first = self._paces[0]
        if now_s - self._paces[-1].at_s >= _SAMPLE_S:
            self._paces.append(Pace(now_s, self._all))
        return (self._all - first.bytes) / max(now_s - first.at_s, 1.0)

    def keep(self) -> None:
        """Writes what is used; where that fails it is noted."""
        self._used = {begin: self._used[begin] for begin in latest(self._used)}
        self._usage.write(self._used)
