"""Fleets of many simulated hosts, each with a clock of its own: real scheduler, orders, events and merge."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import dask
import distributed
import msgspec
import pytest

from flatout.fleet.cluster import Fleet
from flatout.fleet.drive import FleetRun
from flatout.result.histogram import distribution
from flatout.result.model import LoadResult
from flatout.runner.progress import RunProgress
from flatout.scenario.build import scenario_of
from flatout.scenario.model import Scenario
from simulated_hosts import OVER, QUIET, Faults, Simulation, histogram, model, offset_ns

EACH, SECONDS = 30, 4


class Ran(NamedTuple):
    """One run: what was asked, its result, and its progress."""

    scenario: Scenario
    result: LoadResult
    seen: list[RunProgress]

    def samples(self) -> list[int]:
        """The latencies of all answers that the hosts of the result had."""
        of = max(int(self.scenario.flows), 1)
        parts = {node.node: int(node.hostname.removeprefix("host-")) for node in self.result.nodes}
        own = [msgspec.structs.replace(self.scenario, node=(n, of)) for n in parts]
        return [ns for one, number in zip(own, parts.values(), strict=True) for ns in model(one, number).answered]


Drive = Callable[..., Ran]


@pytest.fixture
def drive() -> Iterator[Drive]:
    """Runs a load over so many simulated hosts, threads of this process behind real connections."""
    opened: list[Any] = []

    def run(hosts: int, **faults: Any) -> Ran:
        dask.config.set(QUIET)
        cluster = distributed.LocalCluster(
            n_workers=hosts,
            threads_per_worker=1,
            processes=False,
            protocol="tcp://",
            host="127.0.0.1",
            dashboard_address=None,
            # All workers would watch the memory of this one process.
            memory_limit=0,
        )
        client = distributed.Client(cluster)
        opened.extend((cluster, client))
        fleet = Fleet(client, Simulation(faults=Faults(**faults)).calls())
        scenario = scenario_of(
            "ntp",
            "127.0.0.1:123",
            rate=EACH * hosts,
            duration=float(SECONDS),
            profile=None,
            flows=hosts,
            warmup=0.0,
            timeout=0.1,
        )
        seen: list[RunProgress] = []
        return Ran(scenario, FleetRun(fleet)(scenario, seen.append, threading.Event()), seen)

    try:
        yield run
    finally:
        OVER.set()
        for one in reversed(opened):
            one.close()
        OVER.clear()


def check(ran: Ran, hosts: int) -> None:
    """All of it is there once, in the scheduler's time, and gives the percentiles of one process."""
    result, samples = ran.result, ran.samples()
    assert len(result.nodes) == hosts
    assert (result.verdict, result.warnings) == ("ok", [])
    assert result.outcomes.planned == EACH * SECONDS * hosts == sum(node.sent for node in result.nodes)
    assert result.outcomes.answered == len(samples) == result.tallies["right"]
    assert result.latency_ns.from_due == distribution(histogram(samples))
    assert [second.t_s for second in result.intervals] == [1.0, 2.0, 3.0, 4.0]
    assert sum(second.answered for second in result.intervals) == len(samples)
    for node in result.nodes:
        number = int(node.hostname.removeprefix("host-"))
        assert abs((node.clock_offset_ns or 0) - offset_ns(number)) <= (node.clock_error_ns or 0)
        assert (node.start_late_ns or 0) <= 1_000_000
    assert ran.seen[-1].sent == result.outcomes.sent


@pytest.mark.parametrize("hosts", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_hosts_minutes_apart_are_one_process(drive: Drive, hosts: int) -> None:
    check(drive(hosts), hosts)


def test_what_goes_wrong_is_named(drive: Drive) -> None:
    result = drive(10, limited={3}, set_clock={4}, late_ns={5: 20_000_000}).result
    assert result.verdict == "generator-limited"
    assert "(host-3)" in result.why
    assert "hosts began 20.0 ms apart; 1 ms is wanted" in result.warnings
    assert sum("was set or drifted" in warning for warning in result.warnings) == 1
    assert result.outcomes.planned == EACH * SECONDS * 10


def test_what_the_others_measured_is_kept_when_one_dies(drive: Drive) -> None:
    ran = drive(10, dies={6})
    result = ran.result
    assert (result.verdict, len(result.nodes), len(result.lost_hosts)) == ("generator-limited", 9, 1)
    assert result.why.startswith("lost during the run: ")
    assert result.latency_ns.from_due == distribution(histogram(ran.samples()))


@pytest.mark.slow
def test_a_hundred_hosts_of_which_some_fail(drive: Drive) -> None:
    result = drive(100, dies={6, 60}, stalls={7}, limited={8}).result
    assert (result.verdict, len(result.nodes), len(result.lost_hosts)) == ("generator-limited", 97, 3)
