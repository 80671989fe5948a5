"""The limit search against recorded machines: real servers' trials, replayed by bootstrap."""

from __future__ import annotations

import pytest
from limit_recorded import RECORDED, Machine

MACHINES = [Machine.read(path) for path in RECORDED]


def test_there_are_recordings() -> None:
    assert {machine.name for machine in MACHINES} >= {"chronyd", "knot", "serve-ntp"}
    assert all(len(machine.trials) >= 300 for machine in MACHINES)


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_of_twenty_searches_the_interval_contains_the_sweeps_value_in_17(machine: Machine) -> None:
    played = [machine.search(seed) for seed in range(20)]
    assert all(each.done.value for each in played), "no search ends without an answer"
    assert sum(each.contains(machine.limit) for each in played) >= 17
    assert sorted(each.width for each in played)[10] <= 0.05
