"""The ledger closes: what was lost is at the places that counted it, and the rest is said to be unexplained."""

from __future__ import annotations

import struct
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ledgers
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledgers import ELSEWHERE, LISTENER, SOCKET, closed, over_streams, run, sampled

from flatout.host import counters, route, target_sockets
from flatout.host.target_sockets import SocketCounters
from flatout.result.ledger import Ledger
from flatout.result.machine import Placement
from flatout.result.model import LoadResult, ReceiverCounts
from flatout.runner import counters as sampling
from flatout.runner.counters import CounterSampler, Sampled

# --- Closing ---


def ledger(result: LoadResult, seen: Sampled) -> Ledger:
    found = closed(result, seen).ledger
    assert found is not None
    lost = sum(line.count or 0 for line in found.lines if line.side == "lost")
    if found.lost is not None:
        assert found.lost == lost + (found.unexplained or 0), "it closes"
    assert sum(line.count or 0 for line in found.lines if line.side == "unsent") == result.outcomes.unsent
    return found


def dropped(number: int, **changes: object) -> list[object]:
    return [msgspec.structs.replace(SOCKET, drops=number, **changes)]


def test_a_run_without_loss_has_only_blind_lines() -> None:
    found = ledger(run(), sampled({"Udp.InDatagrams": 20_000, "Udp.OutDatagrams": 20_000}))
    assert [line for line in found.lines if not line.blind] == []
    assert (found.lost, found.unexplained) == (0, 0)


def test_drops_of_the_socket_are_named_and_what_lies_unread_too() -> None:
    found = ledger(run(1_000), sampled(sockets=dropped(700, unread_bytes=256 * 832)))
    assert [(line.place, line.count, line.where) for line in found.lines if line.count] == [
        ("receive_buffer", 700, "ntpd (process 812), 0.0.0.0:123"),
        ("unread", 256, "ntpd (process 812), 0.0.0.0:123"),
    ]
    assert found.unexplained == 44


def test_a_counter_with_packets_of_others_gets_no_more_than_was_lost() -> None:
    found = ledger(run(1_000), sampled(sockets=dropped(1_500)))
    (line,) = [line for line in found.lines if line.count]
    assert (line.count, line.counted, found.unexplained) == (1_000, 1_500, 0)


def test_the_sockets_own_counter_comes_before_wider_ones() -> None:
    about = ledgers.contention(backlog_drops=900)
    found = ledger(run(1_000, contention=about, own_drops=100), sampled(sockets=dropped(600)))
    places = {line.place: (line.count, line.counted) for line in found.lines if line.count}
    assert places == {"own_receive_buffer": (100, None), "receive_buffer": (600, None), "backlog": (300, 900)}


def test_sockets_that_cannot_be_seen_leave_the_namespaces_counter() -> None:
    found = ledger(run(50, own_drops=10), sampled({"Udp.RcvbufErrors": 35}, sockets=[]))
    assert (found.count("own_receive_buffer"), found.count("receive_buffer"), found.unexplained) == (10, 25, 15)
    found = ledger(run(50), sampled({}, {"Udp6RcvbufErrors": 35}, sockets=[], version=6))
    assert found.count("receive_buffer") == 35


def test_on_another_host_the_lines_are_blind_and_say_why() -> None:
    found = ledger(run(50), sampled(placement=ELSEWHERE, sockets=[]))
    blind = {line.place: line.blind for line in found.lines if line.blind}
    assert blind.keys() == {"receive_buffer", "application"}
    assert set(blind.values()) == {"the target is on another host, as far as can be seen"}
    assert found.unexplained == 50


def test_unreadable_counters_are_blind_with_their_reason() -> None:
    seen = sampled(sockets=[])._replace(own=ledgers.growth({}, snmp="snmp cannot be read: Permission denied"))
    found = ledger(run(50, contention=ledgers.contention(backlog_drops=None)), seen)
    blind = {line.place: line.blind for line in found.lines if line.blind}
    places = ("udp_memory", "udp_checksum", "receive_buffer", "firewall", "application")
    assert blind == {
        **dict.fromkeys(places, "snmp cannot be read: Permission denied"),
        "backlog": "/proc/net/softnet_stat cannot be read",
    }


