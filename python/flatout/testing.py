"""A server with known faults, for tests that compare measurements with the truth."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from flatout import arguments, units
from flatout._engine import FaultyServer as _FaultyServer
from flatout.errors import ArgumentError, GeneratorError
from flatout.plan import capacity
from flatout.plan.addresses import Endpoint
from flatout.plan.listen import listen_address
from flatout.protocols import protocol as by_name


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """What goes wrong. Shares are of requests, exclude each other and add up to at most 1; times in s.

    `capacity_per_s` drops what a token bucket of 1 ms does not admit (0: no limit); `stall_s` happens once,
    `stall_after_s` from the first request; after `die_after` requests no request is answered (0: never).
    """

    drop: float = 0.0
    duplicate: float = 0.0
    corrupt: float = 0.0
    late: float = 0.0
    late_by_s: float = 0.0
    reorder: float = 0.0
    delay_s: float = 0.0
    jitter_s: float = 0.0
    capacity_per_s: float = 0.0
    stall_after_s: float = 0.0
    stall_s: float = 0.0
    die_after: int = 0
    seed: int = 1


_SHARES = ("drop", "duplicate", "corrupt", "late", "reorder")
_TIMES = ("late_by_s", "delay_s", "jitter_s", "stall_after_s", "stall_s")


def _check(faults: Faults) -> None:
    """Errors: ArgumentError for a fault that cannot be."""
    if not isinstance(faults, Faults):
        raise ArgumentError("faults", f"={faults!r}: give flatout.testing.Faults(...)")
    shares = [arguments.share(f"faults.{name}", getattr(faults, name), may_be_all=True) for name in _SHARES]
    if sum(shares) > 1 + 1e-9:
        raise ArgumentError(
            "faults", f": {', '.join(_SHARES)} exclude each other: give shares that add up to at most 1"
        )
    for name in _TIMES:
        units.seconds(f"faults.{name}", getattr(faults, name))
    arguments.rate("faults.capacity_per_s", faults.capacity_per_s, or_none=True)
    units.whole("faults.die_after", faults.die_after, 2**63, least=0)
    units.integer("faults.seed", faults.seed)


class FaultyServer:
    """A server with known faults, on a thread of its own that spins; for tests only."""

    def __init__(
        self, protocol: str, faults: Faults, listen: str = "127.0.0.1:0", cpus: Iterable[int] | str = ()
    ) -> None:
        """Binds and starts; port 0 takes a free one. Errors: UsageError."""
        by_name(protocol)
        _check(faults)
        self._server = _FaultyServer(
            protocol=protocol,
            listen=listen_address(listen),
            cpus=list(capacity.cpus_of(cpus)),
            drop=faults.drop,
            duplicate=faults.duplicate,
            corrupt=faults.corrupt,
            late=faults.late,
            late_by_ns=round(faults.late_by_s * 1e9),
            reorder=faults.reorder,
            delay_ns=round(faults.delay_s * 1e9),
            jitter_ns=round(faults.jitter_s * 1e9),
            capacity_per_s=faults.capacity_per_s,
            stall_after_ns=round(faults.stall_after_s * 1e9),
            stall_ns=round(faults.stall_s * 1e9),
            die_after=faults.die_after,
            seed=faults.seed % 2**64,
        )
        self.address = str(Endpoint(*self._server.address))

    def done(self) -> dict[str, int]:
        """How often each fault was carried out; final once stopped. Errors: GeneratorError where it cannot receive."""
        if self._server.failure is not None:
            raise GeneratorError(f"the server with faults cannot receive: {self._server.failure}")
        return self._server.done()

    def stop(self) -> dict[str, int]:
        """Stops; returns what was done in all. Errors as for `done`."""
        self._server.stop()
        return self.done()

    def __enter__(self) -> FaultyServer:
        """It runs already."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stops it."""
        self._server.stop()
