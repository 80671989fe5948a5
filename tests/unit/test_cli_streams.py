"""The flags of connections: who has them, what they become, and the profiles of other programs."""

from __future__ import annotations

import io
from typing import Any

import pytest
import results

from flatout.cli import execute, load
from flatout.cli import limit as limit_command
from flatout.protocols import PROTOCOLS
from flatout.scenario.model import Scenario, Segment

PLAIN = next(name for name, protocol in PROTOCOLS.items() if protocol.links == ("udp",))
ASKING = next(name for name, protocol in PROTOCOLS.items() if protocol.default_lines)
STREAMY = next(name for name, protocol in PROTOCOLS.items() if protocol.links[0] == "tcp")
FLAGS = ("--transport", "--connections", "--churn", "--hold", "--io", "--tls-name", "--reconnect")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a command would run, which it does not."""
    found: list[Any] = []

    def measure(scenario: Scenario, **_: Any) -> Any:
        found.append(scenario)
        return results.load()

    def seek(scenario: Scenario, search: Any, **_: Any) -> Any:
        found.extend((scenario, search))
        return results.limit()

    monkeypatch.setattr(load, "measure", measure)
    monkeypatch.setattr(limit_command, "seek", seek)
    return found


@pytest.mark.parametrize("verb", ["load", "limit"])
def test_only_protocols_with_connections_have_their_flags(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in (PLAIN, STREAMY, ASKING):
        assert execute([verb, name, "--help"]) == 0
        reported = capsys.readouterr().out
        assert all((flag in reported) == (name != PLAIN) for flag in FLAGS)
        assert ("--queries" in reported) == (name == ASKING)
        assert ("--search" in reported) == (verb == "limit" and name != PLAIN)
        assert ("--node" in reported) == (verb == "load")


def test_flags_become_a_scenario(asked: list[Any]) -> None:
    flags = (
        "--transport tls --connections 100k --connect-rate 10k --connect-timeout 2s --churn 1k --hold 20k --io epoll"
    )
    more = "--reconnect --tls-name a.test --tls-verify --tls-ca /ca.pem --no-tls-resume --queries /q --node 2/3"
    rest = "--start-at 1773500966 --log-format tcpscaler --sources 127.0.0.0/24"
    assert execute(["load", ASKING, "127.0.0.1", *flags.split(), *more.split(), *rest.split(), "--quiet"]) == 0
    scenario = asked[0]
    assert (scenario.transport, scenario.connections, scenario.hold, scenario.churn) == ("tls", 100_000, 20_000, 1000)
    assert (scenario.connect_rate_per_s, scenario.connect_timeout_s) == (10e3, 2.0)
    assert (scenario.reconnect, scenario.io, scenario.queries, scenario.node) == (True, "epoll", "/q", (2, 3))
    assert (scenario.start_at, scenario.log_format) == ("1773500966", "tcpscaler")
    tls = scenario.tls
    assert (tls.server_name, tls.verify, tls.ca, tls.resume) == ("a.test", True, "/ca.pem", False)


def test_the_defaults_are_the_protocols(asked: list[Any]) -> None:
    assert execute(["load", STREAMY, "127.0.0.1", "--quiet"]) == 0
    assert execute(["load", PLAIN, "127.0.0.1", "--quiet"]) == 0
    assert execute(["load", ASKING, "127.0.0.1", "--connections", "1k", "--quiet"]) == 0
    assert [(s.transport, s.connections, s.flows) for s in asked] == [
        ("tcp", 100, 64),
        ("udp", None, 64),
        ("udp", None, 1000),
    ]


def test_what_the_target_ends_is_opened_again_where_clients_of_the_protocol_do_so(asked: list[Any]) -> None:
    commands = (
        ["load", ASKING, "127.0.0.1", "--transport", "tcp"],
        ["load", ASKING, "127.0.0.1", "--transport", "tls"],
        ["load", ASKING, "127.0.0.1", "--transport", "tcp", "--no-reconnect"],
        ["load", ASKING, "127.0.0.1"],
        ["load", STREAMY, "127.0.0.1"],
        ["load", STREAMY, "127.0.0.1", "--reconnect"],
    )
    for command in commands:
        assert execute([*command, "--quiet"]) == 0
    assert [scenario.reconnect for scenario in asked] == [True, True, False, False, False, True]


def test_a_search_along_connections(asked: list[Any]) -> None:
    flags = ["--search", "connections", "--rate", "5k", "--max", "2k", "--hold", "7"]
    assert execute(["limit", STREAMY, "127.0.0.1", *flags, "--quiet"]) == 0
    scenario, search = asked
    assert (search.axis, search.bounds, search.min_per_s, scenario.hold) == ("connections", (10, 2000), 5e3, 7)


def test_tcpclients_files_from_standard_input(asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["load", STREAMY, "127.0.0.1", "--profile", "-", "--quiet"]
    for form, rate in (("tcpscaler-steps", []), ("tcpscaler-slopes", ["--rate", "100"])):
        monkeypatch.setattr("sys.stdin", io.StringIO("2\n1000 500\n2000 250\n"))
        assert execute([*command, "--profile-format", form, *rate]) == 0
    assert asked[0].profile == (Segment(1.0, 500, 500), Segment(2.0, 250, 250))
    assert asked[1].profile == (Segment(1.0, 100, 600), Segment(2.0, 600, 1100))


@pytest.mark.parametrize(
    "flags",
    [
        ["--profile", "2\n1 2\n3 4"],
        ["--profile", "1k 5s", "--rate", "5"],
        ["--profile-format", "slopes"],
        ["--ramp", "1k..2k", "--rate", "5"],
        ["--hold", "5", "--transport", "udp"],
        ["--flows", "5"],
        ["--node", "5/3"],
    ],
    ids=str,
)
def test_bad_use(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["load", STREAMY, "127.0.0.1:5", *flags, "--quiet"]) == 2
    assert capsys.readouterr().err
