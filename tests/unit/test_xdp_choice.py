"""Which interface and mode `--xdp` takes, and what is refused; the statistics of both paths are one set."""

from __future__ import annotations

import socket
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from flatout.errors import UsageError
from flatout.plan.targets import Endpoint
from flatout.protocols import protocol
from flatout.server import driver
from flatout.server.exposition import prometheus
from flatout.server.listening import Listening

NTP = protocol("ntp")


def listening(*addresses: str) -> Listening:
    return Listening([Endpoint(ip_address(address), 123, 0) for address in addresses or ("0.0.0.0",)], [], [])


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Makes this host one with such interfaces: name, driver, up."""

    def made(*interfaces: tuple[str, str, bool], default: str = "", vlans: str = "") -> None:
        names = ["lo", *(name for name, _, _ in interfaces)]
        drivers = {name: named for name, named, _ in interfaces}
        up = {name for name, _, is_up in interfaces if is_up}
        monkeypatch.setattr(socket, "if_nameindex", lambda: list(enumerate(names, 1)))
        monkeypatch.setattr(socket, "if_nametoindex", lambda name: names.index(name) + 1)
        monkeypatch.setattr(driver, "driver_of", lambda name: drivers.get(name, ""))
        monkeypatch.setattr(driver.route, "is_up", lambda name: name in up)
        route = (
            f"Iface\tDestination\n{default}\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\n" if default else "Iface\n"
        )
        (tmp_path / "route").write_text(route)
        (tmp_path / "ipv6_route").write_text("")
        (tmp_path / "vlan").mkdir(exist_ok=True)
        (tmp_path / "vlan" / "config").write_text(f"VLAN Dev name | VLAN ID\nName-Type\n{vlans}")
        monkeypatch.setattr(driver._interface, "__defaults__", (tmp_path,))

    return made


def chosen(xdp: str, interface: str | None = None, *at: str) -> driver.Choice:
    return driver.choice(xdp, NTP, listening(*at), interface)


def test_off_is_nothing(host: Callable[..., None]) -> None:
    host()
    assert chosen("off") == driver.Choice()


@pytest.mark.parametrize(
    ("xdp", "named", "modes", "required"),
    [
        ("auto", "ixgbe", [False, True], False),
        ("native", "ixgbe", [False], True),
        ("generic", "ixgbe", [True], True),
        ("auto", "veth", [True], False),
        ("native", "veth", [False], True),
        ("auto", "", [False, True], False),
    ],
)
def test_modes(host: Callable[..., None], xdp: str, named: str, modes: list[bool], required: bool) -> None:
    host(("eth0", named, True))
    found = chosen(xdp)
    assert (found.plan, found.interface) == ((2, modes, required, False), "eth0")
    assert bool(found.notes) == (named == "veth")


def test_which_interface(host: Callable[..., None]) -> None:
    host(("eth0", "e", True), ("eth1", "e", False), ("eth0.10", "v", True), vlans="eth0.10 | 10 | eth0\n")
    assert chosen("native").interface == "eth0", "the only one that is up and no VLAN"
    host(("eth0", "e", True), ("eth1", "e", True), default="eth1")
    assert chosen("native").interface == "eth1", "that of the default route"
    assert chosen("native", "eth0").interface == "eth0"
    host(("eth0", "e", True), ("eth1", "e", True), ("lan", "v", True), default="lan", vlans="lan | 10 | eth0\n")
    assert chosen("native").interface == "eth0", "below the VLAN of the default route"
    host(("eth0", "e", True), ("eth1", "e", True))
    with pytest.raises(UsageError, match="name the interface; this host has eth0, eth1"):
        chosen("native")
    assert chosen("auto").plan is None
    assert chosen("auto").notes[0].startswith("xdp: sockets answer: name the interface")
    host()
    with pytest.raises(UsageError, match="no interface but lo"):
        chosen("generic")


def test_a_program_of_others_is_replaced_only_when_that_is_asked_for(host: Callable[..., None]) -> None:
    host(("eth0", "e", True))
    assert driver.choice("native", NTP, listening(), None, replace=True).plan == (2, [False], True, True)
    with pytest.raises(UsageError, match="xdp_replace: there is nothing to attach"):
        driver.choice("off", NTP, listening(), None, replace=True)


def test_what_is_refused_and_what_auto_leaves_to_the_sockets(host: Callable[..., None]) -> None:
    host(("eth0", "e", True))
    cases: list[tuple[tuple[Any, ...], str]] = [
        (("lo",), "no driver"),
        ((None, "127.0.0.1", "::1"), "reached by no driver"),
    ]
    for arguments, words in cases:
        for xdp in ("native", "generic"):
            with pytest.raises(UsageError, match=words):
                chosen(xdp, *arguments)
        left = chosen("auto", *arguments)
        assert (left.plan, words in left.notes[0]) == (None, True)
    with pytest.raises(UsageError, match="not answered in the network driver"):
        driver.choice("auto", protocol("echo"), listening(), None)
    with pytest.raises(UsageError, match="xdp"):
        chosen("fast")


def test_sockets_of_one_interface_by_a_unit_are_refused(host: Callable[..., None]) -> None:
    host(("eth0", "e", True))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unit:
        where = Listening([], [unit.fileno()], [])
        assert driver.choice("native", NTP, where, None).plan is not None
        unit.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")
        with pytest.raises(UsageError, match="BindToDevice"):
            driver.choice("native", NTP, where, None)


class Engine:
    """Counters of a server whose driver has limits."""

    driver = ("native", "")

    def __init__(self, refused: dict[str, int] | None) -> None:
        self._refused = refused

    def driver_counters(self) -> dict[str, int]:
        return {"answered": 5, "sent_bytes": 400, "not_plain": 3}

    def driver_refusals(self) -> dict[str, int] | None:
        return self._refused


def test_both_paths_are_one_set() -> None:
    sockets = {"received": 10, "answered": 8, "sent_bytes": 800, "dropped": 2, "kissed": 1, "clients_forgotten": 0}
    assert driver.joined(sockets, {}) == sockets
    plain: Any = Engine(None)
    assert driver.joined(sockets, driver.of_driver(plain)) == {
        **{"received": 15, "answered": 13, "sent_bytes": 1200, "dropped": 2, "kissed": 1, "clients_forgotten": 0}
    }
    refused = {"denied": 1, "rate_limited": 20, "over_budget": 300, "kissed": 2, "clients_forgotten": 7}
    limited: Any = Engine(refused)
    assert driver.joined(sockets, driver.of_driver(limited)) == {
        **{"received": 336, "answered": 13, "sent_bytes": 1200, "dropped": 323, "kissed": 3, "clients_forgotten": 7}
    }
    stats = driver.Driver(driver.Choice(interface="eth0"), limited).stats()
    assert stats["dropped"] == {"denied": 1, "rate_limited": 20, "over_budget": 300}
    assert (stats["kissed"], stats["clients_forgotten"], stats["passed"]) == (2, 7, {"not_plain": 3})
    assert driver.Driver(driver.Choice(interface="eth0"), plain).stats()["dropped"]["denied"] == 0


def test_prometheus_has_the_split() -> None:
    xdp: dict[str, Any] = {"interface": "eth0", "mode": "native", "answered": 5, "sent_bytes": 400}
    xdp |= {"dropped": {"denied": 3}, "passed": {"no_state": 2}}
    stats = {"t_s": 1, "received": 7, "answered": 7, "dropped": {}, "workers": [], "replaced": {"count": 0}, "xdp": xdp}
    lines = prometheus(stats, "ntp").splitlines()
    assert 'flatout_answered_total{protocol="ntp"} 7' in lines
    assert 'flatout_xdp_answered_total{protocol="ntp"} 5' in lines
    assert 'flatout_xdp_not_answered_total{protocol="ntp",reason="denied"} 3' in lines
    assert 'flatout_xdp_passed_total{protocol="ntp",reason="no_state"} 2' in lines
    assert 'flatout_xdp_attached{protocol="ntp",interface="eth0",mode="native"} 1' in lines
    assert "xdp" not in prometheus({key: value for key, value in stats.items() if key != "xdp"}, "ntp")
