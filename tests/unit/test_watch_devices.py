"""Which device counts what: each packet once, wherever devices lie on others."""

from __future__ import annotations

import socket
import struct

import pytest

from flatout.errors import UsageError
from flatout.host import links
from flatout.host.links import NetworkDevice
from flatout.watch.devices import COUNT_IN, COUNT_OUT, COUNT_OUT_RECEIVED, USUAL, counted, unseen
from flatout.watch.mib import MibSource
from flatout.watch.ports import parse

LO = NetworkDevice(1, "lo", is_loopback=True)
ETH0 = NetworkDevice(2, "eth0")
BRIDGE = NetworkDevice(3, "br0", "bridge")
PORT = NetworkDevice(4, "veth7", "veth", master=3)
VLAN = NetworkDevice(5, "eth0.100", "vlan", below=2)
BOND = NetworkDevice(6, "bond0", "bond")
PART = NetworkDevice(7, "eth1", master=6)
AWAY = NetworkDevice(8, "mac0", "macvlan", below=2, elsewhere=True)
ALL = [LO, ETH0, BRIDGE, PORT, VLAN, BOND, PART, AWAY]


def test_each_packet_counts_once() -> None:
    bits, usual = counted(ALL)
    of = dict(bits)
    assert usual == USUAL
    assert of[LO.number] == COUNT_IN | COUNT_OUT_RECEIVED, "loopback's packets are seen coming and going"
    assert of[ETH0.number] == of[PART.number] == COUNT_IN | COUNT_OUT
    assert of[BRIDGE.number] == COUNT_IN, "what it sends goes to a port"
    assert of[PORT.number] == COUNT_OUT, "what comes for this host comes from the bridge"
    assert of[VLAN.number] == of[BOND.number] == COUNT_IN, "what they send goes to the device below"
    assert of[AWAY.number] == USUAL, "the device below is not ours"
    assert unseen(ALL) == ["mac0"]


def test_chosen_devices() -> None:
    assert counted(ALL, ["eth0", "lo"]) == ([(2, USUAL), (1, COUNT_IN | COUNT_OUT_RECEIVED)], 0)
    assert counted(ALL, ["bond0"]) == ([(PART.number, USUAL)], 0)


@pytest.mark.parametrize(
    ("name", "words"), [("eth9", "no such interface.*eth0"), ("eth0.100", "give --interface eth0"), ("mac0", "not in")]
)
def test_devices_that_cannot_be_chosen(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=f"--interface {name}.*{words}"):
        counted(ALL, [name])


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def test_a_device_as_the_kernel_writes_it() -> None:
    message = struct.pack("=BxHiII", 0, 1, 5, 0x1003, 0)
    message += attribute(3, b"eth0.100\0") + attribute(5, struct.pack("=I", 2)) + attribute(10, struct.pack("=I", 3))
    message += attribute(18 | 0x8000, attribute(1, b"vlan\0") + attribute(2, b"whatever"))
    assert links.parsed(message) == NetworkDevice(5, "eth0.100", "vlan", master=3, below=2)
    assert links.parsed(message + attribute(37, bytes(4))).elsewhere


def test_the_devices_of_this_host() -> None:
    found = {device.name: device for device in links.devices()}
    assert {name for _, name in socket.if_nameindex()} == set(found)
    assert found["lo"].is_loopback
    assert found["lo"].number == socket.if_nametoindex("lo")


# --- ports ---


def test_ports() -> None:
    one, two = parse(["udp/123", "tcp/53", "udp/123"])
    assert (one.name, one.ip_protocol, two.name, two.ip_protocol) == ("udp/123", 17, "tcp/53", 6)
    assert one.kind is not None
    assert two.kind is None
    assert parse(["udp/40000"])[0].kind is None
    assert parse(["udp/40000:ntp"])[0].kind == one.kind


@pytest.mark.parametrize("text", ["123", "udp", "udp/", "udp/0", "udp/65536", "sctp/5", "UDP/5", "udp/x", "udp/5:", ""])
def test_ports_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match=r"--port '.*udp/NUMBER"):
        parse([text])


def test_no_port_too_many_ports_and_no_protocol() -> None:
    with pytest.raises(UsageError, match="which port"):
        parse([])
    with pytest.raises(UsageError, match="17 ports"):
        parse([f"udp/{port}" for port in range(1, 18)])
    with pytest.raises(UsageError, match="no protocol 'xyz'"):
        parse(["udp/5:xyz"])


# --- sums of all ports, for those who may load no program ---


def test_sums_of_all_ports(tmp_path) -> None:
    (tmp_path / "snmp").write_text(
        "Tcp: InSegs OutSegs\nTcp: 500 400\nUdp: InDatagrams NoPorts InErrors OutDatagrams\nUdp: 1000 5 20 900\n"
    )
    (tmp_path / "snmp6").write_text("Udp6InDatagrams 30\nUdp6NoPorts 1\nUdp6InErrors 2\nUdp6OutDatagrams 33\n")
    for name in ("netstat", "dev"):
        (tmp_path / name).write_text("")
    source = MibSource(["udp", "tcp", "udp"], tmp_path)
    assert source.labels == ["udp (all ports)", "tcp (all ports)"]
    udp, tcp = source.read(0).ports
    assert udp.packets == (1025, 33, 900, 33)
    assert tcp.packets == (500, 0, 400, 0)
    assert (udp.bytes, udp.bins_in) == (None, None)
