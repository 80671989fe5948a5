"""Accounts that once went wrong: counters with other packets in them, of another scale, or of another time."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ledgers
import msgspec
import pytest
from ledgers import ELSEWHERE, SOCKET, closed, run, sampled

from flatout.host import counters, target
from flatout.plan.addresses import Endpoint
from flatout.result.ledger import Ledger, TargetSocket
from flatout.result.machine import Placement
from flatout.result.model import LoadResult
from flatout.runner import counters as sampling
from flatout.runner.counters import CounterSampler, Sampled


def ledger(result: LoadResult, seen: Sampled) -> Ledger:
    found = closed(result, seen).ledger
    assert found is not None
    return found


def counts(result: LoadResult, seen: Sampled) -> dict[str, int]:
    return {line.place: line.count for line in ledger(result, seen).lines if line.count}


def sockets(*drops: int) -> list[TargetSocket]:
    return [msgspec.structs.replace(SOCKET, drops=number) for number in drops]


@pytest.mark.parametrize(
    ("received", "known"), [(9_980, True), (9_979, False), (None, True)], ids=["as many", "fewer", "not known"]
)
def test_a_namespace_is_anothers_only_if_fewer_came_since_before_the_run(received: int | None, known: bool) -> None:
    found = ledger(run(20), sampled({}, {"received": received}, sockets=sockets(20)))  # type: ignore[dict-item]
    assert (found.count("receive_buffer"), found.unexplained) == ((20, 0) if known else (0, 20))


def test_what_udp_dropped_for_other_reasons_is_not_the_buffers() -> None:
    pressed = {"Udp.RcvbufErrors": 100, "Udp.MemErrors": 700, "Udp.InCsumErrors": 100}
    assert counts(run(900), sampled(pressed, sockets=sockets(600, 300))) == {
        "udp_memory": 700,
        "udp_checksum": 100,
        "receive_buffer": 100,
    }
    # Here the memory was another program's.
    others = {"Udp.RcvbufErrors": 900, "Udp.MemErrors": 700}
    assert counts(run(900), sampled(others, sockets=sockets(900))) == {"receive_buffer": 900}


def test_nothing_that_comes_in_explains_one_way_messages_to_another_host() -> None:
    scans = {
        "Ip.InReceives": 150,
        "TcpExt.IPReversePathFilter": 5,
        "link.eth0.rx_dropped": 15,
        "link.eth0.tx_dropped": 2,
    }
    about = ledgers.contention(backlog_drops=30)
    one_way = msgspec.structs.replace(run(100, contention=about), one_way=True, loss=None)
    assert counts(one_way, sampled(scans, placement=ELSEWHERE, sockets=[])) == {"device": 2}
    asked = counts(run(300, contention=about), sampled(scans, placement=ELSEWHERE, sockets=[]))
    assert asked == {"backlog": 30, "reverse_path": 5, "firewall": 145}


def test_answers_that_were_tried_again_are_not_lost() -> None:
    again = {"Udp.SndbufErrors": 5_000, "Udp.InDatagrams": 10_000, "Udp.OutDatagrams": 10_000}
    assert counts(run(50), sampled({}, again)) == {}
    some = {"Udp.SndbufErrors": 5_000, "Udp.InDatagrams": 10_000, "Udp.OutDatagrams": 9_960}
    assert counts(run(50), sampled({}, some)) == {"answer_send_buffer": 40}


def test_the_application_is_blind_where_sending_is_counted_by_the_bundle() -> None:
    bundles = {"Udp.InDatagrams": 20_000 - 300, "Udp.OutDatagrams": 200 + 9_700}
    result = run(300)
    result = msgspec.structs.replace(result, scenario=msgspec.structs.replace(result.scenario, gso=True))
    (line,) = [line for line in ledger(result, sampled(bundles)).lines if line.place == "application"]
    assert (line.count, "--gso" in line.blind) == (None, True)


def test_datagrams_of_others_are_not_the_applications_loss() -> None:
    read = {"Udp.InDatagrams": 10_000 + 90, "Udp.OutDatagrams": 9_910}
    assert counts(run(90), sampled({}, read, sockets=[])) == {"application": 90}
    # All that was lost never came, and others sent as many that nobody answers.
    read = {"Udp.InDatagrams": 10_000, "Udp.OutDatagrams": 9_910}
    assert counts(run(90), sampled({}, read, sockets=sockets(90))) == {"receive_buffer": 90}


# --- Counters that cannot be read for a time ---


@pytest.mark.parametrize("unread", ["before", "after"])
def test_totals_since_boot_are_no_growth(unread: str) -> None:
    full = counters.Counters({"Udp.InCsumErrors": 500_000, "TcpExt.ListenDrops": 7, "Udp6InErrors": 3}, {})
    without = counters.Counters({"TcpExt.ListenDrops": 5, "Udp6InErrors": 3}, {"snmp": "too many open files"})
    pair = (without, full) if unread == "before" else (full, without)
    grown = counters.growth(*pair)
    assert grown["Udp.InCsumErrors"] == 0
    assert grown.unknown("Udp.InCsumErrors") == "too many open files"
    assert grown.unknown("TcpExt.ListenDrops" if unread == "before" else "Udp6InErrors") == ""
    assert "Udp.InCsumErrors" not in grown.blind, "the source says it"


def test_a_line_that_is_cut_short_is_blind(tmp_path: Path) -> None:
    (tmp_path / "dev").write_text("Inter-|\n face |\n  eth0: 1 2 3\n")
    assert "not as this version" in counters.read(tmp_path).blind["dev"]


# --- Which sockets ---


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", {"127.0.0.1"}),
        ("127.0.0.2", {"0.0.0.0"}),
        ("::1", {"::"}),
        ("fd00::1", {"fd00::1"}),
    ],
)
def test_the_kernel_prefers_the_nearest_address(address: str, expected: set[str]) -> None:
    bound = [ip_address(text) for text in ("0.0.0.0", "::", "127.0.0.1", "fd00::1", "10.0.0.1")]
    assert {str(bound[n]) for n in target.receivers_of(ip_address(address), bound)} == expected


def test_one_socket_of_both_families_and_those_that_share() -> None:
    both = [ip_address("::"), ip_address("::"), ip_address("10.0.0.1")]
    assert target.receivers_of(ip_address("127.0.0.1"), both) == [0, 1]
    mapped = [ip_address("::"), ip_address("::ffff:127.0.0.1")]
    assert target.receivers_of(ip_address("127.0.0.1"), mapped) == [1]
    assert target.receivers_of(ip_address("::1"), [ip_address("0.0.0.0")]) == []


# --- What a buffer is charged ---


@pytest.mark.parametrize(
    ("protocol", "message_bytes", "octets", "packets", "expected"),
    [
        ("ntp", None, 76 * 2_000, 2_000, 48),
        # Queries of 40 bytes and answers of 1,200, both of which come in.
        ("dns", None, (68 + 1_228) * 1_000, 2_000, 128),
        # 64 datagrams come as one, and count as 64.
        ("record", 48, 3_100 * 10, 640, 48),
        ("ntp", None, 0, 0, 1),
    ],
)
def test_the_size_of_a_request(
    monkeypatch: pytest.MonkeyPatch,
    *,
    protocol: str,
    message_bytes: int | None,
    octets: int,
    packets: int,
    expected: int,
) -> None:
    reads = iter([{}, {"IpExt.InOctets": octets, "IpExt.InNoECTPkts": packets}])
    monkeypatch.setattr(sampling.counters, "read", lambda _net: counters.Counters(next(reads), {}))
    monkeypatch.setattr(sampling.sock_diag, "charge", lambda payload: payload)
    plan: Any = SimpleNamespace(
        placement=Placement(where="here"),
        scenario=SimpleNamespace(warmup_s=0, streams=False, protocol=protocol),
        one_way=False,
        message_bytes=message_bytes,
        engine=SimpleNamespace(targets=[]),
        endpoint=SimpleNamespace(address=ip_address("127.0.0.1"), scope=0),
        link=None,
        sources=[],
    )
    assert CounterSampler(plan).end(plan.placement).surroundings.packet_bytes == expected


# --- Several targets ---


def test_targets_that_are_not_looked_at_are_a_blind_line() -> None:
    seen = sampled()._replace(not_looked_at=tuple(f"10.0.0.{n}:123" for n in range(1, 6)))
    (line,) = [line for line in ledger(run(10), seen).lines if line.place == "device"]
    assert (line.count, line.side) == (None, "lost")
    assert line.blind == "devices and counters of 10.0.0.1:123, 10.0.0.2:123, 10.0.0.3:123 and 2 more are not read"


@pytest.mark.parametrize(
    ("first", "where", "others"),
    [
        ("127.0.0.1", sampling.OWN, ["10.0.0.1:5", "10.9.0.1:5"]),
        ("10.0.0.1", Path("/proc/7/net"), ["127.0.0.1:5", "10.9.0.1:5"]),
        ("10.0.0.1", None, ["127.0.0.1:5", "10.9.0.1:5"]),
    ],
    ids=["here", "in another namespace", "elsewhere"],
)
def test_only_targets_that_are_reached_as_the_first_are_looked_at(
    monkeypatch: pytest.MonkeyPatch, first: str, where: Path | None, others: list[str]
) -> None:
    find_target = sampling.find_target
    monkeypatch.setattr(find_target, "is_local", lambda address, _scope: address.is_loopback)
    monkeypatch.setattr(find_target, "has_address", lambda _net, address: str(address).startswith("10.0.0."))
    device = {True: "eth0", False: "eth1"}
    monkeypatch.setattr(
        sampling.route,
        "towards",
        lambda address, _scope: sampling.route.Route(device[str(address).startswith("10.0.0.")], address),
    )
    sampler = object.__new__(CounterSampler)
    targets = [Endpoint(ip_address(text), 5) for text in ("127.0.0.1", "127.0.0.2", "10.0.0.1", "10.0.0.2", "10.9.0.1")]
    plan: Any = SimpleNamespace(endpoint=Endpoint(ip_address(first), 5))
    sampler._plan, sampler._net = plan, where
    apart = {str(each) for each in targets if not sampler._is_with_first(each)}
    assert set(others) <= apart
    near = {"127.0.0.1:5", "127.0.0.2:5"} if where == sampling.OWN else {"10.0.0.1:5", "10.0.0.2:5"}
    assert near.isdisjoint(apart)
    assert near | apart == {str(each) for each in targets}
