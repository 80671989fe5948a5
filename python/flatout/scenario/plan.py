"""From what was asked to what the engine is given: names resolved, this host's limits checked."""

from __future__ import annotations

import math
import os
import resource
from pathlib import Path
from typing import Any

import msgspec

from flatout import units
from flatout.errors import UsageError
from flatout.protocols import PROTOCOLS
from flatout.protocols.base import Protocol, knob_values
from flatout.scenario import require, target
from flatout.scenario.model import Scenario, Segment

# Python, its libraries, pipes and the log need some of their own.
_OTHER_DESCRIPTORS = 64
_LONGEST_TIMEOUT_S = 60.0


class Plan(msgspec.Struct, frozen=True):
    """A scenario resolved: where to, from where, and the engine's own arguments."""

    scenario: Scenario
    endpoint: target.Endpoint
    sources: list[target.Address]
    engine: dict[str, Any]


def protocol(name: str) -> Protocol:
    """A protocol by name, or UsageError."""
    if name not in PROTOCOLS:
        raise UsageError(f"protocol '{name}' is not one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def make(scenario: Scenario) -> Plan:
    """Checks and resolves. Errors: UsageError (nothing is sent), TargetError for an unknown name."""
    spoken = protocol(scenario.protocol)
    _check_numbers(scenario)
    for expression in scenario.require:
        require.check(expression)
    endpoint = target.resolve(scenario.target, spoken.port)
    target.guard(endpoint, scenario.allow_public)
    sources = target.sources(scenario.sources, scenario.flows)
    _check_flows(scenario, sources, endpoint)
    return Plan(scenario, endpoint, sources, _engine(scenario, spoken, endpoint, sources))


def _check_numbers(scenario: Scenario) -> None:
    if not scenario.profile or scenario.duration_s <= 0:
        raise UsageError("a load must last longer than 0 s")
    if not all(_makes_sense(segment) for segment in scenario.profile):
        raise UsageError("each part of a profile needs a time above 0 s and rates from 0 to 200 M/s")
    if scenario.threads < 1 or scenario.flows < 1:
        raise UsageError(f"{scenario.threads} threads and {scenario.flows} flows: give at least one of each")
    if scenario.threads > scenario.flows:
        raise UsageError(f"{scenario.threads} threads need at least one flow each (there are {scenario.flows})")
    if not 0 < scenario.timeout_s <= _LONGEST_TIMEOUT_S:
        raise UsageError(f"the time-out must be above 0 and at most {_LONGEST_TIMEOUT_S:.0f} s")
    if not 0 <= scenario.warmup_s < math.inf:
        raise UsageError("the warm-up must be a time from 0 s on")
    allowed = os.sched_getaffinity(0)
    if missing := set(scenario.cpus) - allowed:
        raise UsageError(f"CPUs {sorted(missing)} are not among those this process may use: {sorted(allowed)}")


def _makes_sense(segment: Segment) -> bool:
    rates = (segment.from_per_s, segment.to_per_s)
    return 0 < segment.seconds < math.inf and all(0 <= per_s <= units.MOST_PER_S for per_s in rates)


def _check_flows(scenario: Scenario, sources: list[target.Address], endpoint: target.Endpoint) -> None:
    if any(source.version != endpoint.address.version for source in sources):
        raise UsageError(f"sources and target {endpoint.address} must both be IPv4 or both IPv6")
    if scenario.sources and not sources:
        raise UsageError("the sources named contain no address")
    ports = local_ports() * max(len(sources), 1)
    if scenario.flows > ports:
        raise UsageError(
            f"{scenario.flows:,} flows need as many source ports, and there are {ports:,}: name more source addresses "
            "with --sources (127.0.0.0/24 for a target on loopback), or widen net.ipv4.ip_local_port_range"
        )
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1] - _OTHER_DESCRIPTORS
    if scenario.flows > descriptors:
        raise UsageError(
            f"{scenario.flows:,} flows need as many descriptors, and this process may hold {descriptors:,}: "
            "ask for fewer flows, or raise the hard limit (ulimit -Hn, systemd's LimitNOFILE)"
        )


def local_ports() -> int:
    """How many ports the kernel gives out for each source address."""
    try:
        low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()
        return int(high) - int(low) + 1
    except (OSError, ValueError):
        return 28_232


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
        "sources": sources,
        "flows": scenario.flows,
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
    }
