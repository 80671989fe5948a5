"""What a fleet makes of its hosts: who is refused, what is kept of one that is lost, and findings by host."""

from __future__ import annotations

import datetime
import threading
import time
import types
from typing import Any

import ledgers
import msgspec
import pytest
import results

from flatout import analysis
from flatout.errors import FlatoutError, GeneratorLost, TargetError, UsageError
from flatout.fleet import at_scheduler, clock_server, cluster, drive, whole, worker
from flatout.fleet.clocks import ClockOffset
from flatout.fleet.cluster import Fleet, FleetHost
from flatout.fleet.worker import Capabilities
from flatout.host.describe import VERSION
from flatout.limit_search.trial_verdict import evaluate_trial
from flatout.result.machine import Subintervals
from flatout.result.merge import merge
from flatout.result.model import Goal, LoadResult
from flatout.runner.ledger_of_hosts import HostPart, Machine
from flatout.view.terminal import summary

ABOUT = {
    "hostname": "one",
    "flatout": VERSION,
    "python": "3",
    "kernel": "6",
    "cpus": 1,
    "descriptors": 9,
    "io_uring": False,
}


class Client:
    """As much of Dask's client as a fleet uses: answers by function."""

    def __init__(self, **answers: Any) -> None:
        self.id, self.status = "client", "running"
        self.scheduler = types.SimpleNamespace(address="tcp://127.0.0.1:1")
        self.answers: dict[Any, Any] = {
            worker.capabilities: {"tcp://a:1": ABOUT},
            worker.stop_all: {},
            clock_server.start: 1,
            at_scheduler.take: None,
            at_scheduler.silent: {"tcp://a:1": 0.1},
        }
        self.answers |= {getattr(module, name): answers[name] for module, name in _named(answers)}

    def run(self, function: Any, *_: Any, **__: Any) -> Any:
        return self._answer(function)

    def run_on_scheduler(self, function: Any, *_: Any) -> Any:
        return self._answer(function)

    def _answer(self, function: Any) -> Any:
        answer = self.answers[function]
        if isinstance(answer, BaseException):
            raise answer
        return answer


def _named(answers: dict[str, Any]) -> list[tuple[Any, str]]:
    modules = (worker, at_scheduler, clock_server)
    return [(module, name) for name in answers for module in modules if hasattr(module, name)]


# --- Who is refused ---


def test_a_worker_with_another_version_is_named_with_both() -> None:
    # Another version may tell less of itself.
    other = {"hostname": "two", "flatout": "0.0.1"}
    with pytest.raises(FlatoutError, match=rf"two \(tcp://b:1\) has flatout 0\.0\.1, and this host {VERSION}: install"):
        Fleet(Client(capabilities={"tcp://a:1": ABOUT, "tcp://b:1": other}))


@pytest.mark.parametrize(
    "error", [ModuleNotFoundError("No module named 'flatout'"), RuntimeError("No module named 'flatout'")]
)
def test_a_worker_without_flatout_is_told_what_to_install(error: Exception) -> None:
    with pytest.raises(FlatoutError, match=r"worker tcp://a:1 has no flatout: install flatout\[fleet\] ") as raised:
        Fleet(Client(capabilities={"tcp://a:1": error}))
    assert VERSION in str(raised.value)


def test_a_scheduler_without_flatout_is_named() -> None:
    with pytest.raises(FlatoutError, match="the scheduler's Python has no flatout: install"):
        Fleet(Client(take=ModuleNotFoundError("No module named 'flatout'")))


def test_a_fleet_that_another_drives_is_refused() -> None:
    with pytest.raises(UsageError, match="driven by me@here, process 7, since 10:00:00: wait until"):
        Fleet(Client(take="me@here, process 7, since 10:00:00"))


def test_a_scheduler_without_workers_is_no_fleet() -> None:
    with pytest.raises(TargetError, match="start `dask worker` on each host"):
        Fleet(Client(capabilities={}))


def test_a_worker_that_hangs_is_named() -> None:
    with pytest.raises(FlatoutError, match="no answer from tcp://b:1 for 10 s"):
        Fleet(Client(capabilities=TimeoutError(), silent={"tcp://a:1": 0.1, "tcp://b:1": 9.0}))


# --- Who drives ---


def scheduler(**clients: float) -> Any:
    """With clients, and how many s ago each reported."""
    known = {name: types.SimpleNamespace(last_seen=time.time() - ago) for name, ago in clients.items()}
    return types.SimpleNamespace(clients=known)


