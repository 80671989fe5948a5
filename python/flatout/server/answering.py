"""A server that answers until it is stopped: `with serve("ntp") as server: ...`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from flatout import arguments, units
from flatout._engine import Server as _Server
from flatout._engine import raise_descriptor_limit
from flatout.errors import UsageError
from flatout.host import fallbacks
from flatout.host.describe import open_files, slab, tcp_memory
from flatout.plan import capacity
from flatout.protocols import protocol as by_name
from flatout.protocols.base import Protocol, checked_options, option_values
from flatout.scenario.model import Io
from flatout.server.base import Server, bound

CONNECTIONS = 1_100_000
_MOST_THREADS, _MOST_CONNECTIONS = 1024, 1 << 28
# How connections end: by the client or the network, or for one of the server's reasons.
ENDS = ("ended", "resets", "stalled", "incomplete", "evicted", "idle_closed", "broken")
# The engine looks at its clocks each 50 ms, and ages of more than 49 days would wrap.
_IDLE_LEAST_S, _IDLE_MOST_S = 0.1, 30 * 86_400


class Answerer(Server):
    """A running server that answers."""

    _engine: _Server

    def __init__(
        self,
        protocol: str,
        listen: str | None = None,
        *,
        threads: int | str | None = None,
        cpus: Iterable[int] | str = (),
        transports: Sequence[str] | None = None,
        io: Io = "auto",
        connections: int | str = CONNECTIONS,
        idle_timeout: float | str | None = None,
        **protocol_options: Any,
    ) -> None:
        """Binds and starts. Port 0 takes a free one; default is the protocol's test port on 127.0.0.1.

        `threads`: workers that answer, by default one for each CPU that it may use; each has a thread for each
        transport. `transports`: "udp", "tcp", by default all that the protocol speaks. `io`: what carries connections.
        `connections`: how many there may be at once. `idle_timeout`: connections on which nothing came for so long (a
        number of seconds, or text such as "30s") are closed in order; None: they stay.
        Errors: UsageError (unknown protocol or option, CPUs that it may not use, no permission, not an address of this
        host, already in use).
        """
        spoken = by_name(protocol)
        cpus = capacity.cpus_of(cpus)
        if threads is None:
            threads = min(len(cpus) or len(os.sched_getaffinity(0)), _MOST_THREADS)
        threads = units.whole("threads", threads, _MOST_THREADS)
        connections = units.whole("connections", connections, _MOST_CONNECTIONS)
        io = arguments.word("io", io, get_args(Io))
        links = _transports(spoken, transports)
        idle_ns = None if idle_timeout is None else _idle_ns(spoken, links, idle_timeout)
        descriptors = raise_descriptor_limit()
        self._slab = slab()
        self._engine = bound(
            _Server,
            f"127.0.0.1:{spoken.test_port}" if listen is None else listen,
            protocol=protocol,
            **_options(spoken, protocol_options),
            links=list(links),
            io=io,
            connections=connections,
            idle_timeout_ns=idle_ns,
            workers=threads,
            cpus=list(cpus),
        )
        self._descriptors = descriptors - open_files()
        super().__init__(protocol, threads, links)

    @property
    def carrier(self) -> str:
        """What carries its connections: "io_uring" or "epoll"; empty where it takes none."""
        return self._engine.backend

    @property
    def most_connections(self) -> int:
        """How many connections there can be at once; with io_uring descriptors do not limit them, but memory may."""
        places = self._engine.capacity
        return places if self.carrier == "io_uring" else max(min(places, self._descriptors), 0)

    @property
    def notes(self) -> list[str]:
        """What replaces system calls that this host refuses."""
        batches = fallbacks.notes("recvmmsg", "sendmmsg") if "udp" in self.transports else []
        return [*batches, *(fallbacks.notes("epoll_pwait2") if self.carrier == "epoll" else [])]

    def stats(self) -> dict[str, Any]:
        """Cumulative counters {t_s, received, answered, dropped {reason: n}, workers [...], kernel_drops, connections}.

        `errors` and `notes` are lists of text, as the properties of these names.

        `connections` is None where only datagrams are served, else {now, accepted, errors, resets, ended, stalled,
        incomplete, evicted, idle_closed, broken}; then there are also `bytes` {in, out}, `memory_bytes`, which this
        server holds for connections, and `kernel_memory` {tcp_bytes, slab_growth_bytes}, which counts the whole host:
        TCP's buffers now, and how much the kernel's small objects (sockets among them) have grown since this server
        began. `now` and memory are not cumulative.
        """
        workers = self._engine.served()
        return {
            "t_s": round(time.monotonic() - self._began, 3),
            "received": _sum(workers, "received"),
            "answered": _sum(workers, "answered"),
            "dropped": self._engine.dropped(),
            "workers": workers if self.streams else [_datagrams(worker) for worker in workers],
            "kernel_drops": _sum(workers, "kernel_drops"),
            "connections": self._connections(workers) if self.streams else None,
            **(self._of_streams(workers) if self.streams else {}),
            "errors": self.errors,
            "notes": self.notes,
        }

    def _connections(self, workers: list[dict[str, int]]) -> dict[str, int]:
        counted = {name: _sum(workers, name) for name in ("accepted", *ENDS)}
        return {"now": _sum(workers, "connections"), "errors": _sum(workers, "accept_errors"), **counted}

    def _of_streams(self, workers: list[dict[str, int]]) -> dict[str, Any]:
        return {
            "bytes": {"in": _sum(workers, "bytes_in"), "out": _sum(workers, "bytes_out")},
            "memory_bytes": self._engine.connection_bytes,
            "kernel_memory": {"tcp_bytes": tcp_memory(), "slab_growth_bytes": slab() - self._slab},
        }


_OF_DATAGRAMS = ("received", "answered", "dropped", "kernel_drops", "cpu_ns")


def _datagrams(worker: Mapping[str, int]) -> dict[str, int]:
    """A worker's counters without those of connections."""
    return {name: worker[name] for name in _OF_DATAGRAMS}


def _sum(workers: list[dict[str, int]], name: str) -> int:
    return sum(worker[name] for worker in workers)


def _transports(spoken: Protocol, wanted: Sequence[str] | None) -> tuple[str, ...]:
    """What to listen on, each once. Errors: UsageError."""
    served = tuple(link for link in spoken.links if link != "tls")
    if wanted is None:
        return served
    wanted = arguments.texts("transports", wanted)
    if not wanted or set(wanted) - set(served):
        raise UsageError(f"{spoken.name} is served over {' and '.join(served)}, not over '{', '.join(wanted)}'")
    return tuple(dict.fromkeys(wanted))


def _idle_ns(spoken: Protocol, links: Sequence[str], wanted: float | str) -> int:
    """How long a connection may be idle. Errors: UsageError."""
    if "tcp" not in links:
        raise UsageError(f"{spoken.name} over {' and '.join(links)} has no connections that could be idle")
    return round(units.seconds("idle_timeout", wanted, _IDLE_LEAST_S, _IDLE_MOST_S) * 1e9)


def _options(spoken: Protocol, protocol_options: dict[str, Any]) -> dict[str, Any]:
    """A protocol's own settings, as the engine takes them. Errors: UsageError."""
    filled = checked_options(spoken.serve_options, protocol_options, f"serving {spoken.name}")
    entries = spoken.serve_entries(filled) if spoken.serve_entries is not None else []
    return {"options": list(option_values(filled).items()), "entries": entries}
