"""The limit search against recorded machines: real servers' trials on shared CPUs, replayed by bootstrap.

The goal is an interval that contains the sweep's value in 17 of 20 searches and is at most 5 % wide. On the recording
of chronyd it is met in 16, at 8 %: the share of trials that hold is nearly flat over a tenth of the load there. On that
of our own server it is met in 14, at 7 % (bench/runs). What holds is asserted.
"""

from __future__ import annotations

import statistics

from limit_recorded import RECORDED, Machine

MACHINES = {machine.name: machine for machine in map(Machine.read, RECORDED)}


def test_there_are_recordings() -> None:
    assert MACHINES.keys() >= {"chronyd", "knot", "serve-ntp"}
    assert all(len(machine.trials) >= 300 for machine in MACHINES.values())


def test_searches_of_chronyd_contain_the_sweeps_value() -> None:
    machine = MACHINES["chronyd"]
    played = [machine.search(seed) for seed in range(20)]
    assert sum(each.contains(machine.limit) for each in played) >= 16
    assert statistics.median(each.width for each in played) <= 0.09
    assert sum(each.done.confirmed for each in played) >= 17
    values = [each.done.value or 0 for each in played]
    assert all(0.9 * machine.limit <= value <= 1.1 * machine.limit for value in values)


def test_searches_of_our_own_server_end_below_what_it_holds() -> None:
    """Above its limit the generator is at its end, too."""
    machine = MACHINES["serve-ntp"]
    values = [machine.search(seed).done.value or 0 for seed in range(20)]
    assert all(0.87 * machine.limit <= value <= machine.limit for value in values)


def test_a_server_that_shares_every_cpu_is_never_said_to_be_the_limit() -> None:
    """knotd with a worker pinned to each of two CPUs: what did not hold was the generator's doing."""
    played = [MACHINES["knot"].search(seed) for seed in range(20)]
    assert {each.done.stopped_by for each in played} == {"generator"}
    assert all(each.done.value for each in played), "no search ends without an answer"
