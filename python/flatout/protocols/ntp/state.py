"""The time state that a server answers from, and how it is packed for the engine.

The order of the words is in `crates/wire/src/ntp/time_state.rs` too.
"""

from __future__ import annotations

import calendar
import dataclasses
import time

WORDS = 12
UNSYNCHRONISED = 3
SECOND_NS = 1_000_000_000
UNIX_EPOCH = 2_208_988_800
# RFC 5905's PHI: how fast a clock may drift that nobody watches.
DRIFT_PPB = 15_000
_WORD = 1 << 64
_SMEAR_HALF_S = 43_200


class Unusable(ValueError):
    """What an upstream sent is no state that can be served; the text says why."""


@dataclasses.dataclass(frozen=True)
class TimeState:
    """What a clock's daemon says of it, at one moment.

    `leap`: 0, 1 (a second is inserted), 2 (deleted), 3 (not synchronised). `stratum`: of the daemon itself.
    `precision`: a power of 2 s. `reference_id`: four bytes. `reference`: when the clock was last set, as an NTP stamp
    (32.32 bits); 0: it says none. `root_delay_ns`, `root_dispersion_ns`: to the primary reference.
    `dispersion_ppb`: how fast the dispersion grows, ns/s. `correction_ns`: the true time minus the system clock's, as
    far as the daemon is still correcting it; `correction_ppb`: how fast that changes, ns/s.
    """

    leap: int
    stratum: int
    precision: int
    reference_id: bytes
    reference: int
    root_delay_ns: int
    root_dispersion_ns: int
    dispersion_ppb: int = DRIFT_PPB
    correction_ns: int = 0
    correction_ppb: int = 0

    @property
    def synchronised(self) -> bool:
        """Whether it is time to give."""
        return self.leap != UNSYNCHRONISED and 1 <= self.stratum <= 15

    def words(self, max_age_ns: int, leap_second: LeapSecond | None = None) -> list[int]:
        """The state for the engine. `max_age_ns`: how long it holds, 0: for ever. `leap_second`: one to smear."""
        first = bytes([1, self.leap & 3, min(self.stratum, 255), self.precision & 0xFF]) + self.reference_id
        at_s, sign = (leap_second.at_s, leap_second.sign) if leap_second is not None else (0, 0)
        numbers = [
            int.from_bytes(first, "little"),
            self.reference,
            self.root_delay_ns,
            self.root_dispersion_ns,
            self.dispersion_ppb,
            self.correction_ns,
            self.correction_ppb,
            max_age_ns,
            at_s,
            sign,
        ]
        return [number % _WORD for number in numbers] + [0] * (WORDS - len(numbers))


@dataclasses.dataclass(frozen=True)
class LeapSecond:
    """One leap second. `at_s`: the Unix time of its end, midnight UTC. `sign`: 1 inserted, -1 deleted."""

    at_s: int
    sign: int


class LeapTracker:
    """Remembers an announced leap second until its smear has ended: the announcement ends at midnight."""

    def __init__(self) -> None:
        self.leap_second: LeapSecond | None = None

    def note(self, leap: int, unix_s: float) -> LeapSecond | None:
        """What a daemon announces now; returns the leap second to smear, or None."""
        known = self.leap_second
        if known is not None and not known.at_s - _SMEAR_HALF_S <= unix_s <= known.at_s + _SMEAR_HALF_S:
            # Not begun: the daemon may still take it back; ended: it is over.
            known = None
        if known is None and leap in (1, 2):
            known = LeapSecond(_end_of_month(unix_s), 1 if leap == 1 else -1)
        self.leap_second = known
        return known


def _end_of_month(unix_s: float) -> int:
    """The midnight UTC that ends the month: leap seconds are there only."""
    now = time.gmtime(unix_s)
    year, month = (now.tm_year + 1, 1) if now.tm_mon == 12 else (now.tm_year, now.tm_mon + 1)
    return calendar.timegm((year, month, 1, 0, 0, 0))


def ntp_stamp(unix_ns: int) -> int:
    """Unix time in ns as an NTP stamp, modulo its era."""
    seconds, rest = divmod(unix_ns, SECOND_NS)
    return ((seconds + UNIX_EPOCH) << 32 | (rest << 32) // SECOND_NS) % _WORD


def stamp_difference_ns(later: int, earlier: int) -> int:
    """The difference of two NTP stamps of neighbouring eras, ns."""
    difference = (later - earlier) % _WORD
    if difference >= _WORD // 2:
        difference -= _WORD
    return (difference * SECOND_NS) >> 32


def short_ns(units: int) -> int:
    """NTP's short format (16.16 bits of seconds) in ns, rounded up."""
    return -(-(units * SECOND_NS) >> 16)


def measured_precision() -> int:
    """The precision of the system clock as read here, a power of 2 s (RFC 5905's RHO): at most 30 ns are seen."""
    least = SECOND_NS
    before = time.time_ns()
    for _ in range(1000):
        now = time.time_ns()
        if 0 < now - before < least:
            least = now - before
        before = now
    return max(-25, least.bit_length() - 30)
