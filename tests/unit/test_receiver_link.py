"""Receiving past the kernel's stack: what does not go with it is refused by its name, before anything is opened."""

from __future__ import annotations

import socket
from typing import Any

import pytest

import flatout
from flatout.receiver import link

HERE = [(1, "lo"), (7, "eth0")]
EVERYWHERE = "0.0.0.0:31234"


@pytest.fixture(autouse=True)
def _devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "if_nameindex", lambda: HERE)
    monkeypatch.setattr(socket, "if_nametoindex", {name: index for index, name in HERE}.__getitem__)


@pytest.mark.parametrize(
    ("listen", "given", "words"),
    [
        (EVERYWHERE, {"link": "dpdk"}, "one of socket, xdp"),
        (EVERYWHERE, {"interface": "eth0"}, "goes with link='xdp'"),
        (EVERYWHERE, {"link": "xdp"}, "needs interface, the one that records come by: lo, eth0"),
        (EVERYWHERE, {"link": "xdp", "interface": "eth9"}, "this host has lo, eth0"),
        (EVERYWHERE, {"link": "xdp", "interface": 7}, "give text"),
        (EVERYWHERE, {"link": "xdp", "interface": "lo"}, "loopback has no driver"),
        ("127.0.0.1:31234", {"link": "xdp", "interface": "eth0"}, "loopback has no driver"),
        ("[::1]:31234", {"link": "xdp", "interface": "eth0"}, "loopback has no driver"),
        (EVERYWHERE, {"link": "xdp", "interface": "eth0", "threads": 2}, "leave out threads"),
        (EVERYWHERE, {"link": "xdp", "interface": "eth0", "shared": True}, "leave out threads and shared"),
        (EVERYWHERE, {"link": "xdp", "interface": "eth0", "gro": False}, "leave out gro"),
    ],
)
def test_what_does_not_go_with_it(listen: str, given: dict[str, Any], words: str) -> None:
    with pytest.raises(flatout.UsageError, match=words):
        flatout.Receiver(listen, **given)


def test_serve_takes_the_same() -> None:
    with pytest.raises(flatout.UsageError, match="goes with link='xdp'"):
        flatout.serve("record", EVERYWHERE, interface="eth0")
    with pytest.raises(flatout.UsageError, match="this host has lo, eth0"):
        flatout.serve("record", interface="eth9", link="xdp")


@pytest.mark.parametrize(("buffer", "frames"), [(1, 64), (4 << 20, 8192), (16 << 20, 1 << 15), (1 << 31, 1 << 15)])
def test_a_queue_holds_as_many_datagrams_as_a_socket(buffer: int, frames: int) -> None:
    found = link.link_of("xdp", "eth0", EVERYWHERE, buffer, one_each=True, gro=True)
    assert found is not None
    assert found.plan[0] == 7
    assert found.plan[3] == frames
    assert found.memory >= found.queues * frames * 2048


def test_what_is_said() -> None:
    found = link.Link("eth0", 7, 2, 1500, 64)
    assert found.notes((False, True, 2, "")) == ["xdp: eth0, native, 2 queues, zero copy"]
    generic = found._replace(number=8).notes((True, False, 2, "native: the interface's driver has no XDP"))
    assert generic == [
        "xdp: eth0, generic, 2 queues, the kernel copies each frame",
        "xdp: not native: the interface's driver has no XDP",
        "xdp: the interface is gone",
    ]
    described = {"link": "xdp", "interface": "eth0", "mode": "generic", "zero_copy": False, "queues": 2}
    assert found.described((True, False, 2, "")) == described
