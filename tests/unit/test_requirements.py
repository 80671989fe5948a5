"""Requirements: their forms, what they are measured against, and that no sample meets none."""

from __future__ import annotations

import msgspec
import pytest
import results

from flatout.errors import UsageError
from flatout.result import requirements
from flatout.result.model import Latency
from flatout.scenario import requirement


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


def test_without_a_sample_nothing_is_met() -> None:
    run = results.interrupted()
    for text in ("p99<1h", "p99>=0s", "loss<99%", "max<1h"):
        judged = requirements.evaluate(text, run)
        assert (judged.value, judged.met, judged.expression) == (None, False, text)
