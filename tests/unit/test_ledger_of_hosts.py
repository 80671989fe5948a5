"""One ledger over several hosts: it closes, and each counter explains only what it can."""

from __future__ import annotations

from typing import Any

import ledgers
import msgspec
from hypothesis import given
from hypothesis import strategies as st

from flatout.result.ledger import Ledger
from flatout.result.merge import merge
from flatout.result.model import LoadResult
from flatout.runner.counters import Sampled
from flatout.runner.ledger_of_hosts import HostPart, Machine, close

# At one host each of: a full queue that no send call saw, its device, connection tracking.
COUNTERS = ("qdisc.eth0.pfifo.drops", "link.eth0.rx_dropped", "conntrack.drop")


def part(number: int, of: int, lost: int = 0, sampled: Sampled | None = None, **changes: Any) -> HostPart:
    """Host `number` on a machine of its own, whose target is elsewhere unless `sampled` says otherwise."""
    seen = sampled or ledgers.sampled(placement=ledgers.ELSEWHERE, sockets=[])
    machine = changes.pop("machine", Machine(f"boot-{number}", 1))
    made = ledgers.run(lost, **changes)
    scenario = msgspec.structs.replace(made.scenario, node=(number, of))
    return HostPart(f"host-{number}", machine, msgspec.structs.replace(made, scenario=scenario), seen)


def whole(parts: list[HostPart], observer: Sampled | None = None) -> LoadResult:
    merged = merge([each.result for each in parts])
    return msgspec.structs.replace(merged, ledger=close(merged, parts, observer))


def closed(parts: list[HostPart], observer: Sampled | None = None) -> Ledger:
    found = whole(parts, observer).ledger
    assert found is not None
    assert found.lost == sum(each.result.outcomes.lost for each in parts)
    assert sum(line.count or 0 for line in found.lines if line.side == "lost") + (found.unexplained or 0) == found.lost
    return found


def at(ledger: Ledger, place: str) -> list[tuple[int | None, str]]:
    return [(line.count, line.where) for line in ledger.lines if line.place == place and line.count]


def test_a_host_explains_what_it_lost_itself_and_no_more() -> None:
    own = {"link.eth0.rx_dropped": 50}
    busy = ledgers.sampled(own, placement=ledgers.ELSEWHERE, sockets=[])
    found = closed([part(1, 2, 30, busy), part(2, 2, 100)])
    assert at(found, "device") == [(30, "host-1: eth0")]
    assert found.unexplained == 100
    assert [line.counted for line in found.lines if line.place == "device"] == [50]


def test_what_was_not_sent_is_by_host() -> None:
    parts = [part(1, 2, unsent={"late": 7}), part(2, 2, unsent={"late": 5, "no_slot": 2})]
    found = closed(parts)
    late = [(line.count, line.where) for line in found.lines if line.place == "schedule"]
    assert late == [
        (7, "host-1: more than 1 ms late in this generator"),
        (5, "host-2: more than 1 ms late in this generator"),
    ]
    assert found.count("own_slots") == 2
    merged = whole(parts)
    assert merged.outcomes.planned == found.sent + sum(line.count or 0 for line in found.lines if line.side == "unsent")


def test_many_hosts_are_three_lines_and_the_rest() -> None:
    found = closed([part(n, 9, unsent={"late": n}) for n in range(1, 10)])
    lines = [line for line in found.lines if line.place == "schedule"]
    assert [line.count for line in lines] == [9, 8, 7, 21]
    assert lines[-1].where.startswith("6 more hosts: ")
    blind = [line.blind for line in found.lines if line.place == "receive_buffer"]
    assert blind == ["the target is on another host, as far as can be seen"]


def test_the_targets_counters_explain_what_all_hosts_lost() -> None:
    full = [msgspec.structs.replace(ledgers.SOCKET, drops=90)]
    beside = ledgers.sampled(target={"Udp.RcvbufErrors": 90, "received": 10**6}, sockets=full)
    found = closed([part(1, 2, 10, beside), part(2, 2, 85)])
    assert at(found, "receive_buffer") == [(90, "ntpd (process 812), 0.0.0.0:123")]
    assert (found.unexplained, found.target_namespace, len(found.sockets)) == (5, "other", 1)
    assert found.at_target("Udp.RcvbufErrors") == 90


