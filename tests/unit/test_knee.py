"""The knee of a search: the first resource to saturate, whatever order, noise and gaps its trials have."""

from __future__ import annotations

import random

import ledgers
import msgspec
import pytest
import ramps
import results
from hypothesis import given
from hypothesis import strategies as st
from ramps import busy, line, one_thread, ramp, search, trial

from flatout.analysis import explained_limit
from flatout.analysis.knee import knee
from flatout.result.model import LimitResult
from flatout.view.ledger import knee_text
from flatout.view.terminal import summary

LOADS = [1_000.0 * 2**n for n in range(9)]


def test_a_single_thread_is_named_with_its_growth():
    found = knee(ramp(LOADS, one_thread(100_000)))
    assert found is not None
    assert (found.resource, found.load) == ("single thread", 128_000.0)
    assert found.sentence == "CPU of ntpd's busiest thread: 64 % at 64 k/s, 100 % at 128 k/s."
    assert [point.saturated for point in found.course] == [False] * 7 + [True] * 2
    assert found.confidence == "high"


def test_flat_with_idle_cpu_is_serialised_in_the_application():
    found = knee(ramp(LOADS, one_thread(5_000, cpu_from=0.2)))
    assert found is not None
    assert (found.resource, found.load) == ("application", 8_000.0)
    assert found.sentence == (
        "The rate is flat from 8 k/s on, and the target's busiest thread used only 20 % of a CPU: requests wait for "
        "one another in the application."
    )
    assert any("receive buffer" in text for text in found.evidence)


def test_flat_with_idle_cpu_without_any_drop_is_the_same():
    found = knee(ramp(LOADS, lambda load: trial(load, good=min(load, 1_000), about=busy(0.1))))
    assert found is not None
    assert found.resource == "application"


def test_a_receive_buffer_of_a_server_whose_cpu_is_unknown_stays_the_buffer():
    def unseen(load):
        return msgspec.structs.replace(one_thread(5_000)(load), contention=ledgers.contention(target=None))

    found = knee(ramp(LOADS, unseen))
    assert found is not None
    assert found.resource == "receive buffer"
    assert "single thread" in found.unknown


def test_the_cause_comes_before_what_follows_from_it():
    """At one load all of them set in; at another the earlier one is the knee."""

    def both(load):
        made = one_thread(100_000)(load)
        lines = [*made.ledger.lines, line("backlog", round(0.1 * made.outcomes.planned))] if load > 40_000 else []
        return msgspec.structs.replace(made, ledger=msgspec.structs.replace(made.ledger, lines=lines))

    found = knee(ramp(LOADS, both))
    assert found is not None
    assert (found.resource, found.load) == ("softnet backlog", 64_000.0)


PLACES = {
    "own_queue": "own queue",
    "qdisc": "queue (qdisc)",
    "device": "device",
    "backlog": "softnet backlog",
    "conntrack": "conntrack",
    "udp_memory": "socket memory",
    "receive_buffer": "receive buffer",
}


@pytest.mark.parametrize("place", PLACES)
def test_each_place_is_a_resource(place):
    def make(load):
        lost = max(load - 20_000, 0)
        return trial(load, good=load - lost, lines=[line(place, round(lost * ramps.SECONDS))], about=busy(0.9))

    found = knee(ramp(LOADS, make))
    assert found is not None
    assert (found.resource, found.load) == (PLACES[place], 32_000.0)


MACHINE = {
    "steal": lambda load: busy(0.1, steal_s=2.0 * load / LOADS[-1]),
    "CPU quota": lambda load: busy(0.1, target_throttled_s=max(load - 60_000, 0) / 1e5),
    "soft interrupts": lambda load: busy(0.1, softirq_s={"0": 10.0 * min(load / 100_000, 1), "1": 0.1}),
    "CPU": lambda load: ledgers.contention(
        target=ledgers.threads(busy_threads=4, busiest_share=0.5), busy_s={"0": 10.0 * min(load / 1e5, 1), "1": 9.9}
    ),
}


@pytest.mark.parametrize("resource", MACHINE)
def test_each_measure_of_the_machine_is_a_resource(resource):
    found = knee(ramp(LOADS, lambda load: trial(load, about=MACHINE[resource](load))))
    assert found is not None
    assert found.resource == resource


def test_the_generator_is_a_resource():
    def make(load):
        return msgspec.structs.replace(
            trial(load, about=busy(0.2)),
            **({"verdict": "invalid", "run_verdict": "generator-limited"} if load > 100_000 else {}),
        )

    found = knee(ramp(LOADS, make))
    assert found is not None
    assert (found.resource, found.load) == ("generator", 128_000.0)


