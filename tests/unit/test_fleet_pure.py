"""What of a fleet is pure: offsets of clocks, the sum of progress and each host's beside it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.fleet.clocks import ClockOffset, Exchange, clock_offset, drifted
from flatout.fleet.cluster import FleetHost
from flatout.fleet.progress import FleetProgress, added, short_names
from flatout.fleet.worker import Capabilities
from flatout.result.model import Interval
from flatout.runner.progress import LatencySecond, RunProgress

_MINUTE = 60 * 10**9


@given(
    offset=st.integers(-10 * _MINUTE, 10 * _MINUTE),
    delays=st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**7), st.integers(0, 10**6)), min_size=1),
)
def test_the_true_offset_is_within_the_error(offset: int, delays: list[tuple[int, int, int]]) -> None:
    made, now = [], 10**18
    for there, inside, back in delays:
        made.append(Exchange(now + offset, now + there, now + there + inside, now + there + inside + back + offset))
        now += 10**9
    found = clock_offset(made)
    assert abs(found.offset_ns - offset) <= found.error_ns
    assert found.error_ns <= min(there + back for there, _, back in delays) // 2 + 1


def test_without_an_exchange_nothing_is_known() -> None:
    with pytest.raises(ValueError, match="empty"):
        clock_offset([])


def test_a_drift_counts_beyond_what_is_uncertain() -> None:
    def known(offset: int, error: int) -> ClockOffset:
        return ClockOffset(offset_ns=offset, error_ns=error)

    assert drifted(known(0, 100), known(150, 100)) == 0
    assert drifted(known(0, 100), known(-1200, 100)) == 1000


def part(**changes: Any) -> RunProgress:
    usual: dict[str, Any] = dict.fromkeys(
        ("planned", "sent", "unsent", "answered", "late", "refused", "invalid", "duplicate"), 1
    )
    usual |= {"phase": "running", "t_s": 1, "total_s": 10, "rate_per_s": 200.0, "latest": None}
    return RunProgress(**usual | changes)


def test_progress_adds_up_and_says_the_earliest_phase() -> None:
    parts = [part(sent=5, connections=3, connections_asked=4), part(sent=7, phase="warm-up", connections=1)]
    found = added(parts, 2)
    assert (found.sent, found.answered, found.phase) == (12, 2, "warm-up")
    assert (found.connections, found.connections_asked) == (4, 4)
    assert added(parts, 3).phase == "connecting", "one host has reported nothing yet"
    assert added([part(), part()], 3).phase == "waiting"
    assert added([part(), part()], 2).connections is None


def host(name: str, port: int) -> FleetHost:
    about = Capabilities(hostname=name, flatout="1", python="3", kernel="6", cpus=1, descriptors=9, io_uring=False)
    return FleetHost(address=f"tcp://10.0.0.1:{port}", capabilities=about)


def test_workers_of_one_host_are_told_apart() -> None:
    found = short_names([host("a", 1), host("b", 2), host("b", 3)])
    assert list(found.values()) == ["a", "b 10.0.0.1:2", "b 10.0.0.1:3"]


def second(t_s: float, **changes: Any) -> Interval:
    counts = dict.fromkeys(
        ("planned", "sent", "unsent", "answered", "late", "lost", "refused", "invalid", "duplicate"), 5
    )
    return Interval(t_s=t_s, **counts, p50=7, p99=9, lateness_p99=3, **changes)


def test_a_second_is_told_once_all_hosts_have_ended_it() -> None:
    reported: list[RunProgress] = []
    fleet = FleetProgress(None, "run", {"a": "one", "b": "two"}, reported.append)

    def tell(worker: str, run: str = "run", **changes: Any) -> None:
        event = msgspec.to_builtins(part(phase="done", **changes))
        fleet.take((0.0, {"run": run, "worker": worker, "progress": event}))

    tell("a", latest=second(1.0))
    tell("b", run="another", latest=second(1.0))
    tell("c", latest=second(1.0))
    assert reported[-1].intervals == ()
    assert [each.host for each in reported[-1].hosts] == ["one"]
    tell("b", latest=second(1.001))
    tell("b", latest=second(2.5))
    tell("a", latest=second(1.0))
    assert [(each.t_s, each.sent, each.p99) for each in reported[-1].intervals] == [(1.001, 10, None)]
    tell("a", latest=second(2.5), sent=8)
    assert reported[-1].latest == reported[-1].intervals[1]
    one, two = reported[-1].hosts
    assert (one.host, one.sent, one.rate_per_s, one.lateness_p99_ns) == ("one", 8, 10.0, 3)
    assert two.silent_s >= 0


def test_latencies_of_a_second_are_those_of_all_hosts() -> None:
    reported: list[RunProgress] = []
    fleet = FleetProgress(None, "run", {"a": "one", "b": "two"}, reported.append)

    def tell(worker: str, t_s: float, *bands: tuple[int, int], measured_s: float | None = None) -> None:
        latency = (LatencySecond(measured_s or t_s, bands),) if bands else ()
        event = msgspec.to_builtins(part(phase="done", latest=second(t_s), latency=latency))
        fleet.take((0.0, {"run": "run", "worker": worker, "progress": event}))

    tell("a", 1.0, (50, 2), (60, 1))
    tell("a", 1.0, (50, 2), (60, 1))
    tell("b", 1.001, (49, 4), (50, 3))
    assert reported[-1].latency == (LatencySecond(1.001, [(49, 4), (50, 5), (60, 1)]),)
    # In the next one nothing was answered: what a host told of before is not counted again.
    tell("a", 2.0)
    tell("b", 2.001, (49, 4), measured_s=1.001)
    assert (len(reported[-1].intervals), len(reported[-1].latency)) == (2, 1)
