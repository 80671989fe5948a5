"""The scenario: what was asked, with every default filled in, as frozen types that can be stored and run again."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Arrivals = Literal["constant", "poisson", "ping-pong"]
Wait = Literal["sleep", "spin"]
Stamps = Literal["kernel", "user"]
Transport = Literal["udp", "tcp", "tls"]
Io = Literal["auto", "io_uring", "epoll"]
Carrier = Literal["socket", "xdp"]
LogFormat = Literal["flatout", "tcpscaler"]


DEFAULT_CONNECTIONS = 100


class Segment(msgspec.Struct, frozen=True):
    """A stretch of `seconds` in which the rate goes linearly from one value to another (requests per second)."""

    seconds: float
    from_per_s: float
    to_per_s: float


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """How to speak TLS: `server_name` (null: the target's) goes into SNI and is checked if `verify`, against `ca`."""

    server_name: str | None = None
    verify: bool = False
    ca: str | None = None
    resume: bool = True


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One load: target, protocol, how fast, how long and from where. Durations in s, `profile` in order.

    `flows` are source sockets that the far end can tell apart; `sources` are networks or addresses to send from;
    `options` are the protocol's own options. Over streams there are `connections` instead of flows: opened at
    `connect_rate_per_s`, each replaced after `churn` requests (0: never), `hold` idle ones kept beside them.
    Where nothing comes back, messages are numbered by `senders`, each of which sends once a tick (the time in which the
    profile passes one message of each), all of them within the share `spread` of it.
    With the arrivals "ping-pong" each thread has one request under way, and the next leaves when it has ended: the
    rates of the profile are then 0, `wait` says how its answer is awaited, and the kernel may poll a network card's
    queue for it for `busy_poll_us`.
    With the `link` "xdp" frames go by the driver of `interface` (null: that of the route) past the kernel's sockets, to
    the hardware address `gateway_mac` (null: that of the next hop).
    `node` is (i, n): this is the i-th of n hosts, counted from 1, and all numbers are those of all hosts together.
    Their parts are equal, or by `share`: (units of the hosts before, units of this one, units of all).
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
    log_format: LogFormat = "flatout"
    allow_public: bool = False
    transport: Transport = "udp"
    connections: int | None = None
    connect_rate_per_s: float = 20_000.0
    connect_timeout_s: float = 5.0
    churn: int = 0
    hold: int = 0
    reconnect: bool = False
    io: Io = "auto"
    tls: Tls = Tls()
    queries: str | None = None
    node: tuple[int, int] | None = None
    share: tuple[int, int, int] | None = None
    start_at: str | None = None
    senders: int = 1
    spread: float = 1.0
    wait: Wait = "sleep"
    busy_poll_us: int = 0
    link: Carrier = "socket"
    interface: str | None = None
    gateway_mac: str | None = None
    options: dict[str, Any] = {}

    @property
    def streams(self) -> bool:
        """Whether connections carry the requests."""
        return self.transport != "udp"

    @property
    def ping_pong(self) -> bool:
        """Whether each request waits for the end of the last one."""
        return self.arrivals == "ping-pong"

    @property
    def askers(self) -> int:
        """How many flows or connections ask, over all nodes."""
        if not self.streams:
            return self.flows
        return DEFAULT_CONNECTIONS if self.connections is None else self.connections

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