@pytest.fixture
def free() -> None:
    at_scheduler._held.clear()


@pytest.mark.usefixtures("free")
def test_the_first_client_drives_until_it_is_gone() -> None:
    both = scheduler(one=1, two=1)
    assert at_scheduler.take("one", "first", both) is None
    assert at_scheduler.take("one", "first again", both) is None
    assert at_scheduler.take("two", "second", both) == "first again"
    assert at_scheduler.take("two", "second", scheduler(two=1)) is None, "the first one has left"
    assert at_scheduler.take("three", "third", scheduler(two=31, three=0)) is None, "the second one is silent"


# --- Clocks, and hosts that are missing ---


def asked(ahead_s: float, way_s: float) -> list[tuple[int, int, int, int]]:
    """One exchange of a host whose clock is so far ahead."""
    ahead, way = round(ahead_s * 1e9), round(way_s * 1e9)
    return [(10**18 + ahead, 10**18 + way // 2, 10**18 + way // 2, 10**18 + way + ahead)]


def test_clocks_may_be_apart_but_must_be_known() -> None:
    fleet = Fleet(Client(exchanges={"tcp://a:1": asked(3.0, 1e-4)}))
    offset = fleet.offsets(fleet.hosts)["tcp://a:1"]
    assert abs(offset.offset_ns - 3 * 10**9) <= offset.error_ns < 10**6
    vague = Fleet(Client(exchanges={"tcp://a:1": asked(3.0, 4e-3)}))
    with pytest.raises(FlatoutError, match=r"the clock of one \(tcp://a:1\) is known to 2\.0 ms only: 1 ms is needed"):
        vague.offsets(vague.hosts)


def test_one_that_is_gone_and_one_that_stands_still() -> None:
    two = {"tcp://a:1": ABOUT, "tcp://b:1": ABOUT}
    fleet = Fleet(Client(capabilities=two, silent={"tcp://b:1": 7.0}))
    assert fleet.missing() == {"tcp://a:1": "is gone", "tcp://b:1": "stands still: no word for 7 s"}
    assert fleet.alive() == []


def test_a_scheduler_that_is_gone_ends_it() -> None:
    client = Client()
    fleet = Fleet(client)
    client.status = "connecting"
    with pytest.raises(GeneratorLost, match="the fleet's scheduler is gone"):
        fleet.alive()


def test_a_scheduler_that_hangs_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_ANSWER_S", 0.01)
    fleet = Fleet(Client())
    with pytest.raises(GeneratorLost, match="has not answered"):
        fleet._asked(threading.Event().wait)


# --- One result ---


def parts(*made: LoadResult, boot: str = "") -> list[HostPart]:
    found = []
    for n, result in enumerate(made, 1):
        scenario = msgspec.structs.replace(result.scenario, node=(n, len(made)))
        numbered = msgspec.structs.replace(result, scenario=scenario)
        seen = ledgers.sampled(placement=ledgers.ELSEWHERE, sockets=[])
        found.append(HostPart(f"host-{n}", Machine(boot or f"boot-{n}", n), numbered, seen))
    return whole.with_findings(found)


def together(*made: LoadResult) -> LoadResult:
    hosts = parts(*made)
    return analysis.explained(whole.explained(merge([each.result for each in hosts]), hosts, None))


def late(number: int) -> LoadResult:
    made = ledgers.run(unsent={"late": number}, verdict="generator-limited")
    return ledgers.closed(made, ledgers.sampled(placement=ledgers.ELSEWHERE, sockets=[]))


def test_findings_about_a_generator_name_its_host() -> None:
    fine = ledgers.closed(ledgers.run(), ledgers.sampled(placement=ledgers.ELSEWHERE, sockets=[]))
    found = together(fine, late(500), late(900), late(700), late(600), late(400))
    assert [finding.name for finding in found.findings] == ["generator"]
    one = found.findings[0]
    assert one.sentence.startswith("node 3 (bench-1): This generator fell behind: 900 ")
    assert one.sentence.endswith(" The same at node 4 (bench-1), node 5 (bench-1) and 2 more.")
    assert (one.explains, len(one.evidence)) == (3100, 3)
    assert [len(node.findings) for node in found.nodes] == [0, 1, 1, 1, 1, 1]
    assert found.verdict == "generator-limited"


def test_findings_about_the_target_are_of_the_whole() -> None:
    full = [msgspec.structs.replace(ledgers.SOCKET, drops=3000)]
    seen = ledgers.sampled(target={"Udp.RcvbufErrors": 3000, "received": 10**6}, sockets=full)
    hosts = parts(ledgers.run(1500), ledgers.run(1500))
    hosts[0] = hosts[0]._replace(sampled=seen)
    merged = merge([each.result for each in hosts])
    found = analysis.explained(whole.explained(merged, hosts, None)).findings
    assert [(each.name, each.explains) for each in found] == [("receive buffer", 3000)]


def test_a_run_with_a_lost_host_is_no_evidence() -> None:
    lost = msgspec.structs.replace(
        ledgers.run(9000), verdict="generator-limited", why="lost during the run: two", lost_hosts=["two"]
    )
    found = evaluate_trial(lost, Goal(loss=0.01), lambda *_: 0.0)
    assert (found.verdict, found.why, found.undriven) == ("invalid", "lost during the run: two", False)


def test_other_workers_of_a_machine_are_no_other_programs() -> None:
    busy = ledgers.run(contention=ledgers.contention(others_s=9.0), cpu_s={"workers": 4.0})
    quiet = ledgers.run(contention=ledgers.contention(others_s=1.0), cpu_s={"workers": 4.0})

    def others(boot: str) -> list[float | None]:
        hosts = parts(busy, quiet, boot=boot)
        merged = whole.explained(merge([each.result for each in hosts]), hosts, None)
        each = [part.result.contention.others_s for part in hosts if part.result.contention]
        return [*each, merged.contention.others_s if merged.contention else None]

    assert others("one") == [5.0, 0.0, 5.0]
    assert others("") == [9.0, 1.0, 9.0]


def test_times_in_which_one_host_was_late_are_left_out_of_a_trial() -> None:
    def timed(lateness: list[int], sent: int) -> LoadResult:
        times = Subintervals(0.1, [sent] * 4, [0] * 4, [sent] * 4, [0] * 4, lateness)
        return ledgers.run(subintervals=times)

    found = together(timed([0, 0, 0, 5], 10), timed([0, 9, 0, 0], 7)).subintervals
    assert found is not None
    assert (found.sent, found.lateness_max_ns) == ([17] * 4, [0, 9, 0, 5])
    shorter = ledgers.run(subintervals=Subintervals(0.1, [1], [0], [1], [0], [0]))
    assert together(timed([0] * 4, 1), shorter).subintervals is None, "a host that ended early"


def test_hosts_whose_clocks_are_minutes_apart_give_what_one_clock_gives() -> None:
    made = parts(results.load(1000, 3), results.load(1000, 3, seed=2))
    ahead_s = (0, 180)
    hosts = [
        FleetHost(address=f"tcp://{n}:1", capabilities=msgspec.convert(ABOUT, Capabilities)) for n in range(len(made))
    ]

    def merged_of(*, apart: bool) -> LoadResult:
        offsets, found = {}, {}
        for host, part, ahead in zip(hosts, made, ahead_s, strict=True):
            moment = datetime.datetime.fromisoformat(part.result.started_at)
            moment += datetime.timedelta(seconds=ahead if apart else 0)
            found[host.address] = msgspec.structs.replace(part.result, started_at=moment.isoformat())
            offsets[host.address] = ClockOffset(offset_ns=ahead * 10**9 if apart else 0, error_ns=1)
        around = types.SimpleNamespace(offsets=offsets, lost={}, start_ns=None)
        return drive._merged(hosts, found, around, offsets)  # type: ignore[arg-type]

    one, two = merged_of(apart=False), merged_of(apart=True)
    assert two.latency_ns == one.latency_ns
    assert two.latency_ns.from_due is not None
    assert (two.intervals, two.duration_s, two.started_at) == (one.intervals, one.duration_s, one.started_at)
    assert [node.start_late_ns for node in two.nodes] == [0, 0]
    assert [node.clock_offset_ns for node in two.nodes] == [0, 180 * 10**9]
    assert two.warnings == one.warnings == []


def test_the_summary_shows_hosts_beside() -> None:
    found = together(ledgers.run(3), ledgers.run())
    nodes = [
        msgspec.structs.replace(node, start_late_ns=12_000 * number, lateness_p99_ns=7_000)
        for number, node in enumerate(found.nodes)
    ]
    text = summary.text(msgspec.structs.replace(found, nodes=nodes))
    assert "node 1  bench-1  10,000 sent  3 lost  late p99 7.00 µs" in text
    many = [msgspec.structs.replace(nodes[1], node=number) for number in range(1, 21)]
    text = summary.text(msgspec.structs.replace(found, nodes=many))
    assert "and 8 more" in text
