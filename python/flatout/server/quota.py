"""A quota of bytes for a calendar month or day, and how fast it may be used. Pure: the time is an argument."""

from __future__ import annotations

import datetime
import re
from typing import NamedTuple

from flatout import units
from flatout.errors import UsageError

# What may be used beyond an even pace: so much of it, in seconds.
_CREDIT_S = 6 * 3600.0
# With all of that credit the rate may be this many times the even one.
_FASTEST = 64.0


class Period(NamedTuple):
    """When a quota begins and ends, Unix time in s."""

    begin: float
    end: float


class Quota(NamedTuple):
    """`bytes` in each period: a "month" or a "day", UTC."""

    bytes: int
    per: str

    @classmethod
    def parse(cls, text: str) -> Quota:
        """`4TB/month`, `100GB/day`. Errors: UsageError."""
        found = re.fullmatch(r"(.+)/\s*(month|day)\s*", text)
        if found is None or (size := units.size(found[1])) <= 0:
            raise UsageError(f"quota '{text}': write it like 4TB/month or 100GB/day")
        return cls(size, found[2])

    def period(self, unix_s: float) -> Period:
        """The period that `unix_s` is in."""
        now = datetime.datetime.fromtimestamp(unix_s, datetime.UTC)
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        if self.per == "day":
            return Period(midnight.timestamp(), (midnight + datetime.timedelta(days=1)).timestamp())
        first = midnight.replace(day=1)
        following = (first + datetime.timedelta(days=32)).replace(day=1)
        return Period(first.timestamp(), following.timestamp())

    def allowed(self, unix_s: float, used: int) -> float:
        """Bytes per s that may be sent now, where `used` bytes were sent in this period.

        The pace is even over the period; what was saved may be used for a peak, and what was used too fast is saved by
        the rest of the period.
        """
        begin, end = self.period(unix_s)
        left = max(self.bytes - used, 0)
        even = self.bytes / (end - begin)
        # Less towards the end, so that its last hours have answers, too.
        ahead_s = min(_CREDIT_S, (end - unix_s) / 4)
        credit = even * (unix_s - begin + ahead_s) - used
        if credit <= 0:
            return left / max(end - unix_s, 1.0)
        return float(min(even * _FASTEST ** min(credit / (even * _CREDIT_S), 1.0), left))


def lower(one: float | None, other: float | None) -> float | None:
    """The lower of two bandwidths; None: no limit."""
    given = [value for value in (one, other) if value is not None]
    return min(given, default=None)
