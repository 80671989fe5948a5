"""A sweep: which rates, where it ends, what a row says, how it is printed. Runs are made up."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import results

from flatout.errors import Interrupted, UsageError
from flatout.limit_search.sweep import ATTEMPTS, climb, ladder, sentence
from flatout.result.model import LoadResult
from flatout.result.sweep import row
from flatout.scenario.model import Scenario
from flatout.view.terminal import ladder as view

RIGHT = ("basic", "interleaved")


def outcomes(run: LoadResult, **changes: Any) -> LoadResult:
    return msgspec.structs.replace(run, outcomes=msgspec.structs.replace(run.outcomes, **changes))


def climbed(rates: list[float], measure: Any) -> Any:
    seen: list[Any] = []
    runs, rows, why = climb(results.scenario(), rates, 2.0, tallies=RIGHT, measure=measure, on_row=seen.append)
    assert seen == rows
    assert len(runs) == len(rows)
    return rows, why


def at_rate(scenario: Scenario, **changes: Any) -> LoadResult:
    run = results.load()
    return msgspec.structs.replace(run, scenario=scenario, tallies={"basic": run.outcomes.answered}, **changes)


def test_rates_grow_by_the_step_up_to_the_last() -> None:
    assert ladder(1000, 8000, 2) == [1000, 2000, 4000, 8000]
    assert ladder(1000, 7999, 2) == [1000, 2000, 4000]
    assert ladder(1000, 1000, 1.5) == [1000]
    assert len(ladder(1e3, 1e6, 1.5)) == 18
    for wrong in ((2000, 1000, 2), (0, 1000, 2), (1000, 2000, 1), (1000, 2000, float("nan"))):
        with pytest.raises(UsageError):
            ladder(*wrong)


def test_it_ends_with_the_ladder() -> None:
    rows, why = climbed([1000, 2000], at_rate)
    assert ([one.rate_per_s for one in rows], why) == ([1000, 2000], "end")


def test_it_ends_where_over_half_is_lost() -> None:
    def measure(scenario: Scenario) -> LoadResult:
        run = at_rate(scenario)
        return outcomes(run, lost=round(run.outcomes.sent * (0.6 if scenario.peak_per_s > 1500 else 0.4)))

    rows, why = climbed([1000, 2000, 4000], measure)
    assert (len(rows), why) == (2, "loss")
    assert rows[1].lost == pytest.approx(0.6)


def test_a_rate_that_cannot_be_driven_is_tried_again() -> None:
    asked: list[float] = []

    def measure(scenario: Scenario) -> LoadResult:
        asked.append(scenario.peak_per_s)
        disturbed = scenario.peak_per_s == 2000 or (scenario.peak_per_s == 1000 and asked.count(1000) == 1)
        return at_rate(
            scenario, verdict="generator-limited" if disturbed else "ok", why="" if not disturbed else "busy"
        )

    rows, why = climbed([1000, 2000, 4000], measure)
    assert asked == [1000] * 2 + [2000] * ATTEMPTS
    assert ([one.verdict for one in rows], why) == (["ok", "generator-limited"], "generator")


def test_an_interrupt_keeps_what_was_measured() -> None:
    def measure(scenario: Scenario) -> LoadResult:
        raise Interrupted(at_rate(scenario, verdict="interrupted"))

    rows, why = climbed([1000, 2000], measure)
    assert (len(rows), why) == (1, "interrupted")


def test_a_row_has_ntpperfs_columns_and_ours() -> None:
    run = outcomes(at_rate(results.scenario().at(5000, 2)), lost=30, refused=10, invalid=20, late=40)
    response = results.distribution(9_000, 0.3, 1000)
    made = row(msgspec.structs.replace(run, response_ns=response), RIGHT)
    sent = run.outcomes.sent
    assert (made.rate_per_s, made.clients) == (5000, run.scenario.flows)
    assert (made.lost, made.invalid, made.late) == (40 / sent, 20 / sent, 40 / sent)
    assert made.tallies == {"basic": run.outcomes.answered / sent, "interleaved": 0}
    assert response
    assert (made.response_by, made.response_min_ns, made.response_max_ns) == ("server", response.min, response.max)
    plain = row(run, ())
    assert run.latency_ns.from_sent
    assert (plain.response_by, plain.response_mean_ns) == ("client", run.latency_ns.from_sent.mean)
    header, line = view.header(RIGHT, offsets=False), view.line(made, offsets=False)
    assert "basic" in header[1]
    assert [at for at, char in enumerate(header[1]) if char == "|"] == [
        at for at, char in enumerate(line) if char == "|"
    ]
    assert len(header[1]) == len(line)


def test_without_answers_there_is_no_response_time() -> None:
    made = row(results.unanswered(), RIGHT)
    assert (made.response_mean_ns, made.response_stddev_ns, made.p99_ns) == (None, None, None)
    assert "–" in view.line(made, offsets=True)


def test_the_sentence_says_how_far_all_was_answered() -> None:
    good = outcomes(results.load(), lost=0, refused=0, invalid=0, late=0)
    bad = outcomes(results.load(), lost=5)
    rows = [row(run, RIGHT) for run in (good, bad)]
    assert sentence(rows, "end").startswith("Nothing was lost, late or invalid up to 200,000/s; ")
    assert "over half" in sentence(rows[1:], "loss")
    assert sentence([*rows, rows[0]], "end").startswith("Nothing was lost, late or invalid up to 200,000/s; ")
    assert sentence([rows[1], rows[0]], "end").startswith("At no rate"), "what comes behind a loss says nothing"
