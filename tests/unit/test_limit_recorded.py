"""The limit search against recorded machines: real servers' trials on shared CPUs, replayed by bootstrap.

The goal is an interval that contains the sweep's value in 17 of 20 searches. On these recordings it is not met yet:
near the limit a third to a half of the trials do not hold, over a range of 1 : 2 (docs/measuring.md). What holds is
asserted.
"""

from __future__ import annotations

from limit_recorded import RECORDED, Machine

MACHINES = {machine.name: machine for machine in map(Machine.read, RECORDED)}


def test_there_are_recordings() -> None:
    assert MACHINES.keys() >= {"chronyd", "knot"}
    assert all(len(machine.trials) >= 300 for machine in MACHINES.values())


def test_a_search_of_chronyd_ends_near_the_sweeps_value() -> None:
    machine = MACHINES["chronyd"]
    values = [machine.search(seed).done.value or 0 for seed in range(20)]
    assert sum(0.85 * machine.limit <= value <= 1.15 * machine.limit for value in values) >= 17


def test_a_server_that_shares_every_cpu_is_never_said_to_be_the_limit() -> None:
    """knotd with a worker pinned to each of two CPUs: what did not hold was the generator's doing."""
    played = [MACHINES["knot"].search(seed) for seed in range(20)]
    assert {each.done.stopped_by for each in played} == {"generator"}
    assert all(each.done.value for each in played), "no search ends without an answer"
