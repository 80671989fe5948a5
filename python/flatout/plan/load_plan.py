"""What the engine needs for a load, as one typed object.

The engine takes each field by its name; `crates/engine/src/plan.rs` has the same names. Times are in ns.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from flatout.plan.addresses import Endpoint
from flatout.plan.xdp import XdpPlan
from flatout.scenario.model import Io, Segment, Transport, Wait


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """TLS of the connections; `name` is the server's, `authorities` a PEM file in place of the system's."""

    name: str = ""
    verify: bool = False
    authorities: str | None = None
    resume: bool = False


class ConnectionPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How connections are opened, replaced and kept."""

    connect_per_s: float
    connect_timeout_ns: int
    churn: int
    hold: int
    reconnect: bool
    io: Io
    tls: Tls


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """Part of the schedule for one host: number `index`, from 0, of `of`."""

    index: int
    of: int


class Portion(msgspec.Struct, frozen=True):
    """Part of the schedule for one host where hosts are unequal: `mine` units of `total`, after `before` of others."""

    before: int
    mine: int
    total: int


class Ticks(msgspec.Struct, frozen=True, kw_only=True):
    """The senders of one-way messages, and the share of a tick in which all of them send."""

    senders: int
    spread: float


class PingPong(msgspec.Struct, frozen=True, kw_only=True):
    """How a thread waits for the reply to its one outstanding request."""

    wait: Wait
    busy_poll_us: int


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """A file with one row per request; `tcpscaler`: in the format of tcpscaler's clients."""

    path: str
    tcpscaler: bool


class LoadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A load with every name resolved and every default filled in: this host's part of it.

    `held`: the engine waits for the start to be told (`LoadRun.start_at`) once all connections stand.
    """

    protocol: str
    options: list[tuple[str, int]]
    lines: list[str]
    queries: str | None
    targets: list[Endpoint]
    sources: list[Endpoint]
    link: Transport
    flows: int
    shared_sockets: bool
    policy: ConnectionPolicy
    ticks: Ticks
    node: Share
    portion: Portion | None = None
    start_at_unix_ns: int | None
    held: bool = False
    profile: tuple[Segment, ...]
    warmup_ns: int
    timeout_ns: int
    arrivals: Literal["constant", "poisson"]
    ping_pong: PingPong | None
    seed: int
    workers: int
    cpus: tuple[int, ...]
    shares_cpus: bool
    slow_after_ns: int | None
    brief_drain: bool
    target_schedstats: list[str]
    stamps: bool
    segmented: bool
    log: Log | None
    xdp: XdpPlan | None = None