def test_of_the_other_ip_version_nothing_need_be_read() -> None:
    denied = {"snmp6": "snmp6 cannot be read: Permission denied"}
    v6 = sampled({"Ip6InReceives": 50}, sockets=[], version=6)._replace(own=ledgers.growth({}, **denied))
    blind = {line.place for line in ledger(run(50), v6).lines if line.blind}
    assert blind == {"udp_memory", "udp_checksum", "receive_buffer", "firewall", "application"}
    v4 = sampled(sockets=[])._replace(own=ledgers.growth({}, **denied))
    assert [line.place for line in ledger(run(50), v4).lines if line.blind] == []


def test_packets_that_come_in_and_end_nowhere_were_filtered() -> None:
    arrived = {"Ip.InReceives": 9_000, "Ip.InDelivers": 7_900, "Ip.ReasmReqds": 20, "Ip.ReasmOKs": 10}
    lost = {**arrived, "TcpExt.IPReversePathFilter": 40, "conntrack.drop": 50}
    found = ledger(run(1_200), sampled({}, lost))
    assert {line.place: line.count for line in found.lines if line.count} == {
        "conntrack": 50,
        "reverse_path": 40,
        "firewall": 1_000,
    }
    found = ledger(run(30), sampled({}, {"Ip6InReceives": 10_030, "Ip6InDelivers": 10_000}, version=6))
    assert found.count("firewall") == 30


def test_what_was_read_and_not_answered_is_the_applications() -> None:
    found = ledger(run(300), sampled({}, {"Udp.InDatagrams": 9_900, "Udp.OutDatagrams": 9_700}))
    assert (found.count("application"), found.unexplained) == (200, 100)
    # In one namespace the generator's own datagrams are in both.
    both = {"Udp.InDatagrams": 9_900 + 9_700, "Udp.OutDatagrams": 10_000 + 9_700}
    assert ledger(run(300), sampled(both)).count("application") == 200


def test_another_namespace_with_the_same_address_is_not_the_targets() -> None:
    wrong = {"Ip.InReceives": 50, "Ip.InDelivers": 20, "Udp.RcvbufErrors": 9, "received": 50}
    found = ledger(run(300), sampled({}, wrong, sockets=dropped(9)))
    assert (found.unexplained, found.sockets) == (300, [])
    blind = {line.place: line.blind for line in found.lines if line.blind}
    assert blind["receive_buffer"] == "the target's network namespace cannot be read"


def test_other_programs_datagrams_make_the_application_blind() -> None:
    found = ledger(run(300), sampled({}, {"Udp.InDatagrams": 20_000, "Udp.OutDatagrams": 9_700}))
    (line,) = [line for line in found.lines if line.place == "application"]
    assert (line.count, line.blind) == (None, "other programs of its network namespace exchange datagrams too")


def test_an_unresolved_neighbour_has_all_that_was_lost_unless_something_came() -> None:
    nothing = run(ledgers.SENT)
    seen = sampled(placement=ELSEWHERE, sockets=[], neighbour="10.0.0.9")
    assert ledger(nothing, seen).count("neighbour") == ledgers.SENT
    assert ledger(run(10), seen).count("neighbour") == 0


def test_devices_without_what_the_backlog_dropped() -> None:
    about = ledgers.contention(backlog_drops=30)
    seen = sampled({"link.eth0.tx_dropped": 7, "link.eth1.tx_dropped": 99}, {"link.eth0.rx_dropped": 50})
    places = [(line.place, line.count) for line in ledger(run(100, contention=about), seen).lines if line.count]
    assert places == [("backlog", 30), ("device", 20)]
    # Over a veth pair both ends count the same packet.
    seen = sampled({"link.eth0.tx_dropped": 37}, {"link.eth0.rx_dropped": 30})
    places = [(line.place, line.count) for line in ledger(run(100, contention=about), seen).lines if line.count]
    assert places == [("backlog", 30), ("device", 7)]


