"""Divides a load by what each host can drive: its CPUs are its weight, its ports and descriptors a bound. Pure."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Sequence

import msgspec

from flatout.errors import UsageError
from flatout.fleet.cluster import FleetHost
from flatout.plan import targets
from flatout.scenario.exchange import exchange_of
from flatout.scenario.model import Scenario
from flatout.scenario.nodes import Share
from flatout.scenario.target import split as split_target
from flatout.scenario.target import split_targets


def split(scenario: Scenario, hosts: Sequence[FleetHost]) -> list[Scenario]:
    """The part of each host.

    A thread drives no more for there being more CPUs, so the weight is that of the threads that have one each. One-way
    messages are divided evenly, as their senders are. Errors: UsageError, with what the fleet can hold, where that is
    less.
    """
    of, named = len(hosts), scenario.askers + scenario.hold
    most = [_most(scenario, host, hosts) for host in hosts]
    if sum(most) < named:
        what = "connections" if scenario.streams else "flows"
        each = ", ".join(f"{host.capabilities.hostname} {bound:,}" for host, bound in zip(hosts, most, strict=True))
        raise UsageError(
            f"{named:,} {what}, and this fleet can hold {sum(most):,}, by ports and descriptors ({each}): ask for "
            "fewer, give hosts more source addresses or a higher limit on descriptors, or start more workers"
        )
    weights = [min(host.capabilities.cpus, scenario.threads) for host in hosts]
    least = [min(scenario.threads, named // of, bound) for bound in most]
    units = divided(named, weights, least, most)
    free = all(scenario.threads < unit < bound for unit, bound in zip(units, most, strict=True))
    # Where no bound is near, the rate is divided exactly by weight, and not by what whole connections allow.
    shares = consecutive(weights if free else units)
    even = len(set(weights)) == 1 and (free or max(units) - min(units) <= 1)
    if even or exchange_of(scenario).one_way:
        return [msgspec.structs.replace(scenario, node=(n, of)) for n in range(1, of + 1)]
    return [msgspec.structs.replace(scenario, node=(n, of), share=share) for n, share in enumerate(shares, 1)]


def divided(total: int, weights: Sequence[int], least: Sequence[int], most: Sequence[int]) -> list[int]:
    """Whole numbers in the ratio of the weights, within the bounds, whose sum is the total (largest remainders).

    The bounds must allow for the total.
    """
    found: dict[int, int] = {}
    while True:
        open_ones = [n for n in range(len(weights)) if n not in found]
        rest, whole = total - sum(found.values()), sum(weights[n] for n in open_ones)
        low = [n for n in open_ones if rest * weights[n] < least[n] * whole]
        high = [n for n in open_ones if rest * weights[n] > most[n] * whole]
        if not low and not high:
            break
        # What those below their bound lack, or those above have too much: the larger of both is certain to stay.
        lacking = sum(least[n] * whole - rest * weights[n] for n in low)
        beyond = sum(rest * weights[n] - most[n] * whole for n in high)
        found |= {n: least[n] for n in low} if lacking >= beyond else {n: most[n] for n in high}
    parts = {n: divmod(rest * weights[n], whole) for n in open_ones}
    more = sorted(open_ones, key=lambda n: (-parts[n][1], n))[: rest - sum(part for part, _ in parts.values())]
    found |= {n: part + (n in more) for n, (part, _) in parts.items()}
    return [found[n] for n in range(len(weights))]


def consecutive(units: Sequence[int]) -> list[Share]:
    """The share of each: one behind the other."""
    return [(sum(units[:n]), mine, sum(units)) for n, mine in enumerate(units)]


def _most(scenario: Scenario, host: FleetHost, hosts: Sequence[FleetHost]) -> int:
    """How many flows or connections a host can hold."""
    capable, bounds = host.capabilities, [scenario.askers + scenario.hold]
    addresses = max(len(targets.sources(scenario.sources, bounds[0], (1, len(hosts)))), 1)
    if not _on_loopback(scenario):
        # Several workers may share a host's ports.
        workers = Counter(one.capabilities.network for one in hosts)[capable.network]
        bounds.append(capable.ports * addresses // workers)
    by_ring = scenario.streams and scenario.io != "epoll" and capable.io_uring
    shared = not scenario.streams and addresses > 1
    if not by_ring and not shared and scenario.link != "xdp":
        bounds.append(capable.descriptors)
    # Connections that ask and those that wait are rounded apart.
    return min(bounds) - (scenario.hold > 0)


def _on_loopback(scenario: Scenario) -> bool:
    """Whether hosts choose among many source addresses of their own."""
    host = split_target(split_targets(scenario.target)[0], 1)[0].partition("%")[0]
    try:
        return scenario.streams and ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
