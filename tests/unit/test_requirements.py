"""Requirements: their forms, what they are measured against, and that no sample meets none."""

from __future__ import annotations

import msgspec
import pytest
import results
from limit_runs import run

from flatout.errors import UsageError
from flatout.result import requirements
from flatout.result.model import Connections, Latency
from flatout.scenario import requirement
from flatout.view import facts


@pytest.mark.parametrize(
    "text",
    [
        "p99<5ms",
        "p99 < 5ms",
        "loss<0.1%",
        "loss<=0",
        "rate>99k",
        "rate>=1M",
        "max<1s",
        "mean<100us",
        "p999<10ms",
        "lost<10",
        "unsent<=0",
        "closed<1%",
        "reset<=0",
        "reopened<0.05",
    ],
)
def test_forms(text: str) -> None:
    requirement.check(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "p99",
        "p99<",
        "<5ms",
        "p99=5ms",
        "p99<-5ms",
        "p98<5ms",
        "loss<5ms",
        "loss<100%",
        "rate>0",
        "lost<1.5",
        "closed<100%",
        "reset<5",
        "speed>1",
        "p99<5ms loss<1%",
    ],
)
def test_forms_that_mean_nothing(text: str) -> None:
    with pytest.raises(UsageError, match=r"write|not one of"):
        requirement.check(text)


@pytest.mark.parametrize(
    ("metric", "value", "unit"),
    [("p50", 2_000_000, "ns"), ("p99", 2_000_000, "ns"), ("max", 2_000_000, "ns"), ("min", 2_000_000, "ns")],
)
def test_latency_is_from_due_and_bounds_are_sharp(metric: str, value: int, unit: str) -> None:
    run = results.load()
    due = msgspec.structs.replace(run.latency_ns.from_due, **{metric: value})
    run = msgspec.structs.replace(run, latency_ns=Latency(from_due=due, from_sent=None))
    met = {s: requirements.evaluate(f"{metric}{s}{value}{unit}", run).met for s in ("<", "<=", ">", ">=")}
    assert met == {"<": False, "<=": True, ">": False, ">=": True}
    assert requirements.evaluate(f"{metric}<1s", run).value == value


def test_loss_rate_and_counts() -> None:
    run = results.load()
    assert requirements.evaluate("loss<1%", run).value == run.loss
    assert requirements.evaluate("rate>1", run).value == run.rate_per_s.answered
    assert requirements.evaluate("rate>1", run).met
    assert requirements.evaluate("lost<=0", run).value == run.outcomes.lost
    assert requirements.evaluate("unsent<1", run).met


def test_ended_connections_are_shares_of_the_established() -> None:
    connections = Connections(opened=210, established=200, failed=10, closed=3, reset=1, reopened=4, peak=196, live=196)
    run = msgspec.structs.replace(results.load(), connections=connections)
    values = {metric: requirements.evaluate(f"{metric}<1%", run) for metric in ("closed", "reset", "reopened")}
    assert {metric: judged.value for metric, judged in values.items()} == {
        "closed": 0.015,
        "reset": 0.005,
        "reopened": 0.02,
    }
    assert [judged.met for judged in values.values()] == [False, True, False]
    assert facts.requirement_value(values["closed"]) == "measured 1.50 %"
    for none in (None, Connections(opened=5, failed=5)):
        judged = requirements.evaluate("closed<1%", msgspec.structs.replace(run, connections=none))
        assert (judged.value, judged.met) == (None, False)


def test_without_a_sample_nothing_is_met() -> None:
    run = results.interrupted()
    for text in ("p99<1h", "p99>=0s", "loss<99%", "max<1h"):
        judged = requirements.evaluate(text, run)
        assert (judged.value, judged.met, judged.expression) == (None, False, text)


def test_answers_that_this_host_dropped_miss_no_requirement_of_the_target() -> None:
    """The kind of finding 8 in a plain load: the generator's own drops were the server's loss."""
    lossy = run(100_000, answered=99_950)
    asked = msgspec.structs.replace(lossy.scenario, require=("loss<0.01%", "rate>1"))
    lossy = msgspec.structs.replace(lossy, scenario=asked)
    by_server = requirements.evaluated(lossy)
    assert (by_server.verdict, requirements.missed(by_server)) == ("ok", ["loss<0.01%"])
    partly = requirements.evaluated(msgspec.structs.replace(lossy, own_drops=30))
    assert (partly.verdict, requirements.missed(partly)) == ("ok", ["loss<0.01%"]), "20 lost by the server are too many"
    by_us = requirements.evaluated(msgspec.structs.replace(lossy, own_drops=50))
    assert (by_us.verdict, requirements.missed(by_us)) == ("generator-limited", [])
    assert by_us.why == "50 answers reached this host but were not read in time, else loss<0.01% would be met"
    assert [requirement.met for requirement in by_us.requirements] == [False, True], "what was measured stays"