def test_unsent_requests_by_reason() -> None:
    found = ledger(run(unsent={"late": 5, "dropped_here": 7, "send_failed": 1, "no_slot": 0}), sampled())
    assert [(line.place, line.count) for line in found.lines if line.side == "unsent"] == [
        ("schedule", 5),
        ("own_queue", 7),
        ("own_error", 1),
    ]


def test_connections_have_events_beside_the_sums() -> None:
    own = {"TcpExt.ListenOverflows": 10, "TcpExt.ListenDrops": 12, "TcpExt.SyncookiesSent": 3, "Tcp.RetransSegs": 4}
    found = ledger(over_streams(5), sampled(own, sockets=[LISTENER]))
    assert {line.place: line.count for line in found.lines if line.side == "beside"} == {
        "accept_queue": 10,
        "listen_drops": 2,
        "syn_cookies": 3,
        "retransmissions": 4,
    }
    assert found.unexplained == 5


def counted(lost_in_kernel: int) -> ReceiverCounts:
    fields = dict.fromkeys(ReceiverCounts.__struct_fields__, 0)
    return ReceiverCounts(**fields | {"lost_in_kernel": lost_in_kernel})


def test_one_way_messages_by_their_receiver() -> None:
    one_way = msgspec.structs.replace(run(100), one_way=True, receiver=counted(80))
    found = ledger(one_way, sampled(placement=ELSEWHERE, sockets=[]))
    assert (found.count("receive_buffer"), found.unexplained) == (80, 20)
    unknown = msgspec.structs.replace(run(100), one_way=True, loss=None)
    found = ledger(unknown, sampled(sockets=dropped(60)))
    assert (found.lost, found.unexplained, found.count("receive_buffer")) == (None, None, 60)


COUNTERS = st.dictionaries(
    st.sampled_from(
        [
            *("Udp.RcvbufErrors", "Udp.InDatagrams", "Udp.OutDatagrams", "Udp.MemErrors", "Udp.SndbufErrors"),
            *("Ip.InReceives", "Ip.InDelivers", "Ip.ReasmReqds", "conntrack.drop", "TcpExt.IPReversePathFilter"),
            *("link.eth0.tx_dropped", "link.eth0.rx_missed_errors", "link.eth0.rx_otherhost_dropped"),
            *("qdisc.eth0.tbf.drops", "Ip.OutNoRoutes"),
        ]
    ),
    st.integers(0, 50_000),
)


@given(
    lost=st.integers(0, ledgers.SENT),
    own=COUNTERS,
    target=st.none() | COUNTERS,
    drops=st.integers(0, 20_000),
    unread=st.integers(0, 1 << 24),
    backlog=st.none() | st.integers(0, 20_000),
    streams=st.booleans(),
)
def test_it_closes_whatever_the_counters_say(
    *,
    lost: int,
    own: dict[str, int],
    target: dict[str, int] | None,
    drops: int,
    unread: int,
    backlog: int | None,
    streams: bool,
) -> None:
    about = ledgers.contention(backlog_drops=backlog)
    result = over_streams(lost, contention=about) if streams else run(lost, contention=about)
    found = ledger(result, sampled(own, target, sockets=dropped(drops, unread_bytes=unread)))
    assert all(line.count is None or line.count >= 0 for line in found.lines)
    assert found.unexplained is not None
    assert found.unexplained >= 0


# --- Reading counters ---

SNMP = "Ip: Forwarding InReceives\nIp: 1 {received}\nUdp: InDatagrams RcvbufErrors\nUdp: 7 {drops}\n"
NETSTAT = "TcpExt: ListenOverflows\nTcpExt: {overflows}\nIpExt: OutOctets\nIpExt: 5\n"
DEV = """Inter-|   Receive                                                |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
  eth0:  10 1 1 {drops} 0 0 0 0 20 2 0 3 0 0 0 0
"""
CONNTRACK = (
    "entries  clashres drop early_drop\n00000005  00000000 0000000a 00000001\n00000005 00000000 00000006 00000000\n"
)


