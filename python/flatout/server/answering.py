"""A server that answers until it is stopped: `with serve("ntp") as server: ...`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

from flatout import arguments, units
from flatout._engine import BpfError, raise_descriptor_limit
from flatout._engine import Server as _Server
from flatout.errors import UsageError, of_engine
from flatout.host import fallbacks
from flatout.host.describe import open_files, slab, tcp_memory
from flatout.plan import capacity
from flatout.protocols import protocol as by_name
from flatout.protocols.base import Protocol, checked_options
from flatout.scenario.model import Io
from flatout.server.base import Server
from flatout.server.driver import Driver, Xdp, choice, explained, joined, of_driver
from flatout.server.governor import Governor
from flatout.server.limits import Limits
from flatout.server.listening import Listening, listening, refusal
from flatout.server.state_poller import StatePoller

CONNECTIONS = 1_100_000
Balance = Literal["auto", "client", "flow"]
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
        listen: str | Sequence[str] | None = None,
        *,
        interface: str | None = None,
        free_bind: bool = False,
        balance: Balance = "auto",
        threads: int | str | None = None,
        cpus: Iterable[int] | str = (),
        transports: Sequence[str] | None = None,
        io: Io = "auto",
        connections: int | str = CONNECTIONS,
        idle_timeout: float | str | None = None,
        limits: Limits | None = None,
        usage_file: str | None = None,
        xdp: Xdp = "off",
        xdp_replace: bool = False,
        **protocol_options: Any,
    ) -> None:
        """Binds and starts; the arguments are those of `flatout.serve`.

        Errors: UsageError (unknown protocol or option, CPUs that it may not use, no permission, not an address of this
        host, already in use, no such interface).
        """
        spoken = by_name(protocol)
        where = listening(f"127.0.0.1:{spoken.test_port}" if listen is None else listen, interface, free_bind=free_bind)
        limited = limits is not None and limits.any
        links = ("udp",) if where.descriptors else _transports(spoken, transports)
        if "tcp" in links and (interface is not None or free_bind or limited):
            raise UsageError("interface, free_bind and limits are for datagrams: give transports udp")
        cpus = capacity.cpus_of(cpus)
        threads = _threads(threads, where.sockets or len(cpus) or len(os.sched_getaffinity(0)))
        filled = _filled(spoken, protocol_options)
        source = spoken.state_source(filled) if spoken.state_source is not None else None
        self._governor = Governor(limits or Limits(), kisses=spoken.kisses, usage_file=usage_file)
        driver = choice(xdp, spoken, where, interface, replace=xdp_replace)
        chosen = arguments.word("balance", balance, get_args(Balance))
        begun: dict[str, Any] = {
            "protocol": protocol,
            **_options(spoken, filled),
            **{"interface": interface, "free_bind": free_bind, "io": arguments.word("io", io, get_args(Io))},
            "connections": units.whole("connections", connections, _MOST_CONNECTIONS),
            "by_client": chosen == "client" or (chosen == "auto" and limited),
            "idle_timeout_ns": None if idle_timeout is None else _idle_ns(spoken, links, idle_timeout),
            **{"admission": self._governor.admission, "links": list(links), "workers": threads, "cpus": list(cpus)},
            "driver": driver.plan,
        }
        descriptors = raise_descriptor_limit()
        self._slab, self._notes, self._stamped = slab(), where.notes, spoken.state_source is not None
        self._engine = _begun(where, **begun)
        self._descriptors = descriptors - open_files()
        self._driver = None if xdp == "off" else Driver(driver, self._engine)
        self._poller = None if source is None else StatePoller(source, self._engine.set_state)
        if limits is not None:
            self._governor.begin(self._engine)
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
        """What this host lacks, and what replaces system calls that it refuses."""
        batches = fallbacks.notes("recvmmsg", "sendmmsg") if "udp" in self.transports else []
        return [
            *self._notes,
            *self._governor.notes,
            *(self._driver.notes if self._driver is not None else []),
            *batches,
            *(fallbacks.notes("epoll_pwait2") if self.carrier == "epoll" else []),
        ]

    def stop(self) -> None:
        """Stops all threads and cuts off all connections. The counters stay."""
        if self._poller is not None:
            self._poller.stop()
        super().stop()
        # After the workers' last words: what they sent counts.
        self._governor.stop()

    def enter_root(self, root: str) -> None:
        """The root directory is about to change. Errors: UsageError where the file of usage is outside of it."""
        self._governor.enter(root)

    def set_limits(self, limits: Limits) -> None:
        """Other limits from now on; what is known of clients stays. Errors: UsageError."""
        self._governor.replace(limits)

    def clients(self) -> list[dict[str, Any]]:
        """The up to 100 clients a worker that ask most, {address, answered, limited, withheld, silent_s}.

        The counters are of the time that a client is known. Empty where nothing is limited.
        """
        return self._governor.clients()

    def stats(self) -> dict[str, Any]:
        """Cumulative counters {t_s, received, answered, dropped {reason: n}, workers [...], kernel_drops, connections}.

        `kissed`: of the answers those that were a kiss-o'-death; `sent_bytes`: of the answers over datagrams, headers
        included; `clients_forgotten`: to make room for others, so that their limits began anew. `limits`, for a server
        with limits: {bandwidth_bytes_per_s, quota {bytes, used, ends_unix_s} or None, peaks_per_s}, as they are now.

        `replaced` {count, last}: how many workers for datagrams were replaced because they failed or stalled, and why
        the last one was. `errors` and `notes` are lists of text, as the properties of these names.

        `stamps`, where answers have stamps: {unstamped, interleaved, tx_sampled, tx_late, tx_early_ns {p50, p99, max}}:
        arrivals without a stamp of the kernel's; answers that tell when the answer before left; answers whose transmit
        stamp was compared with the kernel's own; those of them that were later, which must not be; by how much the
        others were earlier (None without samples).

        `xdp`, where that is asked for: {interface, mode, answered, kissed, sent_bytes, clients_forgotten, dropped
        {reason: n}, passed {reason: n}}: what the network driver answered and dropped, which is also part of the sums,
        and why it passed requests up, which the sockets received then.

        `state`, where the server answers from one: {asked, told, failed, why, source, ...}: how often its source was
        asked, how often it told a state, how often it failed, why it failed last, and the last state.

        `connections` is None where only datagrams are served, else {now, accepted, errors, resets, ended, stalled,
        incomplete, evicted, idle_closed, broken}; then there are also `bytes` {in, out}, `memory_bytes`, which this
        server holds for connections, and `kernel_memory` {tcp_bytes, slab_growth_bytes}, which counts the whole host:
        TCP's buffers now, and how much the kernel's small objects (sockets among them) have grown since this server
        began. `now` and memory are not cumulative.
        """
        workers = self._engine.served()
        sums = {name: _sum(workers, name) for name in ("received", "answered", *_SUMS)}
        driver = {} if self._driver is None else {"xdp": self._driver.stats()}
        sums = joined(sums, of_driver(self._engine))
        return {
            "t_s": round(time.monotonic() - self._began, 3),
            "received": sums["received"],
            "answered": sums["answered"],
            "dropped": joined(self._engine.dropped(), driver.get("xdp", {}).get("dropped", {})),
            "workers": workers if self.streams else [_datagrams(worker) for worker in workers],
            "kernel_drops": _sum(workers, "kernel_drops"),
            "connections": self._connections(workers) if self.streams else None,
            **(self._of_streams(workers) if self.streams else {}),
            **(self._stamps(workers) if self._stamped else {}),
            **{name: sums[name] for name in _SUMS},
            **driver,
            **({} if self._poller is None else {"state": self._poller.stats()}),
            **({} if not self._governor.active else {"limits": self._governor.stats()}),
            "replaced": dict(zip(("count", "last"), self._engine.replaced, strict=True)),
            "errors": self.errors,
            "notes": self.notes,
        }

    def _stamps(self, workers: list[dict[str, int]]) -> dict[str, Any]:
        errors = self._engine.tx_errors()
        early = {name: errors.quantile(q) for name, q in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))}
        counted = {name: _sum(workers, name) for name in ("unstamped", "interleaved", "tx_sampled", "tx_late")}
        return {"stamps": {**counted, "tx_early_ns": early if errors.count else None}}

    def _connections(self, workers: list[dict[str, int]]) -> dict[str, int]:
        counted = {name: _sum(workers, name) for name in ("accepted", *ENDS)}
        return {"now": _sum(workers, "connections"), "errors": _sum(workers, "accept_errors"), **counted}

    def _of_streams(self, workers: list[dict[str, int]]) -> dict[str, Any]:
        return {
            "bytes": {"in": _sum(workers, "bytes_in"), "out": _sum(workers, "bytes_out")},
            "memory_bytes": self._engine.connection_bytes,
            "kernel_memory": {"tcp_bytes": tcp_memory(), "slab_growth_bytes": slab() - self._slab},
        }


_SUMS = ("kissed", "sent_bytes", "clients_forgotten")
_OF_DATAGRAMS = (
    *("received", "answered", "dropped", "unstamped", "kernel_drops", "cpu_ns"),
    *_SUMS,
)


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


def _begun(where: Listening, **arguments: Any) -> _Server:
    """The engine's server. Errors: UsageError, GeneratorError."""
    try:
        return _Server(listen=where.endpoints, inherited=where.descriptors, **arguments)
    except ValueError as error:
        raise of_engine(error) from error
    except BpfError as error:
        raise UsageError(f"xdp: {explained(str(error.args[1]))}") from error
    except OSError as error:
        raise refusal(error, where) from error


def _threads(wanted: int | str | None, usual: int) -> int:
    """How many workers. Errors: UsageError."""
    return min(usual, _MOST_THREADS) if wanted is None else units.whole("threads", wanted, _MOST_THREADS)


def _idle_ns(spoken: Protocol, links: Sequence[str], wanted: float | str) -> int:
    """How long a connection may be idle. Errors: UsageError."""
    if "tcp" not in links:
        raise UsageError(f"{spoken.name} over {' and '.join(links)} has no connections that could be idle")
    return round(units.seconds("idle_timeout", wanted, _IDLE_LEAST_S, _IDLE_MOST_S) * 1e9)


def _filled(spoken: Protocol, protocol_options: dict[str, Any]) -> Any:
    """A protocol's own settings for serving. Errors: UsageError."""
    return checked_options(spoken.serve_options, protocol_options, f"serving {spoken.name}")


def _options(spoken: Protocol, filled: Any) -> dict[str, Any]:
    """The same as the engine takes them. Errors: UsageError."""
    entries = spoken.serve_entries(filled) if spoken.serve_entries is not None else []
    return {"options": spoken.for_engine(filled), "entries": entries}
