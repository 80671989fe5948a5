"""Drop reasons: a reader over a fake program, and what a ledger makes of rows made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec
import pytest
from ledgers import ELSEWHERE, SENT, SOCKET, closed, over_streams, run, sampled

from flatout import _engine
from flatout.analysis import findings
from flatout.host import drops
from flatout.host.drops import COUNTED_ELSEWHERE, HARMLESS, DropKey, Dropped, DropReader
from flatout.result.model import LoadResult
from flatout.runner import drop_reasons
from flatout.runner.counters import Sampled
from flatout.view import ledger as account

TARGETS = [(ip_address("::ffff:192.0.2.1"), 53), (ip_address("192.0.2.2"), 53), (ip_address("192.0.2.2"), 5353)]


class FakeProgram:
    """In place of the engine's: what it was asked for, and rows that a test sets."""

    rows: Sequence[tuple[int, str, bool, bool, str, int]] = ()
    overflow = 0
    failure: Exception | None = None

    def __init__(self, **asked: Any) -> None:
        if self.failure:
            raise self.failure
        self.asked, self.stopped = asked, False

    def counts(self) -> list[tuple[int, str, bool, bool, str, int]]:
        return list(self.rows)

    def uncounted(self) -> int:
        return self.overflow

    def stop(self) -> None:
        self.stopped = True


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> type[FakeProgram]:
    class Program(FakeProgram):
        pass

    monkeypatch.setattr(drops, "DropCounter", Program)
    return Program


def dropped(reason: str, packets: int, *, space: drops.Space = "own", towards: bool = True) -> Dropped:
    return Dropped(space, 77 if space == "other" else 0, reason, towards, "eth0", packets)


def with_drops(*rows: Dropped, **more: Any) -> Sampled:
    return sampled(**more)._replace(drops=list(rows))


def lines(result: LoadResult) -> list[tuple[str, int | None, str]]:
    assert result.ledger is not None
    return [(line.place, line.count, line.where) for line in result.ledger.lines if line.count]


def test_the_program_is_asked_for_this_run_only(program: type[FakeProgram]) -> None:
    made: list[FakeProgram] = []
    program.__init__ = lambda self, **asked: (FakeProgram.__init__(self, **asked), made.append(self))[0]  # type: ignore
    DropReader(TARGETS, stream=True).stop()
    (one,) = made
    assert one.stopped
    assert one.asked["ports"] == [53, 5353]
    assert (one.asked["ip_version"], one.asked["ip_protocol"]) == (4, 6)
    assert one.asked["addresses"] == [ip_address("192.0.2.1"), ip_address("192.0.2.2")]
    assert {"QUEUE_PURGE", "TCP_OLD_DATA", "OTHERHOST", "SOCKET_RCVBUFF"} <= set(one.asked["ignored"])
    DropReader(TARGETS[1:], stream=False)
    assert made[1].asked["ip_protocol"] == 17


def test_what_forbids_it_makes_it_blind(program: type[FakeProgram]) -> None:
    program.failure = _engine.BpfError("lockdown", "the kernel is locked down")
    reader = DropReader(TARGETS, stream=False)
    assert (reader.read(), reader.blind) == (None, "the kernel is locked down")
    reader.stop()


def test_a_program_that_fails_later_makes_it_blind(program: type[FakeProgram], monkeypatch: pytest.MonkeyPatch) -> None:
    reader = DropReader(TARGETS, stream=False)
    assert (reader.read(), reader.blind) == ({}, "")

    def fails(_self: FakeProgram) -> Any:
        raise _engine.BpfError("failed", "the map is gone")

    monkeypatch.setattr(program, "counts", fails)
    assert (reader.read(), reader.blind) == (None, "the map is gone")
    assert reader.read() is None


def test_too_many_different_drops_are_counted_as_far_as_there_was_room(program: type[FakeProgram]) -> None:
    program.rows, program.overflow = [(1, "NOMEM", True, True, "", 5)], 3
    reader = DropReader(TARGETS, stream=False)
    assert reader.read() == {DropKey(1, "NOMEM", True, True, ""): 5}
    assert "more different drops" in reader.blind


def test_without_a_description_of_types_the_engine_says_so(tmp_path: Path) -> None:
    for path, words in (
        (tmp_path / "vmlinux", "does not exist"),
        (Path("/proc/version"), "not a description of types"),
    ):
        reader = DropReader(TARGETS, stream=False, btf=path)
        assert words in reader.blind
        assert str(path) in reader.blind


def test_growth_by_namespace_without_other_programs_packets() -> None:
    here, there, router = 10, 20, 30
    before = {DropKey(here, "NETFILTER_DROP", True, True, "eth0"): 5}
    after = {
        DropKey(here, "NETFILTER_DROP", True, True, "eth0"): 7,
        DropKey(here, "NETFILTER_DROP", True, False, "eth0"): 4,
        DropKey(there, "NOMEM", False, False, ""): 1,
        DropKey(router, "NOMEM", True, True, "one"): 2,
        DropKey(router, "NOMEM", True, False, "one"): 100,
    }
    assert drops.grown(before, after, here, there) == [
        Dropped("own", 0, "NETFILTER_DROP", True, "eth0", 6),
        Dropped("other", 30, "NOMEM", True, "one", 2),
        Dropped("target", 0, "NOMEM", False, "", 1),
    ]
    assert drops.grown(after, after, here, there) == []