@given(st.integers(0, 6), st.sampled_from(["softirq", "receive_buffer"]))
def test_a_resource_that_is_full_once_and_free_above_is_no_knee(at, what):
    """The top two loads saturate the thread; the disturbance is below."""

    def make(load):
        made = one_thread(100_000)(load)
        if load != LOADS[at]:
            return made
        if what == "softirq":
            return msgspec.structs.replace(made, contention=busy(load / 100_000, softirq_s={"0": 9.5, "1": 0.1}))
        lines = [line("receive_buffer", 500)]
        return msgspec.structs.replace(made, ledger=msgspec.structs.replace(made.ledger, lines=lines))

    found = knee(ramp(LOADS, make))
    assert found is not None
    assert (found.resource, found.load) == ("single thread", 128_000.0)


@given(st.floats(2_000, 200_000), st.randoms(use_true_random=False), st.integers(1, 3))
def test_noise_and_order_do_not_move_the_knee(capacity, chance, repeats):
    loads = [load for load in LOADS for _ in range(repeats)]
    trials = [one_thread(capacity)(load) for load in loads]
    noisy = [
        msgspec.structs.replace(one, contention=_shaken(one.contention, chance)) if one.contention else one
        for one in trials
    ]
    chance.shuffle(noisy)
    found = knee(search(noisy))
    assert found is not None
    first = next(load for load in LOADS if load >= 0.95 * capacity)
    assert found.resource == "single thread"
    # One step of the ramp is what noise of 3 % may cost, at a load that nearly fills the thread.
    assert first / 2 <= found.load <= first * 2
    assert [point.load for point in found.course] == LOADS


def _shaken(about, chance: random.Random):
    share = about.target.busiest_share
    share = min(max(share * chance.uniform(0.97, 1.03), 0.0), 1.0) if share < 1 else chance.uniform(0.96, 1.0)
    return msgspec.structs.replace(about, target=msgspec.structs.replace(about.target, busiest_share=share))


@given(st.permutations(range(len(LOADS))))
def test_the_order_of_trials_changes_nothing(order):
    trials = [one_thread(30_000)(load) for load in LOADS]
    assert knee(search([trials[n] for n in order])) == knee(search(trials))


@given(st.sets(st.integers(0, len(LOADS) - 1)))
def test_missing_measures_are_skipped_and_never_counted_as_free(missing):
    """Without any contention only drops are left, and the thread is then unknown."""

    def make(load):
        made = one_thread(100_000)(load)
        return msgspec.structs.replace(made, contention=None) if LOADS.index(load) in missing else made

    found = knee(ramp(LOADS, make))
    assert found is not None
    known = {LOADS[-1], LOADS[-2]} - {LOADS[n] for n in missing}
    assert found.resource == ("single thread" if LOADS[-2] in known else "receive buffer")
    assert ("single thread" in found.unknown) == (len(missing) == len(LOADS))


def test_nothing_saturated_is_said_with_what_is_unknown():
    found = knee(ramp(LOADS, lambda load: trial(load, about=busy(load / 1e6))))
    assert found is not None
    assert found.resource is None
    assert found.sentence.startswith("No measured resource saturated up to 256 k/s")
    blind = knee(ramp(LOADS, lambda load: msgspec.structs.replace(trial(load), ledger=None)))
    assert blind is not None
    assert blind.resource is None
    assert {"single thread", "receive buffer", "steal"} <= set(blind.unknown)
    assert "single thread" in blind.sentence


def test_a_blind_line_is_unknown_and_not_free():
    blind = line("receive_buffer", None, blind="the target is on another host")
    found = knee(ramp(LOADS, lambda load: trial(load, lines=[blind], about=busy(0.1))))
    assert found is not None
    assert "receive buffer" in found.unknown


@pytest.mark.parametrize("loads", [[], [1_000.0], [1_000.0, 1_000.0]])
def test_one_load_is_no_ramp(loads):
    assert knee(ramp(loads, one_thread(500))) is None


def test_a_full_resource_at_the_lowest_load_says_so():
    found = knee(ramp(LOADS, one_thread(500)))
    assert found is not None
    assert found.confidence == "low"
    assert "already at 1 k/s, the lowest load tried" in found.sentence


def test_cpu_that_does_not_grow_with_the_rate_is_said():
    dear = knee(ramp(LOADS, lambda load: trial(load, about=busy(min((load / LOADS[-1]) ** 2, 1.0)))))
    assert dear is not None
    assert dear.cpu_sentence == (
        "The target's CPU does not grow with the rate: 0.0153 µs each at 1,000/s, 3.91 µs at 256,000/s"
    )
    assert [point.good_per_s for point in dear.cpu] == LOADS
    even = knee(ramp(LOADS, lambda load: trial(load, about=busy(load / LOADS[-1]))))
    assert even is not None
    assert even.cpu_sentence == ""


def test_a_search_keeps_it_and_the_summary_has_one_line():
    result = explained_limit(ramp(LOADS, one_thread(100_000)))
    assert result.knee is not None
    text = summary.text(result, width=120)
    assert "Knee: CPU of ntpd's busiest thread: 64 % at 64 k/s, 100 % at 128 k/s. [high confidence]\n" in text
    again = msgspec.json.decode(result.to_json(), type=LimitResult)
    assert again.knee == result.knee
    assert knee_text(results.limit()) == ""
