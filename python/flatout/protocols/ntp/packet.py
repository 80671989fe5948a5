"""NTP packets for a check of a server: requests of every kind, answers as fields. Pure; loads use the engine's own."""

from __future__ import annotations

import struct
from typing import NamedTuple, Self

HEADER = 48
CLIENT, SERVER, SYMMETRIC_ACTIVE, SYMMETRIC_PASSIVE = 3, 4, 1, 2
# Seconds from 1900 (NTP's era 0) to 1970.
_UNIX_EPOCH = 2_208_988_800
_FORMAT = struct.Struct(">BBbbIII4Q")
assert _FORMAT.size == HEADER


class Answer(NamedTuple):
    """An answer's fields (RFC 5905, section 7.3): delays in units of 2^-16 s, stamps in units of 2^-32 s since 1900."""

    leap: int
    version: int
    mode: int
    stratum: int
    poll: int
    precision: int
    root_delay: int
    root_dispersion: int
    reference_id: bytes
    reference: int
    origin: int
    receive: int
    transmit: int
    length: int

    @classmethod
    def of(cls, packet: bytes) -> Self | None:
        """The fields of a packet; None where it is too short."""
        if len(packet) < HEADER:
            return None
        first, stratum, poll, precision, delay, dispersion, refid, *stamps = _FORMAT.unpack_from(packet)
        return cls(
            leap=first >> 6,
            version=first >> 3 & 7,
            mode=first & 7,
            stratum=stratum,
            poll=poll,
            precision=precision,
            root_delay=delay,
            root_dispersion=dispersion,
            reference_id=refid.to_bytes(4),
            reference=stamps[0],
            origin=stamps[1],
            receive=stamps[2],
            transmit=stamps[3],
            length=len(packet),
        )

    @property
    def root_distance_s(self) -> float:
        """Half the root delay plus the root dispersion."""
        return (self.root_delay / 2 + self.root_dispersion) / 2**16

    @property
    def kiss(self) -> str:
        """The kiss code of an answer with stratum 0; else empty."""
        return self.reference_id.decode("ascii", "replace").rstrip("\0") if self.stratum == 0 else ""


def request(version: int, mode: int, transmit: int, trailer: bytes = b"", poll: int = 0) -> bytes:
    """A request whose only content is its transmit stamp, and what follows the header."""
    return _FORMAT.pack(version << 3 | mode, 0, poll, 0, 0, 0, 0, 0, 0, 0, transmit) + trailer


def field(kind: int, length: int) -> bytes:
    """An extension field of zeros (RFC 7822); `length` counts its own four bytes."""
    return struct.pack(">HH", kind, length).ljust(length, b"\0")


def span_ns(earlier: int, later: int) -> int:
    """From one stamp to the other in ns, at most 68 years either way, so in any era."""
    span = (later - earlier) % 2**64
    return (span - 2**64 if span >= 2**63 else span) * 1_000_000_000 >> 32


def stamp(unix_ns: int) -> int:
    """Unix time in ns as an NTP stamp of its era."""
    seconds, rest = divmod(unix_ns, 1_000_000_000)
    return (seconds + _UNIX_EPOCH) % 2**32 << 32 | (rest << 32) // 1_000_000_000
