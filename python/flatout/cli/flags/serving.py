"""The flags of `serve`: where and how, which requests are answered, and how it is operated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from cyclopts import Group, Parameter

from flatout.cli.seconds import For, Json, Quiet
from flatout.scenario.model import Io
from flatout.server.answering import CONNECTIONS, Balance
from flatout.server.driver import Xdp
from flatout.server.limits import Limits

LIMITS = Group("Limits", sort_key=2)
OPERATION = Group("Operation", sort_key=3)


@dataclass
class Serving:
    """Where and how to serve."""

    listen: Annotated[
        list[str],
        Parameter(
            negative=(),
            show_default=False,
            help="Address and port; may be given several times. *:PORT: all addresses, IPv4 and IPv6, each answered "
            "from the one that was asked; systemd: the sockets of a socket unit, which are also the default where "
            "there are any. [127.0.0.1 and the test port]",
        ),
    ] = field(default_factory=list)
    interface: Annotated[str | None, Parameter(help="Answer only what comes by this interface (UDP). [all]")] = None
    xdp: Annotated[
        Xdp,
        Parameter(
            help="Answer plain requests in the network driver (UDP; some protocols): native, generic (by the kernel, "
            "slower), or auto: what works. On --interface, else on that of the default route; sockets answer the rest."
        ),
    ] = "off"
    xdp_replace: Annotated[
        bool,
        Parameter(
            negative=(),
            show_default=False,
            help="With --xdp: first detach an XDP program that others attached there; it does not come back.",
        ),
    ] = False
    free_bind: Annotated[
        bool,
        Parameter(negative=(), show_default=False, help="Listen on addresses that this host does not have yet (UDP)."),
    ] = False
    balance: Annotated[
        Balance,
        Parameter(
            help="Which worker receives a datagram: client: one for all of an address (IPv6: of a /64); flow: the "
            "kernel's hash of addresses and ports; auto: client where workers keep state of clients."
        ),
    ] = "auto"
    transport: Annotated[
        list[str],
        Parameter(negative=(), show_default=False, help="udp or tcp; may be given twice. [all that the protocol has]"),
    ] = field(default_factory=list)
    threads: Annotated[
        int | None, Parameter(help="Workers that answer, each with its own sockets on the addresses. [one per CPU]")
    ] = None
    cpus: Annotated[
        str | None, Parameter(show_default=False, help="Keep the threads on these CPUs, e.g. 1 or 0-3,6.")
    ] = None
    io: Annotated[Io, Parameter(help="What carries connections; auto: io_uring where it works.")] = "auto"
    connections: Annotated[str, Parameter(help="Connections at once, e.g. 100k.")] = f"{CONNECTIONS / 1e6:g}M"
    idle_timeout: Annotated[
        str | None, Parameter(help="Close connections on which nothing came for so long, e.g. 30s. [they stay]")
    ] = None
    for_: For = None
    json: Json = None
    quiet: Quiet = False


def _list(text: str) -> Parameter:
    return Parameter(group=LIMITS, negative=(), show_default=False, help=text)


@dataclass
class LimitFlags:
    """Which requests are answered; over UDP."""

    client_rate: Annotated[
        str | None, Parameter(group=LIMITS, help="Requests of one client a second, e.g. 10 or 1/8s. [no limit]")
    ] = None
    client_burst: Annotated[int, Parameter(group=LIMITS, help="How many of them at once.")] = 8
    client_leak: Annotated[
        int,
        Parameter(group=LIMITS, help="Answer one in so many above the rate: a forger cannot silence others. 0: none."),
    ] = 4
    client_prefix: Annotated[
        str, Parameter(group=LIMITS, help="Bits of an address that make a client, for IPv4/IPv6.")
    ] = "32/64"
    clients: Annotated[str, Parameter(group=LIMITS, help="Clients known at once, 48 bytes each.")] = "256k"
    kod: Annotated[
        bool,
        Parameter(
            group=LIMITS,
            negative=(),
            show_default=False,
            help="Tell some clients above the rate to be slower (kiss-o'-death), where the protocol has that.",
        ),
    ] = False
    allow: Annotated[
        list[str],
        _list("Answer only these prefixes: a prefix, several with commas between, or a file with one a line."),
    ] = field(default_factory=list)
    deny: Annotated[list[str], _list("Do not answer these prefixes; the longest prefix decides.")] = field(
        default_factory=list
    )
    monitors: Annotated[
        list[str], _list("Always answer these prefixes, before all others and whatever the limits.")
    ] = field(default_factory=list)
    max_rate: Annotated[
        str | None,
        Parameter(
            group=LIMITS, help="Bandwidth of all answers with IP headers, e.g. 100Mbps; those who ask most wait."
        ),
    ] = None
    quota: Annotated[
        str | None,
        Parameter(group=LIMITS, help="Bytes of all answers with IP headers, e.g. 4TB/month or 100GB/day (UTC)."),
    ] = None

    def limits(self) -> Limits:
        """The limits that the flags ask for."""
        return Limits(
            client_rate=self.client_rate,
            client_burst=self.client_burst,
            client_leak=self.client_leak,
            client_prefix=self.client_prefix,
            clients=self.clients,
            kod=self.kod,
            allow=tuple(self.allow),
            deny=tuple(self.deny),
            monitors=tuple(self.monitors),
            max_rate=self.max_rate,
            quota=self.quota,
        )


@dataclass
class Operation:
    """How the server is operated."""

    config: Annotated[
        str | None,
        Parameter(
            group=OPERATION,
            help="Take these flags from a TOML file, too; flags on the command line win. SIGHUP reads it again.",
        ),
    ] = None
    usage_file: Annotated[
        str | None, Parameter(group=OPERATION, help="Keep here what is used of the quota, for the next start.")
    ] = None
    control: Annotated[str | None, Parameter(group=OPERATION, help="Answer `flatout control` at this Unix socket.")] = (
        None
    )
    prometheus: Annotated[
        str | None,
        Parameter(group=OPERATION, help="Serve metrics for Prometheus at this address, e.g. 127.0.0.1:9123."),
    ] = None
    user: Annotated[
        str | None, Parameter(group=OPERATION, help="Become USER or USER:GROUP once all sockets are bound.")
    ] = None
    chroot: Annotated[
        str | None,
        Parameter(group=OPERATION, help="Then make this the root directory; files that are read later must be in it."),
    ] = None
