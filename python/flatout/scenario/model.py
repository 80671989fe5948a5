"""What was asked, with every default filled in: frozen types that go into results and can be run again."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Arrivals = Literal["constant", "poisson"]
Stamps = Literal["kernel", "user"]


class Segment(msgspec.Struct, frozen=True):
    """A stretch of `seconds` in which the rate goes linearly from one value to another (requests per second)."""

    seconds: float
    from_per_s: float
    to_per_s: float


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One load: whom to ask what, how fast, how long and from where. Durations in s, `profile` in order.

    `flows` are source sockets that the far end can tell apart; `sources` are networks or addresses to send from;
    `options` are the protocol's own knobs.
    """

    protocol: str
    target: str
    profile: tuple[Segment, ...]
    warmup_s: float = 1.0
    timeout_s: float = 1.0
    flows: int = 64
    sources: tuple[str, ...] = ()
    arrivals: Arrivals = "constant"
    seed: int = 42
    threads: int = 1
    cpus: tuple[int, ...] = ()
    stamps: Stamps = "kernel"
    gso: bool = False
    require: tuple[str, ...] = ()
    log: str | None = None
    allow_public: bool = False
    options: dict[str, Any] = {}

    @property
    def duration_s(self) -> float:
        """How long requests are counted."""
        return sum(segment.seconds for segment in self.profile)

    @property
    def peak_per_s(self) -> float:
        """The highest rate of the profile."""
        return max(max(segment.from_per_s, segment.to_per_s) for segment in self.profile)

    def at(self, rate_per_s: float, seconds: float) -> Scenario:
        """The same at one steady rate."""
        return msgspec.structs.replace(self, profile=(Segment(seconds, rate_per_s, rate_per_s),))
