"""Searching along connections, and trials over connections: in virtual time, with a server of known room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from limit_runs import HOST, SCENARIO, run

from flatout import searching
from flatout.errors import UsageError
from flatout.limit_search.drive import Environment, find_limit
from flatout.limit_search.past import Conclusion, PastTrial
from flatout.limit_search.search import decide
from flatout.limit_search.trial_verdict import TrialEvaluation, evaluate_trial
from flatout.protocols import PROTOCOLS
from flatout.result.files import from_json, to_json
from flatout.result.model import Connections, Goal, LimitResult, LoadResult, Search

NAME = next(name for name, protocol in PROTOCOLS.items() if protocol.links[0] == "tcp")
GOAL = Goal(loss=0.001)
RATE = 20_000.0
PER_S = 20_000.0


def search(least: int = 10, most: int = 100_000, budget_s: float = 60.0) -> Search:
    return Search(
        goal=GOAL,
        axis="connections",
        min_per_s=RATE,
        max_per_s=RATE,
        min_connections=least,
        max_connections=most,
        within=0.02,
        budget_s=budget_s,
    )


@dataclass
class Virtual:
    """A server that accepts so many connections; opening them takes time."""

    room: int = 12_000
    now_s: float = 0.0
    tried: list[int] = field(default_factory=list)

    def measure(self, load: float, seconds: float, lead_s: float, _tell: Callable[..., None]) -> LoadResult:
        asked = int(load)
        self.tried.append(asked)
        self.now_s += max(0.2, lead_s) + seconds + asked / PER_S
        stand = min(asked, self.room)
        connections = Connections(
            opened=asked, established=stand, failed=asked - stand, refused=asked - stand, peak=stand, live=stand
        )
        return over(run(round(RATE * seconds), duration_s=seconds), asked, connections)

    def find(self, asked: Search, *, opening: bool = True) -> LimitResult:
        def rest(seconds: float) -> None:
            self.now_s += seconds

        world = Environment(
            measure=self.measure,
            recover=lambda: True,
            clock=lambda: self.now_s,
            rest=rest,
            share_later_than=lambda _distribution, _ns: 0.0,
            opening_s=(lambda load: load / PER_S) if opening else (lambda _load: 0.0),
        )
        return find_limit(SCENARIO, asked, world, host=HOST, started_at="2026-01-01T00:00:00Z")


def over(result: LoadResult, asked: int, connections: Connections, **scenario: Any) -> LoadResult:
    asked_for = msgspec.structs.replace(result.scenario, connections=asked, **scenario)
    return msgspec.structs.replace(result, scenario=asked_for, connections=connections)


def test_finds_how_many_connections_a_server_holds() -> None:
    world = Virtual()
    result = world.find(search())
    limit = result.limit
    assert (limit.axis, limit.unit, limit.stopped_by) == ("connections", "connections", "found")
    assert (result.rate_per_s, limit.conditional_throughput_per_s) == (None, None)
    assert 12_000 / 1.04 <= (limit.value or 0) <= 12_000 < (limit.upper or 0) <= 12_000 * 1.02
    assert limit.interval is not None
    assert limit.interval[0] <= 12_000 <= limit.interval[1]
    assert result.sentence.startswith(
        f"Holds {limit.value:,.0f} connections at 20,000/s (loss <= 0.1 %); the limit is "
    )
    assert "connections: only 12,000 of" in result.sentence
    assert [trial.load for trial in result.trials] == world.tried
    assert {trial.intended_per_s for trial in result.trials} == {RATE}
    assert from_json(to_json(result)) == result


def test_goes_up_by_doublings_from_the_least() -> None:
    world = Virtual()
    world.find(search())
    assert world.tried[0] == 10
    assert all(load <= 2 * before for before, load in zip(world.tried, world.tried[1:], strict=False))


def test_none_found_up_to_the_most_is_a_result() -> None:
    result = Virtual(room=10**6).find(search(most=500))
    assert result.limit.stopped_by == "max"
    assert result.sentence == "No limit found up to 500 connections: 500 connections at 20,000/s held (loss <= 0.1 %)."


def test_the_time_that_opening_takes_is_within_the_budget() -> None:
    for budget_s in (20.0, 60.0, 120.0):
        world = Virtual(room=10**6)
        result = world.find(search(most=1_000_000, budget_s=budget_s))
        assert result.duration_s <= budget_s
        assert result.limit.stopped_by == "budget"
        assert result.limit.value


def test_opening_counts_against_a_step_and_its_confirmation() -> None:
    past = [PastTrial(1000, 0.25, "held", 0.0, "bracket")]
    left = decide(search(budget_s=30.0), past, 1.0, opening_s=lambda _load: 0.0)
    none = decide(search(budget_s=30.0), past, 1.0, opening_s=lambda load: 60.0 if load > 1000 else 0.0)
    assert not isinstance(left, Conclusion)
    assert not isinstance(none, Conclusion)
    assert left.load == pytest.approx(2000, rel=0.02)
    assert (none.load, none.phase) == (1000, "confirm")


# --- Verdicts ---


def judged(connections: Connections, asked: int = 1000, answered: int | None = None, **more: Any) -> TrialEvaluation:
    result = over(run(10_000, answered=answered, **more.pop("run", {})), asked, connections, **more)
    return evaluate_trial(result, GOAL, lambda _distribution, _ns: 0.0)


ALL = {"opened": 1000, "established": 1000, "peak": 1000, "live": 1000}


def test_all_connections_and_all_answers_hold() -> None:
    assert judged(Connections(**ALL)).verdict == "held"
    assert judged(Connections(**ALL | {"closed": 1})).verdict == "held", "one in a thousand is within the goal"


def test_connections_that_this_host_could_not_open_say_nothing_of_the_server() -> None:
    evaluation = judged(
        Connections(opened=1000, established=400, failed=600, local=600, peak=400, live=400), answered=4000
    )
    assert evaluation.verdict == "invalid"
    assert evaluation.why == "this host could not open 600 of 1,000 connections"


def test_connections_that_the_target_refused_fail() -> None:
    evaluation = judged(Connections(opened=1000, established=900, failed=100, refused=100, peak=900, live=900))
    assert (evaluation.verdict, evaluation.loss) == ("failed", pytest.approx(0.1))
    assert evaluation.why == "only 900 of 1,000 connections were accepted"


def test_a_target_that_refuses_all_fails_though_nothing_was_sent() -> None:
    nothing = {"run": {"unsent": 10_000, "verdict": "target-lost"}}
    evaluation = judged(Connections(opened=1000, failed=1000, refused=1000), **nothing)
    assert (evaluation.verdict, evaluation.loss) == ("failed", 1.0)


def test_connections_that_the_target_ended_fail_even_where_requests_then_stay_behind() -> None:
    behind = {"run": {"unsent": 2000, "verdict": "generator-limited"}}
    evaluation = judged(Connections(**ALL | {"closed": 150, "reset": 50, "live": 800}), **behind)
    assert (evaluation.verdict, evaluation.why) == ("failed", "the target ended 200 of 1,000 connections")


def blocked(late_p99_ns: int, late: int = 0) -> TrialEvaluation:
    behind = run(10_000, unsent=2000 + late, verdict="generator-limited", lateness_p99_ns=20_000)
    lateness = msgspec.structs.replace(behind.lateness_ns, p99=late_p99_ns) if behind.lateness_ns else None
    because = {"blocked": 2000, "late": late}
    result = msgspec.structs.replace(behind, unsent_because=because, lateness_ns=lateness)
    return evaluate_trial(over(result, 1000, Connections(**ALL)), GOAL, lambda _distribution, _ns: 0.0)


def test_a_target_that_stops_reading_fails_unless_the_generator_was_slow_itself() -> None:
    evaluation = blocked(20_000)
    assert (evaluation.verdict, evaluation.loss) == ("failed", pytest.approx(0.2))
    assert evaluation.why == "20 % of requests could not leave because the target took no more"
    assert blocked(1_400_000).verdict == "invalid"
    assert blocked(20_000, late=100).verdict == "invalid"


ENDED = {"opened": 5000, "established": 5000, "closed": 4000, "reopened": 4000, "peak": 1000}


def test_connections_that_were_opened_again_do_not_fail_but_what_was_lost_by_it_does() -> None:
    ended = Connections(**ENDED, live=1000)
    assert judged(ended, reconnect=True).verdict == "held"
    assert judged(Connections(**ENDED, live=999), reconnect=True).verdict == "held", "ended just before the end"
    assert judged(ended, answered=9980, reconnect=True).why == "loss 0.2 % is above 0.1 %"
    assert judged(ended, reconnect=False).verdict == "failed"


def test_connections_in_whose_place_the_target_takes_no_others_fail() -> None:
    gone = Connections(
        opened=1200, established=1000, failed=200, refused=200, closed=100, reset=50, reopened=200, peak=1000, live=850
    )
    evaluation = judged(gone, reconnect=True)
    assert (evaluation.verdict, evaluation.loss) == ("failed", pytest.approx(0.15))
    assert evaluation.why == "the target ended 150 of 1,000 connections"


def test_requests_without_a_connection_count_against_the_target_that_ended_it() -> None:
    behind = run(10_000, unsent=500, verdict="generator-limited", lateness_p99_ns=20_000)
    on_time = msgspec.structs.replace(behind.lateness_ns, p99=20_000) if behind.lateness_ns else None
    result = msgspec.structs.replace(behind, unsent_because={"no_connection": 500}, lateness_ns=on_time)
    for counted, verdict in ((ENDED, "failed"), (ALL, "invalid")):
        trial = over(result, 1000, Connections(**{"live": 1000, **counted}), reconnect=True)
        assert evaluate_trial(trial, GOAL, lambda _distribution, _ns: 0.0).verdict == verdict
    ended = over(result, 1000, Connections(**ENDED, live=1000), reconnect=True)
    why = evaluate_trial(ended, GOAL, lambda _distribution, _ns: 0.0).why
    assert why == "5 % of requests could not leave because the target had ended the connections"


def test_churn_ends_connections_on_purpose() -> None:
    assert judged(Connections(**ALL | {"peak": 700, "closed": 40}), churn=10).verdict == "held"


def test_an_interrupted_trial_says_nothing() -> None:
    stopped = {"run": {"verdict": "interrupted"}}
    assert judged(Connections(opened=10, established=10, peak=10), **stopped).verdict == "invalid"


# --- From arguments ---


def asked(**options: Any) -> Search:
    given: dict[str, Any] = {"loss": 0.001, "p99": None, "least": None, "most": None, "within": 0.02, "budget": 60}
    scenario = searching.trial_scenario(NAME, "127.0.0.1:5", **options.pop("of", {}))
    return searching.search_of(scenario, **given | options)


def test_bounds_of_either_axis() -> None:
    assert asked().bounds == (1e3, 5e6)
    assert asked(least="2k", most="3k").bounds == (2e3, 3e3)
    found = asked(axis="connections", rate="5k", most="2k")
    assert (found.bounds, found.min_per_s, found.max_per_s, found.unit) == ((10, 2000), 5e3, 5e3, "connections")
    assert asked(axis="connections").min_per_s == 20e3
    assert asked(axis="connections", of={"threads": 16}).bounds[0] == 16


@pytest.mark.parametrize(("connections", "per_s"), [(16, 160.0), (2_000, 20_000.0), (1_000_000, 20_000.0)])
def test_few_connections_are_opened_over_a_tenth_of_a_second(connections: int, per_s: float) -> None:
    """16 at once overflowed the accept queue of a server, and each trial began with 1 s of waiting for one of them."""
    scenario = searching.trial_scenario(NAME, "127.0.0.1:5", connections=connections)
    trial = searching._along(scenario, asked())(5_000, 0.5)
    assert (trial.connect_rate_per_s, trial.connections) == (per_s, connections)
    several = searching._along(scenario, asked(axis="connections"))(connections, 0.5)
    assert (several.connect_rate_per_s, several.connections) == (per_s, connections)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"rate": "5k"}, "--search connections"),
        ({"axis": "connections", "of": {"transport": "udp"}}, "--transport tcp"),
        ({"axis": "connections", "least": 100, "most": 100}, "minimum"),
        ({"axis": "connections", "most": "many"}, "number"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_bad_use(options: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        asked(**options)


def test_trials_and_probes_over_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[Any] = []

    def pretend(scenario: Any, *_: Any, **_more: Any) -> LoadResult:
        runs.append(scenario)
        stand = min(scenario.connections, 700)
        counts = Connections(opened=scenario.connections, established=stand, peak=stand, live=stand)
        planned = round(scenario.peak_per_s * scenario.duration_s)
        return over(run(planned, duration_s=scenario.duration_s), scenario.connections, counts)

    monkeypatch.setattr(searching, "run", pretend)
    monkeypatch.setattr("time.monotonic", lambda: sum(made.duration_s for made in runs))
    scenario = searching.trial_scenario(NAME, "127.0.0.1:5", hold=5)
    search = asked(axis="connections", least=100, most=1000)
    monkeypatch.setattr("threading.Event.wait", lambda _event, _seconds=None: False)
    import threading

    result = searching.find(scenario, search, lambda _progress: None, threading.Event())
    assert 660 < (result.limit.value or 0) <= 700
    probes = [made for made in runs if made.duration_s == 0.1]
    assert probes
    assert {(made.connections, made.hold) for made in probes} == {(10, 0)}
    assert {made.peak_per_s for made in runs if made not in probes} == {20e3}
    assert {made.hold for made in runs if made not in probes} == {5}


def test_a_confirming_run_is_never_cut_to_what_opening_leaves() -> None:
    past = [PastTrial(1000, 0.25, "held", 0.0, "bracket")]
    done = decide(search(budget_s=30.0), past, 1.5, opening_s=lambda load: 60.0 if load > 1000 else 26.0)
    assert isinstance(done, Conclusion)
    assert (done.value, done.confirmed, done.stopped_by) == (1000, False, "budget")
