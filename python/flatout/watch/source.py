"""Where counts of packets come from: one interface, whatever counts them."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

BINS = 64


class Prefix(NamedTuple):
    """Packets of a prefix since the last reading, and their bytes."""

    text: str
    packets: int
    bytes: int


class Counted(NamedTuple):
    """What was counted of a port: since the start, except for what belongs to the second that was asked for.

    `packets` and `bytes`: in over IPv4, in over IPv6, out over IPv4, out over IPv6 (bytes with IP headers; None: not
    known). `mix`: requests, the counters that are shares of them, responses. `bins_in`, `bins_out`: packets of the
    second in each 1/64 s; `second_bytes`: bytes in and out of it. None where only sums are known.
    """

    packets: tuple[int, int, int, int]
    bytes: tuple[int, int, int, int] | None
    mix: tuple[int, ...] = ()
    bins_in: list[int] | None = None
    bins_out: list[int] | None = None
    second_bytes: tuple[int, int] | None = None
    prefixes: tuple[Prefix, ...] = ()


class Reading(NamedTuple):
    """All ports at one moment, in the order of `TrafficSource.labels`.

    Since the start: packets counted by each CPU, and dropped packets of the ports by the kernel's reason (None: those
    are not known).
    """

    ports: list[Counted]
    cpus: dict[int, int]
    notes: tuple[str, ...] = ()
    reasons: dict[str, int] | None = None


class TrafficSource(Protocol):
    """Counts packets until it is closed."""

    @property
    def kind(self) -> Literal["bpf", "mib"]:
        """What counts."""

    @property
    def labels(self) -> list[str]:
        """The names of what is counted, such as `udp/123`."""

    @property
    def notes(self) -> list[str]:
        """What users have to know of it."""

    def read(self, second: int) -> Reading:
        """The counts now, and those of a second of CLOCK_MONOTONIC that is over."""

    def close(self) -> None:
        """Counts no more."""
