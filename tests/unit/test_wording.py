"""A load that nobody answers is told in messages, wherever it is told; one that is answered in requests."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, cast, get_args

import msgspec
import one_way_results
import pytest
import results

from flatout.cli import execute
from flatout.limit_search.sentence import sentence
from flatout.limit_search.trial_verdict import evaluate_trial
from flatout.protocols import PROTOCOLS
from flatout.result.model import Distribution, LimitResult, LoadResult, Node, Result, StoppedBy
from flatout.runner.exchange.one_way import OneWay
from flatout.runner.exchange.request_reply import RequestReply
from flatout.runner.target_monitor import RefusalMonitor, Sample
from flatout.runner.verdict import verdict
from flatout.view.page import page
from flatout.view.terminal import summary

ALIEN = re.compile(r"\b(requests?|answer(s|ed)?|server)\b(?!_)", re.IGNORECASE)
# Names of fields and files, and flatout's own verb and program.
ALLOWED = re.compile(r"answered_ns|nobody answers", re.IGNORECASE)


def stopped_at_once() -> LoadResult:
    good = one_way_results.run()
    nothing = msgspec.structs.replace(good.outcomes, planned=0, sent=0, received=None)
    word, why = verdict(nothing, None, 0, OneWay(), lost=None, interrupted=True)
    return msgspec.structs.replace(
        good, outcomes=nothing, loss=None, receiver=None, intervals=[], lateness_ns=None, verdict=word, why=why
    )


def refused() -> LoadResult:
    run = one_way_results.uncounted()
    monitor = RefusalMonitor()
    samples = [Sample(t, 1000 * t, 0, 1000 * t, 0) for t in range(3)]
    why = [lost for sample in samples if (lost := monitor.lost(sample))]
    return msgspec.structs.replace(run, verdict="target-lost", why=why[0])


def merged() -> LoadResult:
    run = one_way_results.run()
    fields: dict[str, Any] = {
        "started_at": run.started_at,
        "verdict": "ok",
        "why": run.why,
        "sent": 1000,
        "answered": 0,
    }
    return msgspec.structs.replace(run, nodes=[Node(node=n, hostname=f"host{n}", **fields) for n in (1, 2)])


RUNS: list[Callable[[], Result]] = [
    one_way_results.run,
    one_way_results.uncounted,
    one_way_results.behind,
    one_way_results.limit,
    stopped_at_once,
    refused,
    merged,
]


def alien(text: str) -> list[str]:
    return [text[max(found.start() - 40, 0) : found.end() + 20] for found in ALIEN.finditer(ALLOWED.sub("", text))]


def shown(html: str) -> str:
    """A page without its library, styles and the scenario's settings."""
    return re.sub(r"<(style|script)>.*?</\1>", "", html, flags=re.DOTALL)


@pytest.mark.parametrize("made", RUNS, ids=lambda made: made.__name__)
def test_every_view_of_what_nobody_answers_speaks_of_messages(made: Callable[[], Result]) -> None:
    pytest.importorskip("bokeh")
    result = made()
    assert alien(summary.text(result)) == []
    assert alien(result._repr_html_()) == []
    assert alien(shown(page.render(result))) == []
    assert alien(shown(page.render([("one", result), ("other", result)]))) == []


def test_beside_requests_messages_are_told_as_such() -> None:
    pytest.importorskip("bokeh")
    html = shown(page.render([("one", one_way_results.limit()), ("other", results.limit())]))
    assert "answered" in html


@pytest.mark.parametrize("value", [None, 5e5])
@pytest.mark.parametrize("upper", [None, 6e5])
@pytest.mark.parametrize("stopped_by", get_args(StoppedBy))
def test_what_a_search_says(stopped_by: StoppedBy, value: float | None, upper: float | None) -> None:
    found = one_way_results.limit()
    limit = msgspec.structs.replace(found.limit, stopped_by=stopped_by, value=value, lower=value, upper=upper)
    said = sentence(limit, found.search, "because")
    assert alien(said) == []
    asked = results.limit().search
    answered = sentence(msgspec.structs.replace(limit, unit=asked.unit), asked, "because")
    assert not re.search("messages|receive", answered)


def test_a_trial_that_could_not_be_driven() -> None:
    goal = one_way_results.limit().search.goal
    why = evaluate_trial(one_way_results.behind(), goal, lambda *_: 0.0).why
    assert "of messages unsent" in why


def test_lateness_that_is_too_much() -> None:
    run = one_way_results.run()
    late = msgspec.structs.replace(cast("Distribution", run.lateness_ns), p99=2_000_000)
    for exchange, answered, many in ((OneWay(), 0, "messages"), (RequestReply(), run.outcomes.sent, "requests")):
        outcomes = msgspec.structs.replace(run.outcomes, answered=answered)
        why = verdict(outcomes, late, 0, exchange, lost=None, interrupted=False)[1]
        assert f"1 % of the {many} left" in why


@pytest.mark.parametrize("verb", ["load", "limit"])
def test_help_has_the_protocols_words(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name, protocol in PROTOCOLS.items():
        assert execute([verb, name, "--help"]) == 0
        reported = " ".join(capsys.readouterr().out.replace("│", " ").split())
        things = "requests" if protocol.one_way is None else "messages"
        assert f"How many {things} per second" in reported or f"share of {things}" in reported
        assert "{" not in reported
        assert protocol.one_way is None or "requests" not in reported


def test_a_stored_result_is_told_alike() -> None:
    for result in (one_way_results.run(), one_way_results.limit()):
        again = msgspec.json.decode(result.to_json(), type=type(result))
        assert cast("LoadResult | LimitResult", again).wording == result.wording
