"""What goes with --link xdp and what does not; interface, mode, next hop, ports and addresses that are chosen."""

from __future__ import annotations

from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import pytest
from ledgers import LINK

from flatout._engine import BpfError
from flatout.errors import FlatoutError, GeneratorError, TargetError, UsageError
from flatout.host import xdp as host
from flatout.plan import xdp
from flatout.plan.addresses import Endpoint
from flatout.result.machine import XdpLink
from flatout.runner import run as running
from flatout.scenario.build import scenario_of
from flatout.scenario.model import Scenario

TARGET, FAR = (Endpoint(ip_address(text), 123, 0) for text in ("10.98.7.2", "203.0.113.5"))
HARDWARE = bytes.fromhex("fab435f21ef2")
OWN = bytes.fromhex("8eccf9ffd59b")
GRO = host.Features(native=True, transmits=True, zero_copy=False)


def asked(protocol: str = "ntp", **changes: Any) -> Scenario:
    return scenario_of(
        protocol, "10.98.7.2:123", profile=None, **{"link": "xdp", "rate": 1000, "duration": 1} | changes
    )


class Kernel(host.Netlink):
    """A veth of number 7 towards 10.98.7.0/24, and a gateway there to all else; `hops` replaces ways."""

    def __init__(self, hops: dict[Any, host.Hop] | None = None, mac: bytes | None = HARDWARE) -> None:
        self.hops, self.known = hops or {}, mac

    def route(self, target: Any, interface: int | None) -> host.Hop | None:
        near = target in (TARGET.address, ip_address("10.98.7.1"))
        usual = host.Hop(7, ip_address("10.98.7.1"), target if near else ip_address("10.98.7.254"), local=False)
        return self.hops.get(target, usual) if interface in (None, 7) else None

    def mac(self, hop: Any, interface: int) -> bytes | None:
        assert interface == 7
        return self.known if hop == TARGET.address else b"\2\0\0\0\0\xfe"


