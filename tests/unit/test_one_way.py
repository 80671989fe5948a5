"""What may be asked of messages that nobody answers, and what the engine is given for it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from flatout import searching
from flatout.errors import UsageError
from flatout.plan import resolve as plan
from flatout.plan.load_plan import Ticks
from flatout.protocols import PROTOCOLS
from flatout.scenario.build import scenario_of
from flatout.scenario.model import Scenario, Segment

NAME = next(name for name, protocol in PROTOCOLS.items() if protocol.one_way is not None)
ANSWERED = next(name for name, protocol in PROTOCOLS.items() if protocol.one_way is None)
TARGET = "127.0.0.1:5"


def scenario(protocol: str = NAME, target: str = TARGET, **given: Any) -> Scenario:
    fields: dict[str, Any] = {"rate": None, "duration": 1.0, "profile": None, **given}
    return scenario_of(protocol, target, **fields)


def test_there_is_no_warm_up_and_a_flow_for_each_sender() -> None:
    made = scenario(rate="10k")
    assert (made.warmup_s, made.senders, made.flows, made.spread) == (0.0, 10_000, 64, 1.0)
    assert scenario(rate="10k", senders=10).flows == 10
    assert scenario(rate="10k", senders="1k").flows == 64
    assert scenario(rate="10k", senders=10, flows=3).flows == 3


def test_each_thread_has_a_sender_for_each_target() -> None:
    by_address: dict[str, Any] = {"rate": "10k", "flows": 1, "options": {"format": "seq:u4"}}
    assert scenario(**by_address).senders == 1
    assert scenario(**by_address, threads=2).senders == 2
    assert scenario(**by_address, threads=2, node="1/3").senders == 6
    assert scenario(target="127.0.0.1:5,127.0.0.2:5", **by_address, threads=2).senders == 4


def test_there_are_no_more_senders_than_a_receiver_tells_apart() -> None:
    assert scenario(rate="10k", options={"format": "id:u1 seq:u4"}).senders == 256
    assert scenario(rate="10k", options={"format": "seq:u4"}).senders == 64, "one for each flow"
    assert scenario(rate="10k", options={"format": "x:f4"}).senders == 10_000, "nobody tells any apart"
    with pytest.raises(UsageError, match="no more than 256 apart"):
        plan.make(scenario(rate="10k", senders=257, options={"format": "id:u1 seq:u4"}))
    with pytest.raises(UsageError, match="no more --senders than --flows"):
        plan.make(scenario(rate="10k", senders=65, options={"format": "seq:u4"}))


def test_senders_at_a_tick_set_the_rate() -> None:
    made = scenario(senders="10k", tick=20, spread="10%")
    assert made.profile == (Segment(1.0, 200_000.0, 200_000.0),)
    assert (made.senders, made.spread) == (10_000, 0.1)
    assert scenario(senders=10_000, tick="20", spread=0.1) == made


def test_a_count_sets_the_duration() -> None:
    assert scenario(rate="100k", count="10M").profile == (Segment(100.0, 1e5, 1e5),)
    assert scenario(protocol=ANSWERED, rate=1_000, count=250).duration_s == 0.25
    assert scenario(senders=100, tick=20, count=1_000).duration_s == 0.5


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"tick": 20}, "--senders"),
        ({"tick": 20, "senders": 10, "rate": 5}, "tick"),
        ({"tick": 20, "senders": 10, "profile": "1k 1s"}, "tick"),
        ({"tick": 0, "senders": 10}, "tick=0: give a number per second above 0"),
        ({"rate": 10, "timeout": 1}, "time-out"),
        ({"rate": 10, "count": 0}, "count"),
        ({"rate": 10, "count": 5, "arrivals": "poisson"}, "random arrivals"),
        ({"profile": "1k 1s, 2k 1s", "count": 5}, "one steady rate"),
        ({"rate": 10, "spread": "150%"}, "150%"),
    ],
)
def test_options_that_do_not_fit_together(given: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        plan.make(scenario(**given))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"warmup_s": 1.0}, "no warm-up"),
        ({"require": ("p99<5ms",)}, "p99<5ms"),
        ({"require": ("late<5",)}, "late<5"),
        ({"threads": 2, "flows": 2}, "--senders 2"),
        ({"node": (1, 2)}, "--senders 2"),
        ({"senders": 0}, "senders"),
        ({"senders": 2**32}, "senders"),
        ({"spread": -0.1}, "--spread"),
        ({"spread": 1.1}, "--spread"),
        ({"spread": 0.5, "arrivals": "poisson"}, "random arrivals"),
        ({"target": "127.0.0.1:5,127.0.0.1:6", "flows": 2}, "--senders 2"),
        ({"target": "127.0.0.1:5,127.0.0.1:6", "senders": 2}, "--flows"),
        ({"target": "127.0.0.1:5,127.0.0.1:5", "senders": 2, "flows": 2}, "twice"),
        ({"target": "127.0.0.1:5,[::1]:5", "senders": 2, "flows": 2}, "IPv6"),
        ({"target": "127.0.0.1:5,"}, "several"),
        ({"target": "127.0.0.1:5,8.8.8.8:5", "senders": 2, "flows": 2}, "public"),
    ],
)
def test_scenarios_that_make_no_sense(changes: dict[str, Any], word: str) -> None:
    base = scenario(rate=1000, senders=1)
    with pytest.raises(UsageError, match=word):
        plan.make(msgspec.structs.replace(base, **changes))


@pytest.mark.parametrize("changes", [{"senders": 2}, {"spread": 0.5}])
def test_what_is_answered_has_no_senders(changes: dict[str, Any]) -> None:
    base = scenario(protocol=ANSWERED, rate=1000)
    with pytest.raises(UsageError, match="leave it out"):
        plan.make(msgspec.structs.replace(base, **changes))


def test_the_engine_gets_layout_senders_and_targets() -> None:
    made = plan.make(scenario(target="127.0.0.1:5,127.0.0.2:6", rate=1000, senders=8, spread=0.5, require=["loss<1%"]))
    engine = made.engine
    assert (engine.ticks, engine.warmup_ns) == (Ticks(senders=8, spread=0.5), 0)
    assert dict(engine.options)["size"] == made.message_bytes == 24
    assert [str(endpoint) for endpoint in engine.targets] == ["127.0.0.1:5", "127.0.0.2:6"]
    assert [str(endpoint) for endpoint in made.receivers] == ["127.0.0.1:5", "127.0.0.2:6"]
    assert made.one_way


def test_what_is_answered_may_have_several_targets_and_no_receiver() -> None:
    made = plan.make(scenario(protocol=ANSWERED, target="127.0.0.1:5,127.0.0.2:6", rate=1000))
    assert len(made.engine.targets) == 2
    assert (made.receivers, made.one_way, made.message_bytes) == ([], False, None)
    assert made.engine.ticks == Ticks(senders=1, spread=1.0)


def test_messages_that_are_answered_keep_warm_up_and_time_out() -> None:
    reply = {"reply": "seq:u4"}
    made = scenario(rate=1000, warmup=0.5, timeout=0.5, options=reply)
    assert (made.warmup_s, plan.make(made).one_way) == (0.5, False)


def test_a_search_has_no_warm_up_and_no_goal_on_latency() -> None:
    trial = searching.trial_scenario(NAME, TARGET)
    assert (trial.warmup_s, trial.senders) == (0.0, 10_000)
    asked: dict[str, Any] = {"loss": 0.001, "least": None, "most": None, "within": 0.02, "budget": 60}
    assert searching.search_of(trial, p99=None, **asked).goal.p99_ns is None
    with pytest.raises(UsageError, match="--p99"):
        searching.search_of(trial, p99="5ms", **asked)
    for given in ({"tick": 20, "senders": 10}, {"count": 100}):
        with pytest.raises(UsageError, match="--tick and --count"):
            searching.trial_scenario(NAME, TARGET, **given)
    answered = searching.trial_scenario(ANSWERED, TARGET)
    assert (answered.warmup_s, answered.timeout_s) == (searching.TRIAL_WARMUP_S, searching.TRIAL_TIMEOUT_S)
