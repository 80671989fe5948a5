"""What an interface can do for XDP, the way to a target and its next hop, by netlink's answers on Linux 6.18."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Any

import hosts
import pytest

from flatout.errors import TargetError, UsageError
from flatout.host import xdp
from flatout.host.tuning.aim import Aim
from flatout.host.tuning.check import Setting, check
from flatout.view.terminal import tuning as view

V4 = ip_address("10.98.7.2")
# Flags of an interface that is up, has a carrier and broadcasts, with IFF_MULTICAST.
UP, DOWN = 69_699, 4_098


class Message(dict[str, Any]):
    """A message as pyroute2 0.9.7 decodes it."""

    def __init__(self, fields: dict[str, Any], attributes: dict[str, Any]) -> None:
        super().__init__(fields, attrs=list(attributes.items()))

    def get_attr(self, name: str) -> Any:
        return dict(self["attrs"]).get(name)


def link(name: str = "eth0", kind: str = "veth", **changes: Any) -> Message:
    """RTM_NEWLINK of a veth; `flags`, `type` and `program` replace what was recorded."""
    program = {"IFLA_XDP_PROG_ID": changes["program"]} if "program" in changes else {}
    attributes = {
        "IFLA_IFNAME": name,
        "IFLA_MTU": changes.get("mtu", 1500),
        "IFLA_NUM_RX_QUEUES": 2,
        "IFLA_ADDRESS": "8e:cc:f9:ff:d5:9b",
        "IFLA_XDP": Message({}, {"IFLA_XDP_ATTACHED": "xdp" if program else None, **program}),
    }
    if kind:
        attributes["IFLA_LINKINFO"] = Message({}, {"IFLA_INFO_KIND": kind})
    return Message({"flags": changes.get("flags", UP), "ifi_type": changes.get("type", 1)}, attributes)


class Kernel(xdp.Netlink):
    """Answers that were recorded. `hardware`: of the neighbour, each time that it is asked for; the last one stays."""

    def __init__(
        self, message: Message, features: int | None = 0x23, hardware: tuple[bytes | None, ...] = (None,)
    ) -> None:
        self.message, self.bits, self.hardware, self.asked = message, features, list(hardware), 0

    def link(self, index: int) -> Message:
        assert index == 7
        return self.message

    def features(self, index: int) -> xdp.Features | None:
        assert index == 7
        return xdp.features_of(self.bits)

    def mac(self, hop: Any, interface: int) -> bytes | None:
        assert (hop, interface) == (V4, 7)
        return self.hardware.pop(0) if len(self.hardware) > 1 else self.hardware[0]

    def ask(self, hop: Any, interface: str) -> None:
        assert (hop, interface) == (V4, "eth0")
        self.asked += 1


class Clock:
    """Time that passes while it is waited for."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def rest(self, seconds: float) -> None:
        self.now += seconds


def looked(tmp_path: Path, message: Message, features: int | None = 0x23) -> xdp.XdpInterface:
    return xdp.look(7, Kernel(message, features), tmp_path)


def test_a_veth_without_and_with_gro_at_its_other_end(tmp_path: Path) -> None:
    without, with_gro = looked(tmp_path, link()), looked(tmp_path, link(), 0x67)
    assert without == xdp.XdpInterface(
        "eth0", 7, "veth", bytes.fromhex("8eccf9ffd59b"), 1500, True, 2, None, xdp.Features(True, False, False)
    )
    assert with_gro.features == xdp.Features(True, True, False)
    assert with_gro.text == "eth0 (veth): native, sends others' frames, no zero copy; 2 receive queues"
    assert without.text == "eth0 (veth): native, sends no others' frames, no zero copy; 2 receive queues"


def test_queues_in_use_are_those_of_sys(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / "eth0" / "queues" / f"rx-{number}").mkdir(parents=True)
    assert looked(tmp_path, link()).queues == 3


def test_a_card_whose_driver_has_none_and_a_kernel_that_does_not_say(tmp_path: Path) -> None:
    assert looked(tmp_path, link(kind=""), 0).text == (
        "eth0 (device): its driver has no XDP: programs run above it (generic); 2 receive queues"
    )
    unknown = looked(tmp_path, link(kind=""), None)
    assert (unknown.features, unknown.native) == (None, True)
    assert "unknown (Linux before 6.3)" in unknown.text


