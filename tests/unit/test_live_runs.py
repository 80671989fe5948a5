"""What runs now: its file is whole, its owner's, gone at the end, and left out when nothing renews it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec
import pytest
import results

from flatout.result.sweep import row
from flatout.runner.progress import LatencySecond, RunProgress, SearchProgress
from flatout.scenario.build import scenario_of
from flatout.scenario.model import Scenario
from flatout.store.live import live_folder, live_runs
from flatout.store.live_publisher import LivePublisher
from flatout.store.live_sweep import LiveSweep


@pytest.fixture
def scenario() -> Scenario:
    return scenario_of("ntp", "127.0.0.1:1", rate=1, duration=1, profile=None)


def running(**given: object) -> RunProgress:
    names = ("planned", "sent", "unsent", "answered", "late", "refused", "invalid", "duplicate")
    counts = dict.fromkeys(names, 0)
    base = RunProgress(phase="running", t_s=1.0, total_s=2.0, rate_per_s=10, latest=None, **counts)
    return msgspec.structs.replace(base, **given)


def search_event(number: int, **given: object) -> SearchProgress:
    base = SearchProgress(
        trial=number,
        phase="grow",
        rate_per_s=1000,
        trial_s=1,
        elapsed_s=1,
        budget_s=60,
        lower=500,
        upper=None,
        ceiling_hint_per_s=None,
    )
    return msgspec.structs.replace(base, **given)


def test_a_run_is_listed_while_it_runs(tmp_path: Path, scenario: Scenario) -> None:
    folder = tmp_path / "deep" / "live"
    now = [0.0]
    with LivePublisher(folder, "load", scenario, now=lambda: now[0]) as live:
        (run,) = live_runs(folder)
        assert (run.phase, run.command, run.protocol, run.target) == ("starting", "load", "ntp", scenario.target)
        live(running(sent=1))
        assert live_runs(folder)[0].sent == 0, "too soon after the last one"
        now[0] = 1.0
        live(running(sent=2, answered=1))
        assert (live_runs(folder)[0].sent, live_runs(folder)[0].came) == (2, 1)
        live(running(sent=3, phase="done"))
        assert live_runs(folder)[0].sent == 3, "the end is written at once"
        (file,) = folder.iterdir()
        assert (file.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, 0o700)
    assert list(folder.iterdir()) == []


def test_of_a_one_way_run_the_received_are_what_came(tmp_path: Path, scenario: Scenario) -> None:
    seconds = results.load().intervals * 100
    with LivePublisher(tmp_path, "load", scenario, now=iter(range(10)).__next__) as live:
        live(running(one_way=True, received=7, intervals=seconds))
        (run,) = live_runs(tmp_path)
    assert run.came == 7
    assert 0 < len(run.seconds) <= 120
    assert run.seconds[-1].t_s == seconds[-1].t_s


def test_latencies_are_those_of_the_last_seconds(tmp_path: Path, scenario: Scenario) -> None:
    seconds = [LatencySecond(float(n), [(50, n), (53, 1)]) for n in range(1, 201)]
    with LivePublisher(tmp_path, "load", scenario, now=iter(range(10)).__next__) as live:
        live(running(latency=seconds[-120:]))
        (run,) = live_runs(tmp_path)
    assert [second.t_s for second in run.latency] == [float(n) for n in range(81, 201)]
    last = run.latency[-1]
    assert (last.first, last.counts, last.trial) == (50, [200, 0, 0, 1], None)


def test_of_a_search_latencies_go_on_from_trial_to_trial(tmp_path: Path, scenario: Scenario) -> None:
    def event(number: int, **given: object) -> SearchProgress:
        return search_event(number, run=running(**given))

    with LivePublisher(tmp_path, "limit", scenario, now=iter(range(10)).__next__) as live:
        live(event(1, latency=[LatencySecond(0.4, [(50, 1)])]))
        live(event(2))
        live(event(2, latency=[LatencySecond(0.5, [(51, 2)])]))
        live(event(3, latency=[LatencySecond(1.0, [(52, 3)]), LatencySecond(1.5, [(52, 4)])]))
        (run,) = live_runs(tmp_path)
    assert [(one.trial, one.first, one.counts) for one in run.latency] == [
        *((1, 50, [1]), (2, 51, [2]), (3, 52, [3]), (3, 52, [4])),
    ]


def test_trials_of_a_search_are_kept_and_another_search_begins_anew(tmp_path: Path, scenario: Scenario) -> None:
    trial = results.limit().trials[0]

    with LivePublisher(tmp_path, "limit", scenario) as live:
        for number in (1, 2, 3):
            live(search_event(number, finished=trial))
        (run,) = live_runs(tmp_path)
        assert run.search is not None
        assert [one.trial for one in run.search.trials] == [1, 2, 3]
        assert (run.search.lower, run.search.unit, run.search.trials[0].verdict) == (500, "/s", trial.verdict)
        live(search_event(1, finished=trial))
        again = live_runs(tmp_path)[0].search
        assert again is not None
        assert [one.trial for one in again.trials] == [1]


def test_what_nothing_renews_is_left_out_and_then_removed(tmp_path: Path, scenario: Scenario) -> None:
    # As after kill -9: nobody removes it.
    LivePublisher(tmp_path, "load", scenario).__enter__()
    assert len(live_runs(tmp_path)) == 1
    assert live_runs(tmp_path, now=lambda: time.time() + 20) == []
    assert len(list(tmp_path.iterdir())) == 1
    assert live_runs(tmp_path, now=lambda: time.time() + 200) == []
    assert list(tmp_path.iterdir()) == []


def test_other_files_there_do_no_harm(tmp_path: Path, scenario: Scenario) -> None:
    (tmp_path / "a.json").write_text("[" * 100_000)
    (tmp_path / "b.json").write_text('{"kind": "live"}')
    (tmp_path / "c.json").write_bytes(b"\xff")
    (tmp_path / "d.json").mkdir()
    (tmp_path / "e.json").write_text(" " * (2 << 20))
    (tmp_path / "f.txt").write_text("")
    with LivePublisher(tmp_path, "load", scenario):
        assert [run.command for run in live_runs(tmp_path)] == ["load"]
    assert live_runs(tmp_path / "nowhere") == []


def test_a_folder_that_cannot_be_written_ends_no_run(tmp_path: Path, scenario: Scenario) -> None:
    (tmp_path / "file").write_text("")
    with LivePublisher(tmp_path / "file" / "live", "load", scenario) as live:
        live(running(phase="done"))


def test_it_is_beside_the_store() -> None:
    assert live_folder({"FLATOUT_STORE": "/tmp/x/runs.db"}) == Path("/tmp/x/runs.db.live")
    assert live_folder({"FLATOUT_STORE": "off"}) is None
    of_a_server = live_folder({"FLATOUT_STORE": "postgresql://a@b/c", "HOME": "/home/u"})
    assert of_a_server == Path("/home/u/.local/share/flatout/runs.db.live")
    assert os.environ["FLATOUT_STORE"] == "off", "tests write into nobody's folder"


def test_rates_of_a_sweep_are_its_trials(tmp_path: Path, scenario: Scenario) -> None:
    load = results.load()
    whole = msgspec.structs.replace(row(load, ()), rate_per_s=100.0, lost=0.0, invalid=0.0, late=0.0, verdict="ok")
    lossy = msgspec.structs.replace(whole, rate_per_s=200.0, lost=0.25)
    undriven = msgspec.structs.replace(lossy, rate_per_s=400.0, verdict="generator-limited")
    with LivePublisher(tmp_path, "sweep", scenario, now=iter(range(20)).__next__) as live:
        sweep = LiveSweep(live, whole_s=12.0, now=iter(range(20)).__next__)
        sweep(running(latency=[LatencySecond(1.0, [(50, 1)])]))
        for one in (whole, lossy, undriven):
            sweep.row(one)
            sweep(running(rate_per_s=800.0))
        (run,) = live_runs(tmp_path)
    search = run.search
    assert search is not None
    assert (run.command, search.trial, search.load, search.elapsed_s, search.budget_s) == ("sweep", 4, 800.0, 4.0, 12.0)
    assert [(one.trial, one.load, one.verdict, one.loss) for one in search.trials] == [
        *((1, 100.0, "held", 0.0), (2, 200.0, "failed", 0.25), (3, 400.0, "invalid", 0.25)),
    ]
    assert [one.trial for one in run.latency] == [1]
