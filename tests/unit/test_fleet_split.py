"""Dividing a load among hosts that differ: exact sums, by weight, within what each can hold."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.errors import UsageError
from flatout.fleet.cluster import FleetHost
from flatout.fleet.split import consecutive, divided, split
from flatout.fleet.worker import Capabilities
from flatout.scenario import nodes, streams
from flatout.scenario.model import Scenario, Segment

HOST = st.tuples(st.integers(1, 64), st.integers(0, 50), st.integers(0, 10_000))


@given(hosts=st.lists(HOST, min_size=1, max_size=12), pick=st.randoms())
def test_parts_add_up_and_keep_the_bounds(hosts: list[tuple[int, int, int]], pick: Any) -> None:
    weights, least, more = (list(column) for column in zip(*hosts, strict=True))
    most = [low + room for low, room in zip(least, more, strict=True)]
    total = pick.randint(sum(least), sum(most))
    found = divided(total, weights, least, most)
    assert sum(found) == total
    assert all(low <= part <= high for low, part, high in zip(least, found, most, strict=True))
    # Who weighs more gets no less, unless a bound says so.
    for n, part in enumerate(found):
        for m, other in enumerate(found):
            if weights[n] >= weights[m] and least[n] < part < most[n] and least[m] < other < most[m]:
                assert part >= other - (weights[n] == weights[m])


@given(weights=st.lists(st.integers(1, 1000), min_size=1, max_size=20), total=st.integers(0, 10**7))
def test_without_bounds_nobody_is_off_by_one(weights: list[int], total: int) -> None:
    found = divided(total, weights, [0] * len(weights), [total] * len(weights))
    for weight, part in zip(weights, found, strict=True):
        assert abs(part - total * weight / sum(weights)) < 1


@given(weights=st.lists(st.integers(1, 1000), min_size=1, max_size=20), total=st.integers(0, 10**7))
def test_parts_by_share_add_up(weights: list[int], total: int) -> None:
    shares = consecutive(weights)
    parts = [nodes.part(total, (n, len(weights)), share) for n, share in enumerate(shares, 1)]
    assert sum(parts) == total
    assert sum(nodes.fraction(None, share) for share in shares) == pytest.approx(1)
    for weight, part in zip(weights, parts, strict=True):
        assert abs(part - total * weight / sum(weights)) < 1


def host(name: str, **changes: Any) -> FleetHost:
    usual: dict[str, Any] = {"cpus": 4, "descriptors": 10_000, "io_uring": True, "ports": 28_000, "network": name}
    about = Capabilities(hostname=name, flatout="1", python="3", kernel="6", **usual | changes)
    return FleetHost(address=name, capabilities=about)


SCENARIO = Scenario(
    protocol="echo",
    target="10.0.0.9",
    profile=(Segment(seconds=1.0, from_per_s=100.0, to_per_s=100.0),),
    transport="tcp",
    connections=600,
)


def parts(hosts: list[FleetHost], **changes: Any) -> list[int]:
    return [streams.askers(one) for one in split(msgspec.structs.replace(SCENARIO, **changes), hosts)]


def test_threads_with_a_cpu_each_are_the_weight() -> None:
    hosts = [host("a", cpus=1), host("b", cpus=2), host("c", cpus=64)]
    found = split(msgspec.structs.replace(SCENARIO, threads=3), hosts)
    assert [one.share for one in found] == [(0, 1, 6), (1, 2, 6), (3, 3, 6)]
    assert [one.node for one in found] == [(1, 3), (2, 3), (3, 3)]
    assert [streams.askers(one) for one in found] == [100, 200, 300]
    # One thread drives as much on any of them.
    assert {one.share for one in split(SCENARIO, hosts)} == {None}
    assert parts(hosts) == [200, 200, 200]


def test_a_host_gets_no_more_than_its_ports_and_descriptors_allow() -> None:
    assert parts([host("a", ports=50), host("b"), host("c")]) == [50, 275, 275]
    assert parts([host("a", descriptors=70), host("b")], connections=600) == [300, 300], "io_uring needs none"
    assert parts([host("a", descriptors=70), host("b")], io="epoll") == [70, 530]
    assert parts([host("a", ports=100, network="n"), host("b", ports=100, network="n"), host("c")]) == [50, 50, 500]
    found = split(msgspec.structs.replace(SCENARIO, hold=300), [host("a", ports=100), host("b")])
    assert [streams.connections(one) for one in found] == [99, 801]
    # The rate goes with the connections.
    assert nodes.fraction(found[0].node, found[0].share) == 99 / 900


def test_more_than_the_fleet_can_hold_is_refused_with_what_it_can() -> None:
    with pytest.raises(UsageError, match=r"600 connections, and this fleet can hold 150.*\(a 50, b 100\)"):
        parts([host("a", ports=50), host("b", ports=100)])
    assert parts([host("a", ports=50), host("b", ports=100)], connections=150) == [50, 100]
    # Loopback has many source addresses.
    assert parts([host("a", ports=50), host("b", ports=100)], target="127.0.0.1") == [300, 300]


def test_several_source_addresses_have_more_ports() -> None:
    sources = ("10.0.1.0/30", "10.0.2.0/30")
    assert parts([host("a", ports=150), host("b", ports=200)], sources=sources) == [300, 300]
