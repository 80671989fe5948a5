"""The flags of messages that go one way: who has them, and what they become."""

from __future__ import annotations

from typing import Any

import one_way_results
import pytest

from flatout.cli import execute, load
from flatout.cli import limit as limit_command
from flatout.protocols import PROTOCOLS
from flatout.scenario.model import Scenario, Segment

CAST = next(name for name, protocol in PROTOCOLS.items() if protocol.one_way is not None)
ASKED = next(name for name, protocol in PROTOCOLS.items() if protocol.one_way is None)
FLAGS = ("--senders", "--players", "--spread", "--format", "--endian")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a command would run, which it does not."""
    found: list[Any] = []

    def measure(scenario: Scenario, **_: Any) -> Any:
        found.append(scenario)
        return one_way_results.run()

    def seek(scenario: Scenario, search: Any, **_: Any) -> Any:
        found.extend((scenario, search))
        return one_way_results.limit()

    monkeypatch.setattr(load, "measure", measure)
    monkeypatch.setattr(limit_command, "seek", seek)
    return found


@pytest.mark.parametrize("verb", ["load", "limit"])
def test_only_one_way_protocols_have_senders(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in (CAST, ASKED):
        assert execute([verb, name, "--help"]) == 0
        reported = capsys.readouterr().out
        assert all((flag in reported) == (name == CAST) for flag in FLAGS)
        assert ("--tick" in reported) == (name == CAST and verb == "load")
        assert ("--count" in reported) == (verb == "load")


def test_the_seeds_run_is_one_command(asked: list[Any]) -> None:
    """Row 66: eight clients of 100,000 a second, ten million messages of 4 bytes."""
    flags = "--format movement --players 8 --rate 800k --count 10M --gso --quiet"
    assert execute(["load", CAST, "127.0.0.1:31234", *flags.split()]) == 0
    scenario = asked[0]
    assert (scenario.senders, scenario.gso, scenario.options["format"]) == (8, True, "movement")
    assert scenario.profile == (Segment(12.5, 800e3, 800e3),)
    assert scenario.warmup_s == 0, "ten million messages in all"


def test_players_send_at_a_tick(asked: list[Any]) -> None:
    """Row 66: configurable."""
    command = ["load", CAST, "127.0.0.1", "--players", "10k", "--tick", "20", "--for", "5s", "--quiet"]
    for spread, share in (((), 1.0), (("--spread", "0%"), 0.0), (("--spread", "25%"), 0.25), (("--spread", "1"), 1.0)):
        assert execute([*command, *spread]) == 0
        scenario = asked.pop()
        assert (scenario.senders, scenario.spread) == (10_000, share)
        assert scenario.profile == (Segment(5.0, 200e3, 200e3),)


def test_a_number_of_messages_for_every_protocol(asked: list[Any]) -> None:
    assert execute(["load", ASKED, "127.0.0.1", "--rate", "3", "--count", "10", "--quiet"]) == 0
    assert execute(["load", ASKED, "127.0.0.1", "--count", "10", "--warmup", "1s", "--quiet"]) == 0
    assert asked[0].profile == (Segment(pytest.approx(10 / 3), 3, 3),)
    assert [scenario.warmup_s for scenario in asked] == [0.0, 1.0]


@pytest.mark.parametrize(
    "flags",
    [
        ["--tick", "20", "--rate", "5"],
        ["--tick", "20", "--ramp", "1k..2k"],
        ["--tick", "20", "--profile", "1k 2s"],
        ["--tick", "0"],
        ["--players", "0"],
        ["--players", "0", "--tick", "20"],
        ["--spread", "120%"],
        ["--spread", "-1"],
        ["--count", "0"],
        ["--count", "10", "--for", "5s"],
        ["--count", "10", "--ramp", "1k..2k"],
        ["--count", "10", "--profile", "1k 2s"],
        ["--count", "10", "--arrivals", "poisson"],
        ["--format", "id:u3"],
        ["--format", ""],
    ],
    ids=" ".join,
)
def test_bad_use(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["load", CAST, "127.0.0.1:5", *flags, "--quiet"]) == 2
    assert capsys.readouterr().err


def test_a_search_has_senders_too(asked: list[Any]) -> None:
    assert execute(["limit", CAST, "127.0.0.1", "--players", "5k", "--spread", "10%", "--quiet"]) == 0
    assert (asked[0].senders, asked[0].spread) == (5000, 0.1)


def test_latency_is_no_goal_where_nobody_answers(asked: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["limit", CAST, "127.0.0.1", "--p99", "5ms", "--quiet"]) == 2
    assert "p99" in capsys.readouterr().err
    assert asked == []
