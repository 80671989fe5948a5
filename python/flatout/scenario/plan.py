"""From what was asked to what the engine is given: names resolved, this host's limits checked."""

from __future__ import annotations

import math
import os
from typing import Any

import msgspec

from flatout import units
from flatout.errors import UsageError
from flatout.protocols import PROTOCOLS
from flatout.protocols.base import Protocol, knob_values
from flatout.scenario import capacity, require, share, streams, target
from flatout.scenario.model import Scenario, Segment

_LONGEST_TIMEOUT_S = 60.0


class Plan(msgspec.Struct, frozen=True):
    """A scenario resolved: where to, from where, the engine's own arguments; `notes` say what is worth knowing.

    `others`: further addresses of the target, for when nobody can be connected to at this one.
    """

    scenario: Scenario
    endpoint: target.Endpoint
    sources: list[target.Address]
    engine: dict[str, Any]
    notes: list[str] = []
    others: list[target.Endpoint] = []


def protocol(name: str) -> Protocol:
    """A protocol by name, or UsageError."""
    if name not in PROTOCOLS:
        raise UsageError(f"protocol '{name}' is not one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def make(scenario: Scenario, which: int = 0) -> Plan:
    """Checks and resolves; of several addresses of the target it takes number `which`.

    Errors: UsageError (nothing is sent), TargetError for an unknown name.
    """
    spoken = protocol(scenario.protocol)
    streams.check(scenario, spoken)
    _check_numbers(scenario)
    _check_file(scenario.queries)
    for expression in scenario.require:
        require.check(expression)
    endpoints = target.addresses(scenario.target, spoken.port_over(scenario.transport))
    endpoint = endpoints[which]
    target.guard(endpoint, scenario.allow_public)
    room = capacity.room()
    scenario, sources, notes = _sources(scenario, endpoint, room)
    tight = _check_room(scenario, sources, endpoint, room)
    engine = _engine(scenario, spoken, endpoint, sources)
    return Plan(scenario, endpoint, sources, engine, notes + tight, others=endpoints[which + 1 :])


def most_connections(scenario: Scenario) -> int:
    """How many connections a search may try on this host unless told."""
    endpoint = target.resolve(scenario.target, protocol(scenario.protocol).port_over(scenario.transport))
    return capacity.most_connections(scenario, endpoint, capacity.room())


def _check_numbers(scenario: Scenario) -> None:
    if not scenario.profile or scenario.duration_s <= 0:
        raise UsageError("a load must last longer than 0 s")
    if not all(_makes_sense(segment) for segment in scenario.profile):
        raise UsageError("each part of a profile needs a time above 0 s and rates from 0 to 200 M/s")
    if scenario.threads < 1 or scenario.flows < 1:
        raise UsageError(f"{scenario.threads} threads and {scenario.flows} flows: give at least one of each")
    askers = share.part(scenario.askers, scenario.node)
    if scenario.threads > askers:
        what = "connection" if scenario.streams else "flow"
        raise UsageError(f"{scenario.threads} threads need at least one {what} each (there are {askers})")
    if not 0 < scenario.timeout_s <= _LONGEST_TIMEOUT_S:
        raise UsageError(f"the time-out must be above 0 and at most {_LONGEST_TIMEOUT_S:.0f} s")
    if not 0 <= scenario.warmup_s < math.inf:
        raise UsageError("the warm-up must be a time from 0 s on")
    allowed = os.sched_getaffinity(0)
    if missing := set(scenario.cpus) - allowed:
        raise UsageError(f"CPUs {sorted(missing)} are not among those this process may use: {sorted(allowed)}")


def _check_file(queries: str | None) -> None:
    """The engine reads it; what is in it is checked there, line by line."""
    if queries is None:
        return
    if not os.access(queries, os.R_OK) or os.path.isdir(queries):
        raise UsageError(f"the query file '{queries}' cannot be read (is it there, is it yours?)")


def _makes_sense(segment: Segment) -> bool:
    rates = (segment.from_per_s, segment.to_per_s)
    return 0 < segment.seconds < math.inf and all(0 <= per_s <= units.MOST_PER_S for per_s in rates)


def _sources(
    scenario: Scenario, endpoint: target.Endpoint, room: capacity.Room
) -> tuple[Scenario, list[target.Address], list[str]]:
    """Where to send from; on loopback chosen here where one address has too few ports, and then said."""
    wanted = streams.connections(scenario)
    if scenario.sources or not scenario.streams:
        return scenario, target.sources(scenario.sources, wanted, scenario.node), []
    nodes = scenario.node[1] if scenario.node else 1
    networks = capacity.loopback_sources(wanted, nodes, endpoint, room)
    if not networks:
        return scenario, [], []
    found = target.sources(networks, wanted, scenario.node)
    note = f"{wanted:,} connections need more ports than one address has: sent from {found[0]} to {found[-1]}"
    return msgspec.structs.replace(scenario, sources=networks), found, [note]


def _check_room(
    scenario: Scenario, sources: list[target.Address], endpoint: target.Endpoint, room: capacity.Room
) -> list[str]:
    if any(source.version != endpoint.address.version for source in sources):
        raise UsageError(f"sources and target {endpoint.address} must both be IPv4 or both IPv6")
    if scenario.sources and not sources:
        raise UsageError("the sources named contain no address")
    wanted, what = streams.connections(scenario), "connections" if scenario.streams else "flows"
    capacity.check_ports(wanted, len(sources), room, what=what)
    capacity.check_files(wanted, scenario, room, what=what)
    tight = capacity.check_memory(wanted, endpoint, room) if scenario.streams else None
    return [tight] if tight else []


def _engine(
    scenario: Scenario, spoken: Protocol, endpoint: target.Endpoint, sources: list[target.Address]
) -> dict[str, Any]:
    try:
        knobs = spoken.knobs(**scenario.options)
    except TypeError as error:
        raise UsageError(f"{spoken.name} has no such option: {error}") from error
    return {
        "protocol": spoken.name,
        "knobs": list(knob_values(knobs).items()),
        "target": endpoint,
        "others": [],
        "senders": 1,
        "spread": 1.0,
        "sources": sources,
        "profile": [(s.seconds, s.from_per_s, s.to_per_s) for s in scenario.profile],
        "warmup_ns": round(scenario.warmup_s * 1e9),
        "timeout_ns": round(scenario.timeout_s * 1e9),
        "poisson": scenario.arrivals == "poisson",
        "seed": scenario.seed % 2**64,
        "workers": scenario.threads,
        "cpus": list(scenario.cpus),
        "stamps": scenario.stamps == "kernel",
        "segmented": scenario.gso,
        "log": scenario.log,
        **streams.arguments(scenario, spoken, target.split(scenario.target, spoken.port)[0]),
    }
