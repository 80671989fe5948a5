"""What may be typed of connections, of several hosts and of query files: shown for protocols that have such things.

What the flags mean is in scenario; no protocol is named here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from flatout.protocols.base import Protocol
from flatout.scenario.build import LoadOptions
from flatout.scenario.streams import has_streams

CONNECTIONS = Group("Connections", sort_key=3)
NODES = Group("Several hosts", sort_key=5)
QUERIES = Group("What to ask", sort_key=1)


@dataclass
class Connecting:
    """How requests are carried, for protocols that have connections."""

    transport: Annotated[
        Literal["udp", "tcp", "tls"] | None,
        Parameter(group=CONNECTIONS, help="What carries the requests. [the protocol's own choice]"),
    ] = None
    connections: Annotated[
        str | None,
        Parameter(group=CONNECTIONS, help="Persistent connections, e.g. 100k; over udp the same as --flows. [100]"),
    ] = None
    connect_rate: Annotated[str, Parameter(group=CONNECTIONS, help="Connections opened per second.")] = "20k"
    connect_timeout: Annotated[
        str, Parameter(group=CONNECTIONS, help="Give up a connection that does not stand after so long.")
    ] = "5s"
    churn: Annotated[
        str, Parameter(group=CONNECTIONS, help="Replace each connection after so many requests; 0: never.")
    ] = "0"
    hold: Annotated[str, Parameter(group=CONNECTIONS, help="Idle connections kept open beside those that ask.")] = "0"
    reconnect: Annotated[
        bool,
        Parameter(
            group=CONNECTIONS,
            negative=(),
            show_default=False,
            help="Open again what the target ends or does not accept.",
        ),
    ] = False
    io: Annotated[
        Literal["auto", "io_uring", "epoll"],
        Parameter(
            group=CONNECTIONS,
            help="What carries connections; auto: io_uring where it works, which takes no descriptors, else epoll.",
        ),
    ] = "auto"
    tls_name: Annotated[
        str | None, Parameter(group=CONNECTIONS, help="The server's name for SNI and for --tls-verify. [the target's]")
    ] = None
    tls_verify: Annotated[
        bool, Parameter(group=CONNECTIONS, negative=(), show_default=False, help="Check the server's certificate.")
    ] = False
    tls_ca: Annotated[
        str | None, Parameter(group=CONNECTIONS, help="PEM file of the authorities to trust. [the system's]")
    ] = None
    no_tls_resume: Annotated[
        bool,
        Parameter(
            group=CONNECTIONS,
            negative=(),
            show_default=False,
            help="Make each TLS handshake a full one: no resumption.",
        ),
    ] = False

    def options(self) -> LoadOptions:
        """As keyword arguments of the Python API."""
        given: LoadOptions = {
            "transport": self.transport,
            "connect_rate": self.connect_rate,
            "connect_timeout": self.connect_timeout,
            "churn": self.churn,
            "hold": self.hold,
            "reconnect": self.reconnect,
            "io": self.io,
            "tls": {
                "server_name": self.tls_name,
                "verify": self.tls_verify,
                "ca": absolute(self.tls_ca),
                "resume": not self.no_tls_resume,
            },
        }
        if self.connections is not None:
            given["connections"] = self.connections
        return given


@dataclass
class Querying:
    """What to ask about, for protocols that read query files."""

    queries: Annotated[
        str | None,
        Parameter(group=QUERIES, help="A file of what to ask about, one a line, asked in turn (# and ; are comments)."),
    ] = None

    def options(self) -> LoadOptions:
        """As keyword arguments of the Python API."""
        return {"queries": absolute(self.queries)}


@dataclass
class Sharing:
    """One load from several hosts."""

    node: Annotated[
        str | None,
        Parameter(
            group=NODES,
            help="This is host I of N, e.g. 2/3: it takes its share of rate, connections and sources; `flatout merge` "
            "adds the results up.",
        ),
    ] = None
    start_at: Annotated[
        str | None,
        Parameter(group=NODES, help="Begin then: 2026-03-14T15:09:26Z, or Unix time in seconds. [as soon as ready]"),
    ] = None

    def options(self) -> LoadOptions:
        """As keyword arguments of the Python API."""
        return {"node": self.node, "start_at": self.start_at}


def help_of(text: str, protocol: Protocol, examples: str) -> str:
    """The help of a command; `examples` join it where the protocol has connections."""
    more = examples.format(protocol=protocol) if has_streams(protocol) else ""
    return text.format(protocol=protocol, streams=more)


def absolute(path: str | None) -> str | None:
    """The path from the root, so that a stored scenario finds it again."""
    return None if path is None else str(Path(path).absolute())


def shown(flags: Any, *, when: bool) -> Any:
    """The annotation that makes each field a flag of its own, or none of them."""
    return Annotated[flags, Parameter(name="*", parse=None if when else False)]