def test_the_namespace_of_a_process() -> None:
    assert drops.namespace(Path("/proc/self/net")) == drops.namespace(Path("/proc/thread-self/net")) > 0
    assert drops.namespace(Path("/nonexistent/net")) == 0


def test_the_filter_is_exact_and_what_was_inferred_is_not_added() -> None:
    # The namespace's counters have 400 packets that ended nowhere, most of them of others.
    own = {"Ip.InReceives": 400}
    result = closed(run(100), with_drops(dropped("NETFILTER_DROP", 60), own=own))
    assert lines(result) == [("firewall", 60, "this host's network namespace")]
    assert result.ledger is not None
    assert result.ledger.unexplained == 40


def test_a_full_connection_table_is_told_apart_from_the_filter() -> None:
    result = closed(run(100), with_drops(dropped("NETFILTER_DROP", 100), own={"conntrack.drop": 30}))
    assert [(place, count) for place, count, _ in lines(result)] == [("conntrack", 30), ("firewall", 70)]
    # Packets of others that found no room in the table are not this run's.
    result = closed(run(100), with_drops(dropped("NETFILTER_DROP", 100), own={"conntrack.drop": 5000}))
    assert [(place, count) for place, count, _ in lines(result)] == [("conntrack", 100)]


def test_what_was_never_sent_is_not_lost_too() -> None:
    seen = with_drops(
        dropped("NETFILTER_DROP", 50), dropped("QDISC_DROP", 40), dropped("NETFILTER_DROP", 9, towards=False)
    )
    result = closed(run(20, unsent={"send_failed": 50, "dropped_here": 35}), seen)
    assert lines(result)[2:] == [
        ("firewall", 9, "this host's network namespace"),
        ("qdisc", 5, "eth0 of this host's network namespace"),
    ]


@pytest.mark.parametrize(
    ("rows", "counters", "expected"),
    [
        ([dropped("FULL_RING", 80)], {"own": {"link.eth0.tx_dropped": 50}}, [("device", 50), ("device", 30)]),
        ([dropped("NOT_SPECIFIED", 50)], {"own": {"link.eth0.tx_dropped": 50}}, [("device", 50)]),
        ([dropped("NOT_SPECIFIED", 50)], {}, [("dropped_by_kernel", 50)]),
        (
            [dropped("QDISC_DROP", 80, space="target", towards=False)],
            {"target": {"Udp.SndbufErrors": 70, "Udp.InDatagrams": 70}},
            [("answer_send_buffer", 70), ("qdisc", 10)],
        ),
        (
            [dropped("SOCKET_FILTER", 60)],
            {"sockets": [msgspec.structs.replace(SOCKET, drops=60)]},
            [("receive_buffer", 60)],
        ),
        ([dropped("IP_RPFILTER", 60)], {"own": {"TcpExt.IPReversePathFilter": 900}}, [("reverse_path", 60)]),
        ([dropped("OPENVSWITCH 3", 60)], {}, [("dropped_by_kernel", 60)]),
    ],
)
def test_no_packet_is_counted_twice(rows: list[Dropped], counters: Any, expected: list[tuple[str, int]]) -> None:
    result = closed(run(100), with_drops(*rows, **counters))
    assert [(place, count) for place, count, _ in lines(result)] == expected


def test_other_namespaces_are_named() -> None:
    result = closed(run(100), with_drops(dropped("NETFILTER_DROP", 60, space="other"), placement=ELSEWHERE))
    assert lines(result) == [("firewall", 60, "eth0 of network namespace 77")]
    assert [finding.name for finding in findings(result)] == ["firewall"]


def test_neighbours_have_what_was_dropped_and_what_still_waits() -> None:
    seen = with_drops(dropped("NEIGH_QUEUEFULL", 9_000), neighbour="2001:db8::9", version=6, placement=ELSEWHERE)
    result = closed(run(SENT), seen)
    assert lines(result) == [
        ("neighbour", 9_000, "eth0 of this host's network namespace"),
        ("neighbour", 1_000, "2001:db8::9, by eth0"),
    ]
    (finding,) = findings(result)
    assert finding.name == "neighbour"
    assert finding.sentence.startswith("The next hop 2001:db8::9 does not answer neighbour discovery on eth0")
    assert finding.evidence == [
        "eth0 of this host's network namespace: 9,000 packets dropped for NEIGH_QUEUEFULL (kfree_skb)"
    ]


def test_a_blind_line_says_why_and_the_view_shows_it() -> None:
    seen = sampled()._replace(drops_blind="not permitted")
    result = closed(run(100), seen)
    shown = [(row.place, row.where) for row in account.rows(result)]
    assert ("dropped by kernel", "unknown: drop reasons: not permitted") in shown


def test_over_connections_they_stand_beside() -> None:
    result = closed(over_streams(), with_drops(dropped("NETFILTER_DROP", 60), dropped("TCP_INVALID_SYN", 2)))
    assert result.ledger is not None
    beside = [(line.place, line.count) for line in result.ledger.lines if line.side == "beside"]
    assert beside == [("firewall", 60), ("dropped_by_kernel", 2)]


def test_no_reason_is_listed_twice() -> None:
    assert not set(HARMLESS) & set(COUNTED_ELSEWHERE)
    assert not (set(HARMLESS) | set(COUNTED_ELSEWHERE)) & set(drop_reasons.PLACES)
