"""Statistics of devices and queues as the kernel tells them over netlink, and the ledger's lines of them."""

from __future__ import annotations

import asyncio
import builtins
import json
import struct
from pathlib import Path
from typing import Any

import ledgers
import pytest
from ledgers import closed, growth, run, sampled

from flatout.host import filter_rules, netlink
from flatout.runner import devices

OWN = Path("/proc/thread-self/net")


class Message(dict[str, Any]):
    """A message as pyroute2 decodes it."""

    def __init__(self, fields: dict[str, Any], attributes: dict[str, Any]) -> None:
        super().__init__(fields, attrs=list(attributes.items()))

    def get_attr(self, name: str) -> Any:
        return dict(self["attrs"]).get(name)


class Raw:
    """An attribute that is not decoded: words behind a header."""

    def __init__(self, words: list[int]) -> None:
        self.offset = 8
        self.length = 4 + 8 * len(words)
        self.data = bytes(12) + struct.pack(f"={len(words)}Q", *words)


def link(index: int, name: str, words: list[int]) -> Message:
    return Message({"index": index}, {"IFLA_IFNAME": name, "IFLA_STATS64": Raw(words)})


def queue(index: int, kind: str, parent: int, **counted: int) -> Message:
    numbers = {"drops": 0, "overlimits": 0, "requeues": 0, "qlen": 0} | counted
    statistics = Message({}, {"TCA_STATS_QUEUE": numbers})
    return Message({"index": index, "parent": parent}, {"TCA_KIND": kind, "TCA_STATS2": statistics})


def test_words_and_queues_get_the_kernels_names() -> None:
    links = [link(2, "eth0", list(range(100, 125))), link(3, "old", list(range(23)))]
    queues = [
        queue(2, "tbf", netlink._ROOT, drops=7, overlimits=9, qlen=3),
        # One inside it, whose drops the outer one has too.
        queue(2, "bfifo", 0x10001, drops=7),
        queue(2, "clsact", netlink._INGRESS, drops=4),
    ]
    found = netlink.parse(links, queues)
    assert found.counters.values["link.eth0.rx_missed_errors"] == 115
    assert found.counters.values["link.eth0.rx_otherhost_dropped"] == 124
    assert found.counters.values["link.old.tx_dropped"] == 7
    assert "link.old.rx_nohandler" not in found.counters.values
    assert {name: number for name, number in found.counters.values.items() if name.endswith(".drops")} == {
        "qdisc.eth0.tbf.drops": 7,
        "ingress.eth0.clsact.drops": 4,
    }
    assert found.queued == {"eth0": 3}


def test_this_namespace_is_read_without_privilege_also_inside_an_event_loop() -> None:
    async def inside() -> netlink.Statistics:
        return netlink.read(OWN)

    for found in (netlink.read(OWN), asyncio.run(inside())):
        assert found.counters.blind == {}
        assert found.counters.values["link.lo.rx_errors"] >= 0


def test_what_cannot_be_read_is_blind_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "No such file" in netlink.read(Path("/proc/4194305/net")).counters.blind["netlink"]
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "pyroute2":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert netlink.read(OWN).counters.blind == {"netlink": "the Python package pyroute2 is not installed"}


# --- The ledger ---


def lines(result: Any) -> dict[str, int | None]:
    assert result.ledger is not None
    return {line.place: line.count for line in result.ledger.lines}


def test_a_drop_that_sending_saw_is_not_lost_too() -> None:
    seen = sampled({"qdisc.eth0.tbf.drops": 50}, placement=ledgers.ELSEWHERE, sockets=[])
    result = closed(run(20, unsent={"dropped_here": 45}), seen)
    assert lines(result)["qdisc"] == 5
    assert result.ledger.unexplained == 15
    assert lines(result)["own_queue"] == 45


def test_a_dropped_answer_is_at_the_queue_or_the_send_buffer_and_not_at_both() -> None:
    counted = {"qdisc.eth0.tbf.drops": 50, "Udp.SndbufErrors": 60, "Udp.InDatagrams": 90}
    result = closed(run(200), sampled({}, counted))
    assert (lines(result)["answer_qdisc"], lines(result)["answer_send_buffer"]) == (50, 10)
    fewer = closed(run(200), sampled({}, {**counted, "Udp.SndbufErrors": 30}))
    assert lines(fewer)["answer_qdisc"] == 50
    assert "answer_send_buffer" not in lines(fewer)


def test_without_netlink_queues_are_blind_and_devices_come_from_proc() -> None:
    seen = sampled({"dev.eth0.rx_dropped": 8}, placement=ledgers.ELSEWHERE, sockets=[])
    seen = seen._replace(own=growth(seen.own.values, netlink="the Python package pyroute2 is not installed"))
    result = closed(run(20), seen)
    (blind,) = [line for line in result.ledger.lines if line.place == "qdisc"]
    assert (blind.count, blind.blind) == (None, "the Python package pyroute2 is not installed")
    (device,) = [line for line in result.ledger.lines if line.place == "device"]
    assert (device.count, device.source) == (8, "/proc/net/dev")


def test_one_packet_in_two_counters_of_a_device_is_one() -> None:
    counted = {"link.eth0.rx_errors": 9, "link.eth0.rx_fifo_errors": 9, "link.eth0.rx_over_errors": 9}
    found = {each.place: each.number for each in devices.places(growth(counted), ["eth0"], "eth0")}
    assert found == {"device_ring": 9, "other_host": 0, "device": 0}


# --- Rules of a packet filter ---


def rule(handle: int, *expressions: Any, **more: str) -> dict[str, Any]:
    return {"rule": {"family": "inet", "table": "t", "chain": "in", "handle": handle, "expr": expressions, **more}}


def test_rules_that_drop_and_count_are_named() -> None:
    counter = {"counter": {"packets": 12, "bytes": 0}}
    text = json.dumps(
        {
            "nftables": [
                {"metainfo": {}},
                rule(2, counter, {"drop": None}, comment="no ntp"),
                rule(3, counter, {"accept": None}),
                rule(4, {"drop": None}),
                rule(5, counter, {"reject": {}}),
                rule(6, {"counter": "shared"}, {"drop": None}),
            ]
        }
    )
    assert filter_rules.parse(text) == {'nft.inet t in handle 2 "no ntp"': 12, "nft.inet t in handle 5": 12}


@pytest.mark.parametrize("text", ["", "[]", '{"nftables": [{"rule": {"expr": 3}}]}'])
def test_what_is_no_ruleset_is_no_evidence(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filter_rules.netlink, "inside", lambda net, work: text)  # noqa: ARG005
    monkeypatch.setattr(filter_rules.shutil, "which", lambda *_, **__: "/usr/sbin/nft")
    assert filter_rules.read(OWN) == {}
