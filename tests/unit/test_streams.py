"""Connections as they are asked for: what fits together, what this host can open, and each node's share."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.errors import UsageError
from flatout.plan import capacity, targets
from flatout.plan import resolve as plan
from flatout.plan.capacity import Room
from flatout.plan.load_plan import Share, Tls
from flatout.protocols import PROTOCOLS
from flatout.scenario import nodes, streams
from flatout.scenario.build import scenario_of
from flatout.scenario.model import Scenario, Segment

PLAIN = next(name for name, protocol in PROTOCOLS.items() if protocol.links == ("udp",))
ASKING = next(name for name, protocol in PROTOCOLS.items() if protocol.default_lines)
STREAMY = next(name for name, protocol in PROTOCOLS.items() if protocol.links[0] == "tcp")
ROOM = Room(ports=28_000, files=20_000, memory=24 * 2**30, io_uring=True)
LOOPBACK = targets.Endpoint(ipaddress.ip_address("127.0.0.1"), 5, 0)
AWAY = targets.Endpoint(ipaddress.ip_address("10.0.0.2"), 5, 0)


def scenario(name: str = ASKING, where: str = "127.0.0.1:5", **options: Any) -> Scenario:
    asked: dict[str, Any] = {"rate": 1000, "duration": 1.0, "profile": None, **options}
    return scenario_of(name, where, **asked)


def made(monkeypatch: pytest.MonkeyPatch, asked: Scenario, room: Room = ROOM) -> plan.Plan:
    monkeypatch.setattr(capacity, "room", lambda: room)
    monkeypatch.setattr(capacity, "_free_files", lambda: None)
    return plan.make(asked)


def test_the_transport_is_the_protocols_own_choice() -> None:
    assert (scenario(PLAIN).transport, scenario(PLAIN).connections) == ("udp", None)
    assert (scenario(STREAMY).transport, scenario(STREAMY).connections) == ("tcp", 100)
    assert scenario(STREAMY, transport="udp").connections is None


def test_over_udp_connections_are_flows() -> None:
    assert scenario(connections="2k").flows == 2000
    with pytest.raises(UsageError, match="one of them"):
        scenario(connections=5, flows=5)
    with pytest.raises(UsageError, match="--connections instead"):
        scenario(transport="tcp", flows=5)


def test_text_and_numbers_mean_the_same() -> None:
    text = scenario(transport="tcp", connections="20k", churn="1k", hold="5", connect_rate="10k", connect_timeout="2s")
    assert text == scenario(
        transport="tcp", connections=20_000, churn=1000, hold=5, connect_rate=10_000, connect_timeout=2
    )
    assert scenario(node="2/3") == scenario(node=(2, 3))
    assert scenario(start_at=1_773_500_966.5).start_at == "1773500966.5"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"name": PLAIN, "transport": "tcp"}, "it has udp"),
        ({"transport": "udp", "hold": 5}, "--hold is for connections.*--transport tcp"),
        ({"transport": "udp", "churn": 5}, "--churn"),
        ({"transport": "udp", "reconnect": True}, "--reconnect"),
        ({"transport": "udp", "require": ["closed<1%"]}, "connections"),
        ({"transport": "udp", "io": "epoll"}, "--io"),
        ({"transport": "tcp", "gso": True}, "--gso"),
        ({"transport": "tcp", "tls": {"verify": True}}, "--transport tls"),
        ({"transport": "tcp", "connections": 0}, "at least one"),
        ({"transport": "tcp", "connections": "1.5"}, "number"),
        ({"transport": "tcp", "churn": -1}, "from 0 on"),
        ({"transport": "tcp", "connect_timeout": 0}, "connect_timeout=0: give a time above 0 s"),
        ({"transport": "tcp", "connections": 2, "threads": 3}, "at least one connection each"),
        ({"transport": "tcp", "connections": 2, "node": "3/3"}, "at least one connection each"),
        ({"name": PLAIN, "queries": "/etc/hosts"}, "no query file"),
        ({"queries": "/nowhere/names.txt"}, "'/nowhere/names.txt' cannot be read"),
        ({"queries": "/etc"}, "cannot be read"),
        ({"node": (4, 3)}, "count from 1"),
        ({"node": "0/3"}, "count from 1"),
        ({"node": "two"}, "2/3"),
        ({"start_at": "soon"}, "2026"),
        ({"start_at": "2026-03-14T15:09:26"}, "time zone"),
        ({"start_at": "nan"}, "2026"),
    ],
    ids=str,
)
def test_what_does_not_fit_together_is_bad_use(options: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        plan.make(scenario(**options))


@pytest.mark.parametrize("moment", ["2026-03-14T15:09:26Z", "2026-03-14T16:09:26+01:00", "1773500966", "1773500966.0"])
def test_moments(moment: str) -> None:
    assert streams.unix_ns(moment) == 1_773_500_966_000_000_000


def test_the_engine_gets_every_setting_of_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    tls = {"server_name": None, "verify": True, "ca": "/ca.pem", "resume": False}
    engine = made(monkeypatch, scenario(where="localhost:5", transport="tls", tls=tls)).engine
    assert engine.link == "tls"
    assert engine.policy.tls == Tls(name="localhost", verify=True, authorities="/ca.pem", resume=False)


def test_lines_of_ones_own_take_the_place_of_the_protocols(monkeypatch: pytest.MonkeyPatch) -> None:
    own, file = made(monkeypatch, scenario()).engine, made(monkeypatch, scenario(queries=__file__)).engine
    assert (own.lines, own.queries) == (list(PROTOCOLS[ASKING].default_lines), None)
    assert (file.lines, file.queries) == ([], __file__)


def test_on_loopback_more_ports_are_found_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    few = made(monkeypatch, scenario(transport="tcp", connections=14_000))
    assert (few.sources, few.notes, few.scenario.sources) == ([], [], ())
    many = made(monkeypatch, scenario(transport="tcp", connections=1_000_000))
    assert many.scenario.sources == ("127.0.0.0/25",)
    assert 1_000_000 / len(many.sources) <= 14_000
    assert many.notes == [
        "1,000,000 connections need more ports than one address has: sent from 127.0.0.1 to 127.0.0.126"
    ]
    assert made(monkeypatch, many.scenario).sources == many.sources, "and the same when it is run again"


def test_held_connections_take_ports_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert made(monkeypatch, scenario(transport="tcp", connections=10, hold=14_000)).sources


@pytest.mark.parametrize("where", ["10.0.0.2:5", "[::1]:5"])
def test_elsewhere_the_remedy_is_said_before_it_happens(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    with pytest.raises(UsageError, match=r"28,001 connections.*--sources NET.*ip_local_port_range"):
        made(monkeypatch, scenario(where=where, transport="tcp", connections=28_001))


def test_io_uring_needs_no_descriptors_and_epoll_does(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {"transport": "tcp", "connections": 20_001}
    made(monkeypatch, scenario(**asked))
    with pytest.raises(UsageError, match=r"descriptors.*io_uring"):
        made(monkeypatch, scenario(io="epoll", **asked))
    without = ROOM._replace(io_uring=False)
    with pytest.raises(UsageError, match="descriptors"):
        made(monkeypatch, scenario(**asked), without)
    # What is asked for and refused here the engine names, with the kernel's reason.
    made(monkeypatch, scenario(io="io_uring", **asked), without)


def test_memory_is_looked_at_before(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = scenario(transport="tcp", connections=100_000)
    assert len(made(monkeypatch, asked).notes) == 1
    tight = made(monkeypatch, asked, ROOM._replace(memory=2**30 * 3 // 2)).notes
    assert "100,000 connections take about 1.0 GiB of kernel memory" in tight[1]
    with pytest.raises(UsageError, match=r"both ends.*fewer connections"):
        made(monkeypatch, asked, ROOM._replace(memory=2**29))


def test_a_search_stays_within_what_the_host_has() -> None:
    asked = scenario(transport="tcp")
    assert capacity.most_connections(asked, LOOPBACK, ROOM) == 100_000
    assert capacity.most_connections(asked, AWAY, ROOM) == 28_000
    assert capacity.most_connections(scenario(transport="tcp", io="epoll"), AWAY, ROOM) == 20_000
    assert capacity.most_connections(asked, LOOPBACK, ROOM._replace(memory=2**20 * 100)) == 6144


def test_this_hosts_room_is_known() -> None:
    room = capacity.room()
    assert room.ports > 1000
    assert room.memory is None or room.memory > 2**20


@given(total=st.integers(0, 10**7), of=st.integers(1, 100))
def test_the_shares_of_all_nodes_are_the_whole(total: int, of: int) -> None:
    parts = [nodes.part(total, (index, of)) for index in range(1, of + 1)]
    assert sum(parts) == total
    assert max(parts) - min(parts) <= 1


@given(of=st.integers(1, 20), bits=st.integers(22, 32), flows=st.integers(1, 2000))
def test_nodes_take_sources_of_their_own(of: int, bits: int, flows: int) -> None:
    networks = (f"10.0.0.0/{bits}", "192.168.7.9")
    found = [targets.sources(networks, flows, (index, of)) for index in range(1, of + 1)]
    every = targets.sources(networks, 10_000)
    assert all(0 < len(part) <= flows for part in found)
    if len(every) >= of:
        assert len({address for part in found for address in part}) == sum(map(len, found))
    else:
        assert all(part == every[:flows] for part in found)


def test_each_node_asks_its_share_and_the_schedule_is_divided_by_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = scenario(transport="tcp", connections=10, hold=4, connect_rate=900, node="2/3", rate=3000)
    engine = made(monkeypatch, asked).engine
    assert (engine.flows, engine.policy.hold, engine.policy.connect_per_s) == (3, 1, 300.0)
    assert (engine.node, engine.seed) == (Share(index=1, of=3), 42)
    assert engine.profile == (Segment(1.0, 3000.0, 3000.0),)
    flows = made(monkeypatch, scenario(flows=64, node="1/3")).engine.flows
    assert flows == 22
