"""flatout's servers from Python: `serve`.

Arguments take numbers (per second, seconds) or the text that the command line takes ("100k", "10s").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from flatout.errors import UsageError
from flatout.protocols import protocol as by_name
from flatout.scenario.model import Io
from flatout.server.answering import CONNECTIONS, Answerer, Balance
from flatout.server.base import Server
from flatout.server.driver import Xdp
from flatout.server.limits import Limits

Number = float | int | str


def serve(
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
    idle_timeout: Number | None = None,
    limits: Limits | None = None,
    usage_file: str | None = None,
    xdp: Xdp = "off",
    xdp_replace: bool = False,
    **options: Any,
) -> Server:
    """Serves until the `with` block ends.

    `protocol`: its name; UsageError for an unknown one.
    `listen`: ADDR:PORT, or several; "*:PORT" for all addresses of both families, "systemd" for the sockets that a
    socket unit hands over; default: the protocol's test port on 127.0.0.1. UsageError where it cannot be had.
    `interface`: over datagrams, only what comes by this interface; default: by all. UsageError for an unknown one. For
    one-way messages it goes with `link="xdp"`, as in `Receiver`.
    `free_bind`: over datagrams, addresses may be such that this host does not have yet; default: False.
    `balance`: which worker receives a datagram: "client": one for all of an address (IPv6: a /64); "flow": by address
    and port; default: "auto", which is "client" where workers keep state of clients.
    `threads`: workers; default: one for each CPU that may be used, 1 for one-way messages.
    `cpus`: CPUs for them, as numbers or text ("0-3"); default: the scheduler chooses. UsageError for others'.
    `transports`: default: all that the protocol has but TLS; UsageError for others.
    `io`: "auto" (default), "io_uring" or "epoll" for connections.
    `connections`: the most at once.
    `idle_timeout`: close connections on which nothing came for so long, in s or as text ("30s"); default: never.
    UsageError where there are no connections.
    `limits`: over datagrams, which are answered (`flatout.Limits`); default: all. UsageError over other transports.
    `usage_file`: keeps what is used of a quota over restarts; default: nothing is kept.
    `xdp`: "native" or "generic" to answer plain requests in the network driver, "auto" for what works; default: "off".
    `interface` names which; default: the host's only one, or that of its default route. UsageError where it is asked
    for by name and cannot be had, or the protocol is not answered so.
    `xdp_replace`: first detach an XDP program that others attached to it, unless a link holds that; default: False.
    `options`: the protocol's own; for one-way messages, which are received and counted, also those of `Receiver`.
    """
    if by_name(protocol).one_way is not None:
        given = (free_bind, balance, limits, io, connections, idle_timeout, xdp, xdp_replace)
        if given != (False, "auto", None, "auto", CONNECTIONS, None, "off", False):
            raise UsageError(f"{protocol} goes one way, over udp alone: it has no connections, no --io and no limits")
        return _drained(protocol, listen, transports, threads=threads, cpus=cpus, interface=interface, **options)
    where: dict[str, Any] = {"interface": interface, "free_bind": free_bind, "balance": balance}
    workers: dict[str, Any] = {"threads": threads, "cpus": cpus, "io": io, "connections": connections}
    kept: dict[str, Any] = {"idle_timeout": idle_timeout, "limits": limits, "usage_file": usage_file}
    driver: dict[str, Any] = {"xdp": xdp, "xdp_replace": xdp_replace}
    return Answerer(protocol, listen, transports=transports, **where, **workers, **kept, **driver, **options)


def _drained(
    protocol: str, listen: str | Sequence[str] | None, transports: Sequence[str] | None, **options: Any
) -> Server:
    """A receiver that only counts. Errors: UsageError."""
    from flatout.receiver.counting import drained

    if transports not in (None, ["udp"], ("udp",)):
        raise UsageError(f"{protocol} goes one way, over udp alone")
    if not (listen is None or isinstance(listen, str)):
        raise UsageError(f"{protocol} goes one way: it is received at one address")
    return drained(protocol, listen, **options)
