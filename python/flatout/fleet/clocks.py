"""How far a host's clock is ahead of the scheduler's host, by the method of RFC 5905, section 8. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class Exchange(msgspec.Struct, frozen=True, array_like=True):
    """One question by a host and the answer of the scheduler's host; Unix times in ns, each by its own clock."""

    asked: int
    received: int
    answered: int
    came: int

    @property
    def delay_ns(self) -> int:
        """What the way took, both directions."""
        return (self.came - self.asked) - (self.answered - self.received)


class ClockOffset(msgspec.Struct, frozen=True, kw_only=True):
    """How far a host's clock is ahead of the scheduler's, in ns, and by how much that may be wrong."""

    offset_ns: int
    error_ns: int


def clock_offset(exchanges: Sequence[Exchange]) -> ClockOffset:
    """The offset by the exchange with the shortest way: it may be wrong by half of that (RFC 5905, section 11.2).

    Errors: ValueError without any exchange.
    """
    best = min(exchanges, key=lambda exchange: exchange.delay_ns)
    offset = (best.asked - best.received + best.came - best.answered) // 2
    return ClockOffset(offset_ns=offset, error_ns=max(best.delay_ns, 0) // 2 + 1)


def drifted(before: ClockOffset, after: ClockOffset) -> int:
    """By how much an offset changed beyond what both measurements may be wrong by, in ns; 0: not known to."""
    return max(abs(after.offset_ns - before.offset_ns) - before.error_ns - after.error_ns, 0)