@pytest.fixture(autouse=True)
def interface(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The interface, whose fields a test may change; the host has sockets at two ports."""
    fields: dict[str, Any] = {
        **{"name": "eth0", "number": 7, "kind": "veth", "mac": OWN, "mtu": 1500, "up": True, "queues": 2},
        **{"program": None, "features": GRO},
    }
    monkeypatch.setattr(xdp.host, "look", lambda _, __: host.XdpInterface(**fields))
    monkeypatch.setattr(xdp, "_used_ports", lambda: {61_010, 123})
    monkeypatch.setattr(xdp, "_local_ports", lambda: (32_768, 60_999))
    return fields


def resolve(scenario: Scenario, *targets: Endpoint, **kernel: Any) -> tuple[xdp.XdpPlan, XdpLink, list[str]]:
    plan, link, notes = xdp.resolve(scenario, targets or (TARGET,), (), Kernel(**kernel))
    assert plan is not None
    assert link is not None
    return plan, link, notes


def test_over_sockets_there_is_nothing_to_choose() -> None:
    assert xdp.resolve(asked(link="socket"), (TARGET,), ()) == (None, None, [])


def test_what_the_engine_is_given_and_what_is_told() -> None:
    plan, link, notes = resolve(asked(flows=10), TARGET, FAR)
    assert (plan.interface, plan.mode, plan.transmit, plan.queues, plan.mtu) == (7, "native", "live", 2, 1500)
    assert bytes(plan.source_mac) == OWN
    assert [bytes(mac) for mac in plan.next_hop_macs] == [HARDWARE, b"\2\0\0\0\0\xfe"], "on the link, by the gateway"
    assert [str(source) for source in plan.sources] == ["10.98.7.1"]
    assert (plan.first_port, plan.ports) == (61_000, 10)
    assert (link.interface, link.kind, link.ports) == ("eth0", "veth", [61_000, 61_009])
    assert link.next_hops == ["fa:b4:35:f2:1e:f2", "02:00:00:00:00:fe"]
    assert notes == [
        "--link xdp: eth0 (veth): native, sends others' frames, no zero copy; 2 receive queues. Chosen: native mode, "
        "sent by live frames"
    ]


@pytest.mark.parametrize(
    ("features", "chosen"),
    [
        (host.Features(True, True, False), ("native", "live")),
        (host.Features(True, False, False), ("native", "af_xdp")),
        (host.Features(True, True, True), ("native", "af_xdp")),
        (host.Features(False, False, False), ("generic", "af_xdp")),
        (None, ("native", "af_xdp")),
    ],
)
def test_how_frames_are_sent_follows_from_the_driver(
    interface: dict[str, Any], features: host.Features | None, chosen: tuple[str, str]
) -> None:
    interface["features"] = features
    plan, _, _ = resolve(asked())
    assert (plan.mode, plan.transmit) == chosen


def test_a_veth_that_sends_no_frames_of_programs_and_a_large_mtu_are_noted(interface: dict[str, Any]) -> None:
    interface |= {"features": host.Features(True, False, False), "mtu": 9000}
    _, _, notes = resolve(asked())
    assert "ethtool -K DEVICE gro on" in notes[1]
    assert "MTU of 9000" in notes[2]


def test_a_hardware_address_that_is_given_is_not_asked_for() -> None:
    plan, _, _ = resolve(asked(gateway_mac="02-00-00-00-00-0A"), mac=None)
    assert bytes(plan.next_hop_macs[0]) == b"\2\0\0\0\0\x0a"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"up": False}, "eth0 is down"),
        ({"program": 17_131}, r"eth0 has an XDP program already \(number 17131\)"),
    ],
)
def test_an_interface_that_is_down_or_taken(interface: dict[str, Any], changes: dict[str, Any], said: str) -> None:
    interface |= changes
    with pytest.raises(UsageError, match=said):
        resolve(asked())


@pytest.mark.parametrize(
    ("hop", "said"),
    [
        (host.Hop(1, None, TARGET.address, local=True), "this host's own"),
        (host.Hop(7, None, TARGET.address, local=False), "names no address to send from"),
        (None, "no route"),
    ],
)
def test_targets_without_a_way_by_a_driver(hop: host.Hop | None, said: str) -> None:
    with pytest.raises((UsageError, TargetError), match=said):
        resolve(asked(), hops={TARGET.address: hop})


def test_targets_by_several_interfaces() -> None:
    with pytest.raises(UsageError, match="several interfaces"):
        resolve(asked(), TARGET, FAR, hops={FAR.address: host.Hop(8, None, FAR.address, local=False)})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"stamps": "user"}, "--stamps user"),
        ({"gso": True}, "--gso"),
        ({"threads": 2}, "--threads"),
        ({"link": "socket", "interface": "eth0"}, "--interface"),
        ({"link": "socket", "gateway_mac": "02:00:00:00:00:01"}, "--gateway-mac"),
    ],
)
def test_what_does_not_go_with_it(options: dict[str, Any], said: str) -> None:
    protocol = "record" if "gso" in options else "ntp"
    with pytest.raises(UsageError, match=said):
        xdp.check(asked(protocol, **options))


def test_connections_and_ping_pong_do_not_go_with_it() -> None:
    with pytest.raises(UsageError, match="connections"):
        xdp.check(asked("dns", transport="tcp"))
    with pytest.raises(UsageError, match="ping-pong"):
        xdp.check(
            scenario_of("ntp", "10.98.7.2:123", profile=None, link="xdp", rate=None, duration=1, arrivals="ping-pong")
        )


def test_ports_in_a_row_that_no_socket_has() -> None:
    local = (32_768, 60_999)
    assert xdp.free_ports(64, set(), local) == 61_000
    assert xdp.free_ports(64, {61_063}, local) == 61_064
    assert xdp.free_ports(5_000, set(), local) == 1024, "no room behind the kernel's own range"
    assert xdp.free_ports(40_000, {1024}, local) == 1025, "only with the kernel's own"
    with pytest.raises(UsageError, match=r"no 40,000 ports in a row"):
        xdp.free_ports(40_000, {30_000}, local)


@pytest.mark.parametrize(("obstacle", "kind"), [("not-permitted", UsageError), ("failed", GeneratorError)])
def test_what_the_kernel_refuses_is_told(
    monkeypatch: pytest.MonkeyPatch, obstacle: str, kind: type[FlatoutError]
) -> None:
    def refuse(_: object) -> None:
        raise BpfError(obstacle, "not permitted to run XDP programs: needs root")

    monkeypatch.setattr(running, "LoadRun", refuse)
    scenario = SimpleNamespace(gso=False, stamps="kernel", busy_poll_us=0)
    plan: Any = SimpleNamespace(scenario=scenario, engine=None, link=LINK)
    with pytest.raises(kind, match="--link xdp on eth0: not permitted to run XDP programs"):
        running._start(plan)