def proc(folder: Path, received: int = 0, drops: int = 0, overflows: int = 0) -> Path:
    net = folder / f"net-{received}-{drops}-{overflows}"
    (net / "stat").mkdir(parents=True, exist_ok=True)
    (net / "snmp").write_text(SNMP.format(received=received, drops=drops))
    (net / "netstat").write_text(NETSTAT.format(overflows=overflows))
    (net / "dev").write_text(DEV.format(drops=drops))
    (net / "stat/nf_conntrack").write_text(CONNTRACK)
    return net


def test_counters_by_the_kernels_names(tmp_path: Path) -> None:
    read = counters.read(proc(tmp_path, 10, 4, 2))
    assert read.blind == {}
    assert read.values["Udp.RcvbufErrors"] == read.values["dev.eth0.rx_dropped"] == 4
    assert (read.values["TcpExt.ListenOverflows"], read.values["dev.eth0.tx_dropped"]) == (2, 3)
    assert (read.values["conntrack.drop"], read.values["conntrack.early_drop"]) == (16, 1)
    assert counters.conntrack_entries(proc(tmp_path)) == 5
    assert counters.conntrack_entries(tmp_path / "none") is None


def test_only_what_grew_is_kept(tmp_path: Path) -> None:
    before, after = counters.read(proc(tmp_path, 10, 4)), counters.read(proc(tmp_path, 30, 4, 1))
    assert counters.growth(before, after).values == {"Ip.InReceives": 20, "TcpExt.ListenOverflows": 1}


def test_counters_wrap_at_32_bits_are_set_back_and_vanish(tmp_path: Path) -> None:
    before = counters.read(proc(tmp_path, 2**32 - 5, 1_000))
    after = counters.read(proc(tmp_path, 7, 10))
    del after.values["TcpExt.ListenOverflows"], after.values["Udp.InDatagrams"]
    found = counters.growth(before, after)
    assert found["Ip.InReceives"] == 12
    assert found.unknown("Udp.RcvbufErrors") == "Udp.RcvbufErrors was set back during the run"
    assert found.unknown("Udp.InDatagrams") == "Udp.InDatagrams vanished during the run"
    assert found.unknown("TcpExt.ListenOverflows") == "", "one that never counted"


def test_a_key_that_appears_counts_from_0(tmp_path: Path) -> None:
    before, after = counters.read(proc(tmp_path)), counters.read(proc(tmp_path))
    after.values["IcmpMsg.InType3"] = 9
    assert counters.growth(before, after)["IcmpMsg.InType3"] == 9


def test_missing_and_strange_files_are_blind(tmp_path: Path) -> None:
    net = proc(tmp_path)
    (net / "netstat").unlink()
    (net / "snmp").write_text("Ip: InReceives\nIp: many\n")
    (net / "stat/nf_conntrack").unlink()
    read = counters.read(net)
    assert read.blind == {
        "netstat": f"{net}/netstat does not exist",
        "snmp": f"{net}/snmp is not as this version of flatout knows it",
    }


# --- Sockets, routes ---


def test_only_sockets_that_were_there_before_have_drops(tmp_path: Path) -> None:
    held = tmp_path / "812" / "fd"
    held.mkdir(parents=True)
    (held / "3").symlink_to("socket:[7]")
    before = {7: SocketCounters("0.0.0.0:123", 2**32 - 1, 0), 8: SocketCounters("[::]:123", None, 0)}
    after = {7: SocketCounters("0.0.0.0:123", 4, 832), 8: before[8], 9: SocketCounters("0.0.0.0:123", 99, 0)}
    first, second = target_sockets.changed(before, after, [812], "ntpd", tmp_path)
    assert (first.process, first.drops, first.unread_bytes) == ("ntpd (process 812)", 5, 832)
    assert (second.process, second.drops) == ("", None)


