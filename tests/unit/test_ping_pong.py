"""One request at a time: what may be asked together with it, and what is told of it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import results

import flatout
from flatout.cli import execute
from flatout.plan.load_plan import PingPong
from flatout.plan.resolve import make
from flatout.runner.progress import RunProgress
from flatout.scenario.build import scenario_of
from flatout.scenario.model import Scenario
from flatout.view import facts
from flatout.view.terminal import frame, summary


def asked(protocol: str = "ntp", target: str = "127.0.0.1", **options: Any) -> Scenario:
    given: dict[str, Any] = {"rate": None, "duration": "5s", "profile": None, "arrivals": "ping-pong", **options}
    return scenario_of(protocol, target, **given)


def test_it_has_a_time_and_no_rate() -> None:
    scenario = asked()
    assert (scenario.duration_s, scenario.peak_per_s, scenario.ping_pong) == (5.0, 0.0, True)
    assert make(scenario).engine.ping_pong == PingPong(wait="sleep", busy_poll_us=0)
    usual = scenario_of("ntp", "127.0.0.1", rate="1k", duration=1, profile=None)
    assert make(usual).engine.ping_pong is None


def test_there_are_as_many_flows_as_can_have_a_request_under_way() -> None:
    assert asked().flows == 1
    assert asked(threads=3).flows == 3
    assert asked(target="127.0.0.1,127.0.0.2", threads=2).flows == 4
    assert asked(node="2/3").flows == 3
    assert asked(flows=7).flows == asked(connections=7).flows == 7


def test_how_the_answer_is_awaited_reaches_the_engine() -> None:
    scenario = asked(wait="spin", busy_poll="50us")
    assert (scenario.wait, scenario.busy_poll_us) == ("spin", 50)
    plan = make(scenario)
    assert plan.engine.ping_pong == PingPong(wait="spin", busy_poll_us=50)
    assert plan.notes == ["loopback has no receive queue to poll: --busy-poll changes nothing here"]
    assert make(asked(target="192.168.7.7", busy_poll="50us")).notes == []


def test_only_threads_that_spin_are_said_to_hold_each_other_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    assert make(asked(threads=3)).notes == []
    assert "3 threads that spin share 2 CPUs" in make(asked(threads=3, wait="spin")).notes[0]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"rate": "5k"}, "at the pace of the answers"),
        ({"profile": "1000 5s"}, "at the pace of the answers"),
        ({"count": 10}, "at the pace of the answers"),
        ({"gso": True}, "--gso"),
        ({"busy_poll": "2s"}, "1us to 1s"),
        ({"protocol": "record"}, "one-way messages"),
        ({"protocol": "echo", "transport": "tcp"}, "over udp alone"),
        ({"arrivals": "constant", "rate": "1k", "wait": "spin"}, "--wait is for --arrivals ping-pong"),
        ({"arrivals": "poisson", "rate": "1k", "busy_poll": 1e-6}, "--busy-poll is for --arrivals ping-pong"),
        ({"wait": "doze"}, "wait='doze': give one of sleep, spin"),
    ],
)
def test_what_does_not_go_with_it_is_said(options: dict[str, Any], why: str) -> None:
    with pytest.raises(flatout.UsageError, match=why):
        make(asked(**options))


def test_a_search_refuses_it() -> None:
    with pytest.raises(flatout.UsageError, match="the search sets the rate"):
        flatout.limit("ntp", "127.0.0.1", arrivals="ping-pong")


def test_the_command_line_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["load", "ntp", "127.0.0.1", "--arrivals", "ping-pong", "--rate", "1k"]) == 2
    assert "at the pace of the answers" in capsys.readouterr().err


def test_a_result_tells_of_round_trips() -> None:
    usual = results.load()
    reading = results.distribution(2_500, 0.1, 1000)
    run = msgspec.structs.replace(
        usual,
        scenario=msgspec.structs.replace(usual.scenario, arrivals="ping-pong"),
        reading_ns=reading,
        lateness_ns=None,
    )
    assert "answered, one at a time, with" in facts.run_sentence(run)
    line = next(line for line in summary.text(run).splitlines() if line.startswith("reading the answer"))
    assert "2.49 µs" in line
    assert not any(line.startswith("asked") for line in summary.text(run).splitlines()), "nobody asked for a rate"
    assert "reading the answer" not in summary.text(usual)


def test_the_live_view_names_no_rate_that_nobody_asked_for() -> None:
    counts = dict.fromkeys(("planned", "sent", "unsent", "answered", "late", "refused", "invalid", "duplicate"), 0)
    progress = RunProgress(phase="running", t_s=1.0, total_s=5.0, rate_per_s=None, latest=None, **counts)
    shown = "".join(text for line in frame.lines(progress, frame.Memory("ntp")) for _, text in line)
    assert "sent" in shown
    assert "asked" not in shown
