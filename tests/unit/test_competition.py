"""How a run reacts to its target's wait for CPUs: counters made by hand, virtual time, an engine that only listens."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from fake_engine import FakeRun
from limit_runs import run

from flatout.host.contention import Sample
from flatout.host.target import Thread
from flatout.result import waiting
from flatout.result.machine import Contention, Placement, PlacementTarget, TargetContention
from flatout.runner import competition
from flatout.runner.competition import Competition, competed

ABOUT = PlacementTarget(pids=[500], command="chronyd", threads=1, sockets=1, cpus=[0, 1])
APART = Placement(target=ABOUT, cpus=[1], why="apart from chronyd (process 500)")


class World:
    """A clock, and how long the target's thread has run and waited."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s, self.waited_s, self.dropped = 0.0, 0.0, 0
        monkeypatch.setattr(competition.time, "monotonic", lambda: self.now_s)
        self.last_cpu, self.ended = 1, []
        monkeypatch.setattr(competition.contention, "sample", lambda _threads: self.sample())
        monkeypatch.setattr(competition.target, "last_cpus", lambda _threads: {self.last_cpu})
        monkeypatch.setattr(competition.target, "ended", lambda _pids: self.ended)
        threads = (Thread(500, 500, (0, 1), 0),)
        plan: Any = SimpleNamespace(placement=APART, target_threads=threads, engine=SimpleNamespace(workers=1))
        self.running: Any = FakeRun([(0, {})])
        self.running.shared = False
        self.competing = Competition(plan)

    def sample(self) -> Sample:
        return Sample({500: (0, round(self.waited_s * 1e9))}, {}, 0.0, backlog_drops=self.dropped)

    def tick(self, t_s: float, waited_s: float) -> None:
        self.now_s += 0.1
        self.waited_s += waited_s
        self.competing.tick(self.running, t_s)


def test_a_target_that_waits_in_the_warm_up_stops_the_spinning(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.tick(-0.2, 0.004)
    assert (world.running.shared, world.competing.placement) == (False, APART), "4 % are no reason"
    world.tick(-0.1, 0.03)
    assert world.running.shared
    assert world.competing.placement.shared_cpus == [1]
    assert "in the warm-up waited for a CPU for 30% of 0.1 s" in world.competing.placement.why


def test_a_target_that_waits_on_another_cpu_than_load_threads_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.last_cpu = 0
    world.tick(-0.1, 0.03)
    assert (world.running.shared, world.competing.placement) == (False, APART)


def test_processes_of_the_target_that_end_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.ended = [500]
    world.competing.end(world.running)
    about = world.competing.placement.target
    assert about is not None
    assert about.ended_text == "chronyd (process 500) ended"
    assert ABOUT.ended_text == ""


def test_what_counts_begins_after_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.tick(-0.1, 0.08)
    world.tick(0.0, 0.0)
    world.tick(0.1, 0.01)
    found = world.competing.end(world.running)
    assert found.target is not None
    assert found.target.run_delay_share == pytest.approx(0.05), "10 ms of 0.2 s, without the 80 ms before"


def test_once_counting_has_begun_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.tick(0.1, 0.09)
    assert (world.running.shared, world.competing.placement) == (False, APART)


def waited(share: float) -> Contention:
    target = TargetContention(cpu_s=0.1, run_delay_s=share, run_delay_share=share, busiest_share=0.1, busy_threads=1)
    return Contention(run_delay_s=0.0, involuntary_switches=0, threads=1, target=target)


def test_the_next_trial_does_not_spin_where_the_target_had_to_wait() -> None:
    calm = msgspec.structs.replace(run(1_000), placement=APART, contention=waited(0.04))
    assert not competed(calm)
    assert competed(msgspec.structs.replace(calm, contention=waited(0.06)))
    assert competed(msgspec.structs.replace(calm, placement=Placement(target=ABOUT, shared_cpus=[0])))
    assert not competed(run(1_000))


@pytest.mark.parametrize(
    ("share", "delay", "reported"), [(0.02, 0.03, True), (0.04, 0.03, False), (0.001, 0.004, False)]
)
def test_a_wait_explains_as_large_a_share_and_no_larger(share: float, delay: float, reported: bool) -> None:
    text = waiting.explains(share, waited(delay), APART)
    assert (text is not None) == reported
    assert text is None or text == f"a thread of chronyd waited {delay:.1%} of the time for a CPU that others held"


def test_shares_are_those_of_the_time_in_which_requests_were_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    world.tick(0.1, 0.05)
    world.competing.sending_ended()
    for t_s in (0.2, 0.3, 0.4):
        world.tick(t_s, 0.1)
        world.competing.sending_ended()
    world.dropped = 4
    found = world.competing.end(world.running)
    assert found.target is not None
    assert (found.elapsed_s, found.target.run_delay_share) == (pytest.approx(0.1), pytest.approx(0.5))
    assert found.backlog_drops == 4, "what was dropped since counts too"