def test_sockets_of_another_namespace_by_proc(tmp_path: Path) -> None:
    head = (
        "sl local_address rem_address st tx_queue rx_queue tr tm->when retrnsmt uid timeout inode ref pointer drops\n"
    )
    row = (
        "  1: {local} 00000000:0000 07 00000000:00000340 00:00000000 00000000 0 0 {inode} 2 0000000000000000 {drops}\n"
    )
    anybody = f"{struct.unpack('=I', bytes(4))[0]:08X}:007B"
    (tmp_path / "udp").write_text(head + row.format(local=anybody, inode=7, drops=31))
    found = target_sockets.read([(ip_address("10.0.0.1"), 123)], stream=False, net=tmp_path, same_namespace=False)
    assert found == {7: SocketCounters("0.0.0.0:123", 31, 0x340)}


def test_the_route_with_the_longest_prefix(tmp_path: Path) -> None:
    def word(text: str) -> str:
        return f"{struct.unpack('=I', bytes(map(int, text.split('.'))))[0]:08X}"

    rows = [
        ("eth0", "0.0.0.0", "192.0.2.1", "0003", "0.0.0.0"),
        ("eth1", "10.0.0.0", "0.0.0.0", "0001", "255.255.0.0"),
        ("eth2", "10.0.0.0", "0.0.0.0", "0000", "255.255.255.0"),
    ]
    lines = [
        f"{d}\t{word(to)}\t{word(via)}\t{flags}\t0\t0\t0\t{word(mask)}\t0\t0\t0" for d, to, via, flags, mask in rows
    ]
    (tmp_path / "route").write_text("\n".join(["Iface ...", *lines]))
    near, far = (ip_address(text) for text in ("10.0.0.7", "203.0.113.9"))
    assert route.towards(near, net=tmp_path) == route.Route("eth1", near)
    assert route.towards(far, net=tmp_path) == route.Route("eth0", ip_address("192.0.2.1"))
    (tmp_path / "arp").write_text(
        "IP address HW type Flags HW address Mask Device\n10.0.0.7 0x1 0x0 00:00:00:00:00:00 * eth1\n"
        "192.0.2.1 0x1 0x2 02:00:00:00:00:01 * eth0\n"
    )
    assert [route.unresolved(ip_address(hop), tmp_path) for hop in ("10.0.0.7", "192.0.2.1")] == [
        True,
        False,
    ]
    assert route.unresolved(ip_address("10.0.0.8"), tmp_path) is False


@pytest.mark.parametrize("missing", ["route", "ipv6_route"])
def test_without_a_routing_table_there_is_no_route(tmp_path: Path, missing: str) -> None:
    address = "10.0.0.7" if missing == "route" else "fd00::1"
    assert route.towards(ip_address(address), net=tmp_path) is None


# --- Sampling ---


@pytest.mark.parametrize(
    ("warmup_s", "ticks", "began"),
    [
        (1.0, [-0.5, -0.0039, 0.001, 0.2], 2),
        (1.0, [-0.5, 0.001, 0.2], 2),
        (1.0, [-0.5, 1.5], 1),
        (0.0, [0.1], 1),
    ],
    ids=[
        "just before counting begins",
        "on the tick at which counting begins",
        "too late for that",
        "without a warm-up",
    ],
)
def test_counting_begins_with_the_nearest_sample(
    monkeypatch: pytest.MonkeyPatch, warmup_s: float, ticks: list[float], began: int
) -> None:
    reads = iter(range(1, 9))
    monkeypatch.setattr(
        sampling.counters, "read", lambda _net: counters.Counters({"Udp.NoPorts": 10 * next(reads)}, {})
    )
    plan: Any = SimpleNamespace(
        placement=Placement(where="elsewhere"),
        scenario=SimpleNamespace(warmup_s=warmup_s, streams=False),
        one_way=False,
        message_bytes=48,
        engine=SimpleNamespace(targets=[]),
        endpoint=SimpleNamespace(address=ip_address("127.0.0.1"), scope=0),
        link=None,
        sources=[],
    )
    sampler = CounterSampler(plan)
    for t_s in ticks:
        sampler.tick(t_s)
    last = next(iter(reads))
    assert sampler.end(plan.placement).own["Udp.NoPorts"] == 10 * (last + 1 - began)
