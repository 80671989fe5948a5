"""A run of messages that nobody answers, with an engine and a receiver that only say what they were told to."""

from __future__ import annotations

from typing import Any

import pytest
from fake_engine import FakeRun, histogram
from receivers import Teller, counters

from flatout.errors import TargetError, UsageError
from flatout.protocols import PROTOCOLS
from flatout.result.files import from_json, to_json
from flatout.result.model import LoadResult
from flatout.runner import receiver_stats
from flatout.runner import run as running
from flatout.runner.progress import RunProgress
from flatout.scenario.build import scenario_of

NAME = next(name for name, protocol in PROTOCOLS.items() if protocol.one_way is not None)
SECOND = 1_000_000_000
WORDS = ("planned", "sent", "unsent", "answered", "late", "lost", "refused", "invalid", "duplicate")


class OneWayRun(FakeRun):
    """One that sends 100 messages a second for two seconds."""

    def __init__(self, **counts: int) -> None:
        super().__init__([(n * SECOND // 10, {}) for n in range(1, 22)], **{"planned": 200, "sent": 200, **counts})

    def intervals(self, first: int) -> list[Any]:
        events = dict.fromkeys(WORDS, 0) | {"planned": 100, "sent": 100, "refused": self._counts["refused"]}
        over = [(n * SECOND, events, None, None, 1_000) for n in (1, 2) if self.at >= 10 * n]
        return over[first:]

    def distributions(self) -> Any:
        return histogram(), histogram(), histogram(*[500] * 200), histogram(), histogram()


def done(
    monkeypatch: pytest.MonkeyPatch, fake: OneWayRun, teller: Teller, **options: Any
) -> tuple[LoadResult, list[RunProgress]]:
    monkeypatch.setattr(running, "LoadRun", fake)
    monkeypatch.setattr(
        running, "StatsQuery", lambda endpoints: receiver_stats.StatsQuery(endpoints, teller, lambda _: None)
    )
    reported: list[RunProgress] = []
    scenario = scenario_of(NAME, "127.0.0.1:5", profile=None, **{"rate": 100, "duration": 2, **options})
    return running.run(scenario, reported.append), reported


def test_the_receiver_tells_what_arrived(monkeypatch: pytest.MonkeyPatch) -> None:
    last = counters(190, kernel_drops=4)
    result, reported = done(monkeypatch, OneWayRun(), Teller(counters(), counters(95), counters(180), last, last))
    assert (result.verdict, result.loss) == ("ok", 0.05)
    assert (result.outcomes.received, result.outcomes.lost, result.rate_per_s.received) == (190, 10, 95.0)
    assert [interval.received for interval in result.intervals] == [95, 95], "what came after the end is the last's"
    assert result.receiver is not None
    assert (result.receiver.lost_in_kernel, result.receiver.lost_elsewhere) == (4, 6)
    assert (reported[0].received, reported[-2].received, reported[-1].received) == (0, 180, 190)
    assert (result.latency_ns.from_due, result.warnings, result.notes) == (None, [], [])
    assert from_json(to_json(result)) == result
    assert "received" in result._repr_html_()


def test_seconds_in_which_it_told_nothing_are_made_good_later(monkeypatch: pytest.MonkeyPatch) -> None:
    result, _ = done(monkeypatch, OneWayRun(), Teller(counters(), None, counters(200)))
    assert [interval.received for interval in result.intervals] == [None, 200]
    assert result.loss == 0.0


def test_nobody_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    result, reported = done(monkeypatch, OneWayRun(), Teller(None))
    assert (result.verdict, result.loss, result.outcomes.received, result.receiver) == ("ok", None, None, None)
    assert "loss is unknown" in result.notes[0]
    assert {progress.received for progress in reported} == {None}
    assert from_json(to_json(result)) == result


def test_a_receiver_that_got_nothing_is_no_receiver(monkeypatch: pytest.MonkeyPatch) -> None:
    result, _ = done(monkeypatch, OneWayRun(), Teller(counters()))
    assert (result.verdict, result.loss) == ("target-lost", 1.0)
    assert result.why == "the receiver got none of 200 messages"


def test_a_receiver_that_falls_silent_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    result, _ = done(monkeypatch, OneWayRun(), Teller(counters(), counters(95), counters(180), None))
    assert (result.verdict, result.loss) == ("target-lost", None)
    assert "reported nothing for 10 s after the run" in result.why


def test_refusals_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = OneWayRun(refused=150)
    result, reported = done(monkeypatch, fake, Teller(None))
    assert fake.stopped
    assert (result.verdict, result.outcomes.refused) == ("target-lost", 0)
    assert "refuses" in result.why
    assert reported[-1].refused == 150
    assert all(interval.refused == 0 for interval in result.intervals)


def test_a_few_refusals_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = OneWayRun(refused=20)
    result, _ = done(monkeypatch, fake, Teller(counters(), counters(95), counters(180)))
    assert (fake.stopped, result.verdict) == (False, "ok")


def test_errors_come_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = OneWayRun()
    with pytest.raises(UsageError, match="bytes"):
        done(monkeypatch, fake, Teller(counters(size=7)))
    with pytest.raises(TargetError):
        done(monkeypatch, fake, Teller(TargetError("closed port")))
    assert fake.plan is None


def test_one_of_several_nodes_leaves_the_account_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    result, reported = done(monkeypatch, OneWayRun(), Teller(counters(), counters(590)), node="1/3")
    assert (result.verdict, result.loss, result.receiver) == ("ok", None, None)
    assert [r.after["received"] for r in result.readings] == [590]
    assert {progress.received for progress in reported} == {None}


def test_what_is_required_of_arrivals(monkeypatch: pytest.MonkeyPatch) -> None:
    required = ["loss<1%", "rate>94", "lost<20"]
    result, _ = done(monkeypatch, OneWayRun(), Teller(counters(), counters(190)), require=required)
    assert [(r.value, r.met) for r in result.requirements] == [(0.05, False), (95.0, True), (10.0, True)]
