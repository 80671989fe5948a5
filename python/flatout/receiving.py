"""A receiver whose handler only counts: what `serve` is where messages go one way."""

from __future__ import annotations

import dataclasses
from typing import Any

from flatout.errors import UsageError
from flatout.protocols.base import Protocol
from flatout.receiver import Receiver
from flatout.scenario import target
from flatout.scenario.plan import protocol as by_name
from flatout.server import Server

# Bytes, as crates/engine/src/receive has them: time and source of a record; a place in the table of sequence numbers;
# an address in the list of sources and in what finds it there.
_BESIDE_A_RECORD, _PLACE, _ADDRESS = 12, 32, 128


class Drained(Server):
    """A running receiver; the engine's own handler takes what it hands over, and no Python code runs for it."""

    def __init__(self, protocol: str, listen: str | None = None, *, threads: int | None = None, **options: Any) -> None:
        """Binds and starts. Port 0 takes a free one; default is the protocol's test port on 127.0.0.1.

        `options`: those of `Receiver`, and the protocol's own. It answers senders who ask how much came, unless
        `counters=False`. Errors: UsageError, GeneratorError.
        """
        spoken = by_name(protocol)
        threads = 1 if threads is None else threads
        knobs = _knobs(spoken, options)
        options.setdefault("counters", True)
        self.followed = int(options.setdefault("follow", 1 << 20))
        self._sockets = 1 if options.get("shared") else threads
        try:
            at = listen or f"127.0.0.1:{spoken.test_port}"
            self._receiver = Receiver(at, knobs.format, endian=knobs.endian, threads=threads, **options)
        except TypeError as error:
            raise UsageError(f"receiving {protocol} has no such option: {error}") from error
        self._receiver.drain()
        self.protocol = protocol
        self.threads = threads
        self.transports = ("udp",)
        self._stopped = False

    @property
    def endpoint(self) -> target.Endpoint:
        """Where it listens."""
        return self._receiver.endpoint

    @property
    def address(self) -> str:
        """Where it listens, as text."""
        return self._receiver.address

    @property
    def alive(self) -> bool:
        """Whether all its threads are at work."""
        return not self._stopped and self._receiver.alive

    @property
    def size(self) -> int:
        """Bytes of a message."""
        return self._receiver.layout.size

    @property
    def format(self) -> str:
        """How a message is laid out, as text."""
        return self._receiver.layout.text

    @property
    def memory_bound(self) -> int:
        """Bytes that it holds at most, about: the queue's, and those of all senders that it may follow."""
        queue: int = self.stats()["queue"]["size"] * (self.size + _BESIDE_A_RECORD)
        # The table has two places a sender, in a power of two, for each socket.
        places = 1 << (2 * self.followed - 1).bit_length()
        return queue + self._sockets * places * _PLACE + self.followed * _ADDRESS

    @property
    def carrier(self) -> str:
        """Nothing carries connections, for it takes none."""
        return ""

    @property
    def most_connections(self) -> int:
        """None."""
        return 0

    def stats(self) -> dict[str, Any]:
        """Cumulative counters: those of `Receiver.stats`."""
        return self._receiver.stats()

    def stop(self) -> None:
        """Stops all threads; the counters stay."""
        self._stopped = True
        self._receiver.stop()


def _knobs(spoken: Protocol, options: dict[str, Any]) -> Any:
    """Takes the protocol's own settings out of all options. Errors: UsageError."""
    names = {field.name for field in dataclasses.fields(spoken.serve_knobs)}
    return spoken.serve_knobs(**{name: options.pop(name) for name in names & set(options)})
