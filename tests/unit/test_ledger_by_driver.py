"""Runs whose frames went by a driver: what only concerns this host's sockets and network layer is no cause of theirs.

Counters are those of runs over a veth on Linux 6.18, with the causes that each was given.
"""

from __future__ import annotations

from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any

import ledgers
import msgspec
import pytest
from ledgers import ELSEWHERE, LINK, SENT, closed, run, sampled

from flatout.analysis import findings
from flatout.host.drops import Dropped
from flatout.host.route import Route
from flatout.result.ledger import Ledger
from flatout.result.model import LoadResult
from flatout.runner import counters
from flatout.runner.counters import CounterSampler, Sampled
from flatout.runner.exchange import RequestReply
from flatout.runner.verdict import verdict


def by_driver(lost: int = 0, **changes: Any) -> LoadResult:
    return run(lost, link=LINK, **changes)


def ledger(result: LoadResult, seen: Sampled) -> Ledger:
    found = closed(result, seen).ledger
    assert found is not None
    return found


def places(result: LoadResult, seen: Sampled) -> dict[str, int]:
    found = ledger(result, seen)
    assert found.lost == sum(line.count or 0 for line in found.lines if line.side == "lost") + (found.unexplained or 0)
    return {line.place: line.count for line in found.lines if line.count}


def names(result: LoadResult, seen: Sampled) -> list[str]:
    return [each.name for each in findings(closed(result, seen))]


OTHERS = {
    "conntrack": {"conntrack.drop": 300},
    "reverse path": {"TcpExt.IPReversePathFilter": 300},
    "firewall": {"Ip.InReceives": 900, "Ip.InDelivers": 600},
    "qdisc": {"qdisc.eth0.fq_codel.drops": 300},
}


@pytest.mark.parametrize("kind", OTHERS)
def test_this_hosts_network_layer_drops_other_programs_packets(kind: str) -> None:
    seen = sampled(OTHERS[kind], placement=ELSEWHERE, sockets=[])
    assert places(by_driver(300), seen) == {}
    assert places(run(300), seen) != {}, "over sockets it is a cause"


@pytest.mark.parametrize("reason", ["NEIGH_FAILED", "QDISC_DROP", "NETFILTER_DROP"])
def test_requests_that_the_kernel_drops_here_are_other_programs(reason: str) -> None:
    dropped = [Dropped("own", 0, reason, True, "eth0", 300)]
    seen = sampled(placement=ELSEWHERE, sockets=[])._replace(drops=dropped)
    assert places(by_driver(300), seen) == {}
    assert places(run(300), seen) != {}


def test_answers_that_the_program_passed_up_found_no_socket() -> None:
    seen = sampled(placement=ELSEWHERE, sockets=[])._replace(drops=[Dropped("own", 0, "NO_SOCKET", False, "eth0", 300)])
    assert places(by_driver(300), seen) == {"dropped_by_kernel": 300}


def test_the_targets_places_are_as_over_sockets() -> None:
    lost = {"Udp.RcvbufErrors": 50, "conntrack.drop": 30, "link.eth0.rx_otherhost_dropped": 20}
    found = places(by_driver(100), sampled({}, lost, sockets=[]))
    assert found == {"receive_buffer": 50, "other_host": 20, "conntrack": 30}


def test_frames_that_were_not_sent_are_told_from_replies_that_were_not_read() -> None:
    # The engine counts both in one number; the interface counts either, and the veth's other end what was not sent.
    own = {"link.eth0.tx_dropped": 700, "link.eth0.rx_dropped": 200}
    result = by_driver(1_000, own_drops=900)
    assert places(result, sampled(own, {"link.eth0.rx_dropped": 700})) == {"own_receive_buffer": 200, "device": 700}
    (first, second) = findings(closed(result, sampled(own, {"link.eth0.rx_dropped": 700})))
    assert (first.name, first.explains) == ("device", 700)
    assert second.sentence.startswith("200 answers reached this generator's AF_XDP sockets")
    assert "--threads" not in second.remedy


def test_a_refusal_comes_to_the_kernel_alone() -> None:
    # A closed port of Linux answered 6 of 1,917 requests by ICMP: its rate of these is limited.
    seen = sampled({"Icmp.InDestUnreachs": 6}, placement=ELSEWHERE, sockets=[])
    assert names(by_driver(SENT), seen) == ["port closed"]
    assert names(by_driver(SENT // 2), seen) == [], "some were answered"
    six = sampled({"Icmp6InDestUnreachs": 6}, placement=ELSEWHERE, sockets=[], version=6)
    assert ledger(by_driver(SENT), six).count("port_closed") == 6


def test_silence_gets_hints_of_what_is_different_without_sockets() -> None:
    silent = sampled(placement=ELSEWHERE, sockets=[])
    result = by_driver(SENT)
    asked = msgspec.structs.replace(result.scenario, sources=("10.99.0.0/28",), gateway_mac="02:00:00:00:00:01")
    (found,) = findings(closed(msgspec.structs.replace(result, scenario=asked), silent))
    for word in ("without --link xdp", "--gateway-mac", "--sources", "ethtool -K DEVICE gro on"):
        assert word in found.remedy
    card = msgspec.structs.replace(LINK, kind="")
    (found,) = findings(closed(msgspec.structs.replace(result, link=card), silent))
    assert "VLAN" in found.remedy
    assert "veth" not in found.remedy
    assert names(run(SENT), silent) == []


def test_silence_with_a_known_cause_is_that_cause_alone() -> None:
    assert names(by_driver(SENT), sampled({}, {"link.eth0.rx_otherhost_dropped": SENT})) == ["wrong hardware address"]


def test_a_late_generator_is_not_advised_to_have_more_threads() -> None:
    (found,) = findings(closed(by_driver(unsent={"late": 700}), sampled()))
    assert found.name == "generator"
    assert "--threads" not in found.remedy


def test_the_verdict_on_own_drops_names_both_kinds() -> None:
    word, why = verdict(run(900).outcomes, None, 900, RequestReply(), lost=None, interrupted=False, by_driver=True)
    assert (word, why.startswith("900 frames were dropped by this host's interface")) == ("generator-limited", True)


def test_the_device_is_that_of_the_link(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = CounterSampler.__new__(CounterSampler)
    sampler._net, sampler._peaks = None, None
    endpoint = SimpleNamespace(address=ip_address("192.0.2.10"), scope=0)
    plan: Any = SimpleNamespace(endpoint=endpoint, link=LINK, message_bytes=48, sources=[])
    sampler._plan = plan
    monkeypatch.setattr(counters.drop_reasons, "unresolved", lambda _: True)
    monkeypatch.setattr(counters.route, "towards", lambda *_: Route("eth9", ip_address("192.0.2.1")))
    found = sampler._surroundings(ledgers.growth(), None, [], [], {})
    assert (found.device, found.neighbour) == ("eth0", "")
