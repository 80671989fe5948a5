"""A run keeps what it measured whatever happens to its ledger. The engine sends nothing."""

from __future__ import annotations

from typing import Any

import pytest
from fake_engine import FakeRun

from flatout.errors import Interrupted
from flatout.plan.resolve import AsTrial
from flatout.result.model import LoadResult
from flatout.runner import run as running
from flatout.scenario.build import scenario_of

SECOND = 1_000_000_000


class Run(FakeRun):
    """With subintervals, in one of which a thread of the target waited."""

    def subintervals(self) -> tuple[int, list[tuple[int, int, int, int, int, int]]]:
        return 1 << 26, [(50, 0, 50, 0, 1_000, 7), (50, 0, 50, 0, 1_000, 3_000_000)]


def done(monkeypatch: pytest.MonkeyPatch, as_trial: AsTrial | None = None) -> LoadResult:
    fake = Run([(SECOND // 2, {}), (SECOND, {})], planned=100, sent=100, answered=100)
    monkeypatch.setattr(running, "LoadRun", fake)
    asked: dict[str, Any] = {"rate": 100, "duration": 1}
    return running.run(scenario_of("ntp", "127.0.0.1:5", profile=None, **asked), as_trial=as_trial)


def test_a_single_run_has_the_longest_wait_and_keeps_no_subintervals(monkeypatch: pytest.MonkeyPatch) -> None:
    result = done(monkeypatch)
    assert result.ledger is not None
    assert (result.ledger.longest_wait_ns, result.subintervals) == (3_000_000, None)
    assert done(monkeypatch, AsTrial()).subintervals is not None


@pytest.mark.parametrize("where", ["end of the samples", "closing"])
def test_an_error_costs_the_ledger_and_not_the_run(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    def fail(*_: object) -> None:
        raise IndexError("list index out of range")

    at = (running.ledger, "close") if where == "closing" else (running.CounterSampler, "end")
    monkeypatch.setattr(*at, fail)
    result = done(monkeypatch)
    assert (result.verdict, result.outcomes.answered, result.ledger) == ("ok", 100, None)
    (warning,) = result.warnings
    assert warning.endswith("could not be read at the end (IndexError: list index out of range)")


def test_an_interrupt_while_the_ledger_is_closed_keeps_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(running.CounterSampler, "end", interrupt)
    with pytest.raises(Interrupted) as caught:
        done(monkeypatch)
    assert caught.value.result.outcomes.answered == 100
    assert caught.value.result.warnings[-1].endswith("(interrupted)")
