"""`LoadPlan`: all that the engine needs for one run, as one typed object."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any

import msgspec

from flatout.plan.targets import Address, Endpoint
from flatout.protocols.base import Protocol
from flatout.scenario import nodes, streams
from flatout.scenario.model import Arrivals, Io, LogFormat, Scenario, Segment, Transport, Wait
from flatout.scenario.target import apart, split


class Ticks(msgspec.Struct, frozen=True):
    """The senders of one-way messages, and the share of a tick in which all of them send."""

    senders: int
    spread: float


class Node(msgspec.Struct, frozen=True):
    """The share of one of several hosts in the schedule: node `index`, from 0, of `of`."""

    index: int
    of: int


class PingPong(msgspec.Struct, frozen=True):
    """One request at a time for each worker: how its reply is awaited, and how long the kernel may busy-poll (µs)."""

    wait: Wait
    busy_poll_us: int


class Log(msgspec.Struct, frozen=True):
    """A file with one row for each request."""

    path: str
    format: LogFormat


class Tls(msgspec.Struct, frozen=True):
    """What TLS needs: the server's name, whether to verify it, against which PEM file, whether to resume sessions."""

    name: str
    verify: bool
    authorities: str | None
    resume: bool


class ConnectionPolicy(msgspec.Struct, frozen=True):
    """How connections are opened, replaced and carried."""

    connect_per_s: float
    connect_timeout_ns: int
    churn: int
    hold: int
    reconnect: bool
    io: Io
    tls: Tls


class LoadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A run, resolved. The engine reads it by these names (crates/engine/src/plan.rs says what each one means)."""

    protocol: str
    options: list[tuple[str, int]]
    targets: list[Endpoint]
    ticks: Ticks
    link: Transport
    sources: list[IPv4Address | IPv6Address]
    flows: int
    lines: list[str]
    queries: str | None
    policy: ConnectionPolicy
    node: Node
    start_at_unix_ns: int | None
    profile: tuple[Segment, ...]
    warmup_ns: int
    timeout_ns: int
    arrivals: Arrivals
    ping_pong: PingPong | None
    seed: int
    workers: int
    cpus: tuple[int, ...]
    stamps: bool
    segmented: bool
    log: Log | None


def load_plan(
    scenario: Scenario, protocol: Protocol, options: Any, endpoints: list[Endpoint], sources: list[Address]
) -> LoadPlan:
    """The plan of a scenario that has been checked; `options` are the protocol's own."""
    index, of = scenario.node or (1, 1)
    return LoadPlan(
        protocol=protocol.name,
        options=protocol.numbers(options),
        targets=endpoints,
        ticks=Ticks(scenario.senders, scenario.spread),
        link=scenario.transport,
        sources=list(sources),
        flows=nodes.part(scenario.askers, scenario.node),
        lines=[] if scenario.queries is not None else protocol.query_lines(options),
        queries=scenario.queries,
        policy=_policy(scenario, protocol),
        node=Node(index - 1, of),
        start_at_unix_ns=None if scenario.start_at is None else streams.unix_ns(scenario.start_at),
        profile=scenario.profile,
        warmup_ns=round(scenario.warmup_s * 1e9),
        timeout_ns=round(scenario.timeout_s * 1e9),
        arrivals=scenario.arrivals,
        ping_pong=PingPong(scenario.wait, scenario.busy_poll_us) if scenario.ping_pong else None,
        seed=scenario.seed % 2**64,
        workers=scenario.threads,
        cpus=scenario.cpus,
        stamps=scenario.stamps == "kernel",
        segmented=scenario.gso,
        log=None if scenario.log is None else Log(scenario.log, scenario.log_format),
    )


def _policy(scenario: Scenario, protocol: Protocol) -> ConnectionPolicy:
    tls = scenario.tls
    host, _ = split(apart(scenario.target)[0], protocol.port)
    _, of = scenario.node or (1, 1)
    return ConnectionPolicy(
        # The rate, like the schedule's, is that of all nodes together.
        connect_per_s=scenario.connect_rate_per_s / of,
        connect_timeout_ns=round(scenario.connect_timeout_s * 1e9),
        churn=scenario.churn,
        hold=nodes.part(scenario.hold, scenario.node),
        reconnect=scenario.reconnect,
        io=scenario.io,
        tls=Tls(tls.server_name or host, tls.verify, tls.ca, tls.resume),
    )
