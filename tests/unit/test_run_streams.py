"""A run over connections, with an engine that only says what it was told to."""

from __future__ import annotations

from typing import Any

import pytest
from fake_engine import FakeRun

from flatout.plan.load_plan import ConnectionPolicy, Share, Tls
from flatout.protocols import PROTOCOLS
from flatout.result.files import from_json, to_json
from flatout.result.histogram import distribution, standard_deviation_ns
from flatout.result.model import LoadResult
from flatout.runner import run as running
from flatout.runner.progress import RunProgress
from flatout.scenario.build import scenario_of

NAME = next(name for name, protocol in PROTOCOLS.items() if "tcp" in protocol.links)
SECOND = 1_000_000_000
ALL = {"opened": 10, "established": 10, "peak": 10, "live": 10}


def words(**numbers: int) -> dict[str, int]:
    return dict.fromkeys(("opened", "established", "failed", "refused", "timed_out", "reset", "closed"), 0) | numbers


def done(monkeypatch: pytest.MonkeyPatch, fake: FakeRun, **options: Any) -> tuple[LoadResult, list[RunProgress]]:
    monkeypatch.setattr(running, "LoadRun", fake)
    reported: list[RunProgress] = []
    asked: dict[str, Any] = {"transport": "tcp", "connections": 10, "rate": 100, "duration": 2, **options}
    scenario = scenario_of(NAME, "127.0.0.1:5", profile=None, **asked)
    return running.run(scenario, reported.append), reported


def test_connecting_is_a_phase_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    some = words(opened=10, established=4, peak=4, live=4)
    ticks = [(None, some), (None, some), (None, words(**ALL)), (-SECOND // 2, words(**ALL)), (SECOND, words(**ALL))]
    result, reported = done(monkeypatch, FakeRun(ticks, planned=200, sent=200, answered=200))
    assert [progress.phase for progress in reported] == ["connecting", "waiting", "warm-up", "running", "done"]
    assert (reported[0].connections, reported[0].connections_asked, reported[0].t_s) == (4, 10, -1.0)
    assert result.verdict == "ok"
    assert result.connections is not None
    assert (result.connections.established, result.carrier, result.memory.per_connection) == (10, "io_uring", 2560)
    assert result.connect_ns is not None
    assert result.connect_ns.p50 == pytest.approx(300_000, rel=0.01)
    assert (result.warnings, result.notes) == ([], [])
    assert from_json(to_json(result)) == result


def test_connecting_takes_its_time_and_the_target_is_not_lost_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = words(opened=10)
    ticks = [(None, nobody)] * 100 + [(SECOND, words(**ALL)), (2 * SECOND, words(**ALL))]
    result, reported = done(monkeypatch, FakeRun(ticks, planned=200, sent=200, answered=200))
    assert result.verdict == "ok"
    assert {progress.phase for progress in reported[:-3]} == {"connecting"}


def test_a_target_that_accepts_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = words(opened=10, failed=10, refused=7, timed_out=3)
    result, _ = done(monkeypatch, FakeRun([(None, refused), (2 * SECOND, refused)], planned=200, unsent=200))
    assert result.verdict == "target-lost"
    assert result.why == "none of 10 connections could be established: 7 refused, 3 timed out"
    assert result.connect_ns is None


def test_a_call_that_fails_ends_the_run_and_blames_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = words(opened=10, failed=10, timed_out=10)
    fake = FakeRun([(SECOND, refused)] * 20, planned=100, sent=100, lost=100)
    fake.gave_up = "epoll_wait: Operation not permitted"
    result, _ = done(monkeypatch, fake, duration=5)
    assert fake.stopped, "the other workers end, too"
    assert result.verdict == "generator-limited"
    assert result.why == "a system call failed on this host: epoll_wait: Operation not permitted"
    assert (result.failed_call, result.duration_s) == (fake.gave_up, 1.0)
    assert from_json(to_json(result)) == result


def test_what_could_not_be_opened_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    fewer = words(opened=10, established=8, failed=2, refused=2, peak=8, live=8)
    counts = {"planned": 200, "sent": 200, "answered": 200}
    result, _ = done(monkeypatch, FakeRun([(SECOND, fewer), (SECOND, fewer)], **counts))
    assert result.warnings == ["only 8 of 10 connections were open at once: 2 refused"]


def test_what_the_target_ended_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = words(**ALL | {"live": 7}, closed=2, reset=1)
    counts = {"planned": 200, "sent": 200, "answered": 200}
    result, _ = done(monkeypatch, FakeRun([(SECOND, ended), (SECOND, ended)], **counts))
    assert result.warnings == []
    assert result.notes == ["the target ended 3 of 10 connections (2 closed, 1 reset)"]


def test_a_target_that_ends_most_connections_is_lost_not_this_host_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = words(**ALL | {"live": 0}, closed=10)
    counts = {"planned": 200, "sent": 100, "unsent": 100, "answered": 100}
    result, _ = done(monkeypatch, FakeRun([(SECOND, ended), (SECOND, ended)], **counts))
    assert result.verdict == "target-lost"
    assert "ended most of its 10 connections (10 closed, 0 reset)" in result.why


def test_the_engine_is_given_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeRun([(SECOND, words(**ALL))], planned=200, sent=200, answered=200)
    done(monkeypatch, fake, hold="2", churn="1k", connect_rate="5k", connect_timeout="2s", reconnect=True, io="epoll")
    plan = fake.plan
    assert plan is not None
    assert (plan.link, plan.flows, plan.node) == ("tcp", 10, Share(index=0, of=1))
    assert plan.policy == ConnectionPolicy(
        connect_per_s=5000.0,
        connect_timeout_ns=2 * SECOND,
        churn=1000,
        hold=2,
        reconnect=True,
        io="epoll",
        tls=Tls(),
    )
    assert (plan.start_at_unix_ns, plan.log) == (None, None)


def test_the_deviation_is_that_of_the_samples() -> None:
    from fake_engine import histogram

    measured = distribution(histogram(*[1_000_000] * 90, *[11_000_000] * 10))
    assert measured is not None
    assert standard_deviation_ns(measured) == pytest.approx(3_000_000, rel=0.01)