def test_the_observer_is_used_where_no_generator_sees_the_target() -> None:
    full = [msgspec.structs.replace(ledgers.SOCKET, drops=40)]
    here = ledgers.sampled({"Udp.RcvbufErrors": 40}, sockets=full)
    parts = [part(1, 2, 20), part(2, 2, 20)]
    assert at(closed(parts, here), "receive_buffer") == [(40, "ntpd (process 812), 0.0.0.0:123")]
    assert closed(parts).unexplained == 40


def test_workers_of_one_namespace_have_the_same_counters() -> None:
    own = {"link.eth0.rx_dropped": 50}
    seen = ledgers.sampled(own, placement=ledgers.ELSEWHERE, sockets=[])
    one = Machine("boot", 7)
    found = closed([part(1, 2, 40, seen, machine=one), part(2, 2, 40, seen, machine=one)])
    assert at(found, "device") == [(50, "host-1 and 1 more on its host: eth0")]
    other = [part(1, 2, 40, seen, machine=one), part(2, 2, 40, seen, machine=Machine("boot", 8))]
    assert sum(count or 0 for count, _ in at(closed(other), "device")) == 80, "each namespace has its own devices"


def test_the_backlog_is_a_machines() -> None:
    def lost(namespace: int) -> HostPart:
        about = ledgers.contention(backlog_drops=60)
        return part(namespace, 2, 40, machine=Machine("boot", namespace), contention=about)

    found = closed([lost(1), lost(2)])
    assert sum(count or 0 for count, _ in at(found, "backlog")) == 60


def test_in_the_targets_own_namespace_generators_are_left_out_of_its_counters() -> None:
    answered = ledgers.SENT - 30
    both = {"Udp.InDatagrams": 4 * answered + 20, "Udp.OutDatagrams": 2 * ledgers.SENT + 2 * answered}
    seen = ledgers.sampled(both | {"Udp.RcvbufErrors": 40 + 2 * 5}, sockets=[])
    one = Machine("boot", 7)
    found = closed([part(n, 2, 30, seen, machine=one, own_drops=5) for n in (1, 2)])
    assert sum(count or 0 for count, _ in at(found, "own_receive_buffer")) == 10
    assert [count for count, _ in at(found, "receive_buffer")] == [40]
    assert [count for count, _ in at(found, "application")] == [10], "20 were read more than answered; 10 were left"
    assert found.unexplained == 0


@given(
    st.lists(
        st.tuples(
            st.integers(0, 200), st.integers(0, 50), st.dictionaries(st.sampled_from(COUNTERS), st.integers(0, 90))
        ),
        min_size=1,
        max_size=6,
    ),
    st.integers(0, 300),
    st.integers(1, 3),
)
def test_it_always_closes(hosts: list[tuple[int, int, dict[str, int]]], at_target: int, spaces: int) -> None:
    of = len(hosts)
    parts = []
    for n, (lost, own_drops, own) in enumerate(hosts, 1):
        seen = ledgers.sampled(own, placement=ledgers.ELSEWHERE, sockets=[])
        if n == 1:
            seen = ledgers.sampled(own, {"Udp.RcvbufErrors": at_target, "received": 10**7}, sockets=[])
        machine = Machine("boot", n % spaces)
        parts.append(part(n, of, lost, seen, own_drops=own_drops, machine=machine))
    closed(parts)


def test_counters_that_could_not_be_read_are_named() -> None:
    found = closed([part(1, 2, 5), part(2, 2, 5)._replace(sampled=None)])
    assert [line.blind for line in found.lines if line.place == "device"] == [
        "host-2: the kernel's counters could not be read at the end"
    ]
    assert found.unexplained == 10


def test_over_connections_events_stand_beside() -> None:
    def streams(number: int, own: dict[str, int]) -> HostPart:
        seen = ledgers.sampled(own, placement=ledgers.ELSEWHERE, sockets=[])
        made = part(number, 2, 3, seen)
        scenario = msgspec.structs.replace(made.result.scenario, transport="tcp")
        return made._replace(result=msgspec.structs.replace(made.result, scenario=scenario))

    found = closed([streams(1, {"Tcp.RetransSegs": 4}), streams(2, {"Tcp.RetransSegs": 6})])
    assert at(found, "retransmissions") == [(6, "host-2: its network namespace"), (4, "host-1: its network namespace")]
    assert found.unexplained == 6