def test_a_program_that_is_attached_and_an_interface_that_is_down(tmp_path: Path) -> None:
    assert looked(tmp_path, link(program=17_131)).program == 17_131
    assert looked(tmp_path, link(flags=DOWN)).up is False


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (link("lo", "", flags=65_609, type=772), "lo is the loopback interface"),
        (link("xbridge", "bridge", flags=DOWN), "xbridge is a bridge on top of another"),
        (link("xmacvlan", "macvlan", flags=DOWN), "name that one by --interface"),
        (link("wg0", "wireguard", type=65_534), "wg0 is no Ethernet interface"),
    ],
)
def test_interfaces_that_carry_no_frames_of_ours(tmp_path: Path, message: Message, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        looked(tmp_path, message)


def test_routes_on_the_link_by_a_gateway_and_to_this_host() -> None:
    on_link = Message({"type": 1}, {"RTA_OIF": 7, "RTA_PREFSRC": "10.98.7.1"})
    assert xdp.hop_of(V4, on_link) == xdp.Hop(7, ip_address("10.98.7.1"), V4, False)
    far = Message({"type": 1}, {"RTA_OIF": 2, "RTA_PREFSRC": "10.0.0.4", "RTA_GATEWAY": "10.0.0.1"})
    assert xdp.hop_of(V4, far).next_hop == ip_address("10.0.0.1")
    assert xdp.hop_of(V4, Message({"type": 2}, {"RTA_OIF": 1, "RTA_PREFSRC": "10.98.7.2"})).local


def test_a_neighbour_that_is_known_stale_or_looked_for() -> None:
    def known(state: int, **attributes: Any) -> bytes | None:
        there = {"NDA_DST": "10.98.7.2", "NDA_LLADDR": "fa:b4:35:f2:1e:f2"} | attributes
        return xdp.mac_of(V4, [Message({"state": 64}, {"NDA_DST": "0.0.0.0"}), Message({"state": state}, there)])

    assert [known(state) for state in (2, 4, 128)] == [bytes.fromhex("fab435f21ef2")] * 3
    assert [known(1, NDA_LLADDR=None), known(32), known(2, NDA_DST="10.98.7.20")] == [None, None, None]


def test_the_kernel_is_asked_once_and_waited_for() -> None:
    clock = Clock()
    kernel = Kernel(link(), hardware=(None, None, None, b"\2\0\0\0\0\1"))
    interface = xdp.look(7, kernel, Path("/nonexistent"))
    assert xdp.resolved(V4, interface, kernel, clock, clock.rest) == b"\2\0\0\0\0\1"
    assert kernel.asked == 1
    assert 0 < clock.now - 100 < 0.2


def test_a_neighbour_that_is_known_is_not_asked_for() -> None:
    kernel = Kernel(link(), hardware=(b"\2\0\0\0\0\1",))
    xdp.resolved(V4, xdp.look(7, kernel, Path("/nonexistent")), kernel, Clock(), pytest.fail)
    assert kernel.asked == 0


def test_a_neighbour_that_does_not_answer() -> None:
    clock, kernel = Clock(), Kernel(link())
    with pytest.raises(TargetError, match=r"10\.98\.7\.2 does not tell its hardware address on eth0 .*--gateway-mac"):
        xdp.resolved(V4, xdp.look(7, kernel, Path("/nonexistent")), kernel, clock, clock.rest)
    assert 1 <= clock.now - 100 < 1.1


@pytest.mark.parametrize("text", ["", "02:00:00:00:00", "02:00:00:00:00:zz", "02:00:00:00:00:01:02", "0200:00:00:00:0"])
def test_what_is_no_hardware_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"^|invalid literal"):
        xdp.parse_mac(text)


# --- In `host check` ---

CLIENT = Aim(role="client", transport="udp", interface="eth0")


def checked(tmp_path: Path, message: Message, features: int | None, devices: hosts.Devices | None = None) -> Setting:
    system = hosts.host(hosts.tree(tmp_path / "root"), None, devices or hosts.Devices({"eth0": "veth"}))
    system.xdp = lambda _: xdp.look(7, Kernel(message, features), tmp_path)
    found = check(CLIENT, system)
    assert "XDP (eth0)" in view.check(found)
    (setting,) = [one for one in found.settings if one.name == "XDP"]
    return setting


@pytest.mark.parametrize(
    ("message", "features", "state", "said"),
    [
        (link(), 0x67, "ok", "answers of serve --xdp native need a program at the other end"),
        (link(), 0x23, "advice", "ethtool -K DEVICE gro on"),
        (link(program=12), 0x67, "advice", "its program (number 12) is left alone"),
        (link(kind="", mtu=9000), 0x7, "advice", "its MTU of 9,000 may be too large"),
        (link(kind=""), 0x2B, "ok", ""),
        (link(kind=""), 0, "absent", "its driver runs no programs"),
        (link(kind=""), None, "absent", "before Linux 6.3"),
        (link("br0", "bridge"), 0, "absent", "br0 is a bridge"),
    ],
)
def test_a_check_says_what_stands_in_the_way(
    tmp_path: Path, message: Message, features: int | None, state: str, said: str
) -> None:
    setting = checked(tmp_path, message, features)
    assert setting.state == state
    assert said in setting.blocked
    assert bool(said) == bool(setting.blocked)


@pytest.mark.parametrize(
    ("combined", "said"),
    [((1, 8), ""), ((8, 8), "combined 6"), ((1, 1), "give the machine's network card 3 queues")],
    ids=["spare ones", "all in use", "too few at all"],
)
def test_virtio_needs_spare_queues(tmp_path: Path, combined: tuple[int, int], said: str) -> None:
    devices = hosts.Devices({"eth0": "virtio_net"})
    devices.channels("eth0", (0, 0), (0, 0), combined)
    setting = checked(tmp_path, link(kind=""), 0x2B, devices)
    assert setting.state == ("advice" if said else "ok")
    assert said in setting.blocked


def test_over_tcp_it_does_not_matter(tmp_path: Path) -> None:
    system = hosts.host(hosts.tree(tmp_path))
    settings = check(Aim(role="client", transport="tcp", interface="eth0"), system).settings
    assert "XDP" not in {one.name for one in settings}
