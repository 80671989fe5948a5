"""A server with known faults, for tests that compare measurements with the truth."""

from __future__ import annotations

import msgspec

from flatout._engine import FaultyServer as _FaultyServer
from flatout.errors import GeneratorError
from flatout.plan import capacity
from flatout.plan.addresses import Endpoint
from flatout.plan.listen import listen_address


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


class FaultyServer:
    """A server with known faults, on a thread of its own that spins; for tests only."""

    def __init__(self, protocol: str, faults: Faults, listen: str = "127.0.0.1:0", cpus: tuple[int, ...] = ()) -> None:
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
            seed=faults.seed,
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
