"""knotd as target of load and limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dns_servers import DnsServer, knot

import accounts
import flatout
from conftest import Cli, until_good

pytestmark = pytest.mark.peer

# Its listen queue holds ten: connections that come faster wait for the kernel's next try, a second later.
TCP: Any = {"transport": "tcp", "connections": 10, "connect_rate": 200}


@pytest.fixture
def knotd(peer: Callable[[str], str], tmp_path: Path) -> Iterator[DnsServer]:
    with knot(peer, tmp_path) as server:
        yield server


@pytest.mark.parametrize("how", [{}, TCP], ids=["udp", "tcp"])
def test_every_query_is_answered(knotd: DnsServer, how: Any) -> None:
    run = until_good(
        lambda: flatout.load("dns", knotd.address, rate=500, duration=0.5, warmup=0.1, **how),
        lambda run: run.outcomes.answered == run.outcomes.sent,
    )
    accounts.all_answered(run)
    if how:
        assert (run.connections.opened, run.connections.established, run.connections.live) == (10, 10, 10)
        assert run.connect_ns.count == 10


@pytest.mark.parametrize("how", [{}, TCP], ids=["udp", "tcp"])
def test_codes_of_a_query_file_are_tallied(knotd: DnsServer, tmp_path: Path, how: Any) -> None:
    """In turn: two that exist, one that does not, one type that is not there, one zone that is not served."""
    queries = tmp_path / "queries"
    lines = ["; a remark", "www.example.com A", "WWW.example.com. AAAA", "none.example.com A", "example.com MX"]
    queries.write_text("\n".join([*lines, "elsewhere.test A # not ours", ""]), encoding="ascii")
    asked: Any = {"rate": 500, "duration": 0.5, "warmup": 0, "queries": str(queries), **how}
    run = until_good(lambda: flatout.load("dns", knotd.address, **asked), lambda run: run.outcomes.lost == 0)
    accounts.check(run)
    tallies, sent = run.tallies, run.outcomes.sent
    assert tallies["noerror"] + tallies["nxdomain"] == run.outcomes.answered + run.outcomes.late
    assert tallies["refused"] == run.outcomes.invalid
    assert tallies["noerror"] == pytest.approx(sent * 3 / 5, abs=3)
    assert tallies["nxdomain"] == pytest.approx(sent / 5, abs=3)
    assert tallies["refused"] == pytest.approx(sent / 5, abs=3)


@pytest.mark.parametrize(
    "protocol_options", [{"edns": True}, {"dnssec_ok": True, "udp_size": 4096, "recursion": False}]
)
@pytest.mark.parametrize("how", [{}, TCP], ids=["udp", "tcp"])
def test_edns_is_understood(knotd: DnsServer, how: Any, protocol_options: Any) -> None:
    asked: Any = {"rate": 300, "duration": 0.3, "warmup": 0, "options": protocol_options, **how}
    run = until_good(
        lambda: flatout.load("dns", knotd.address, **asked), lambda run: run.outcomes.answered == run.outcomes.sent
    )
    accounts.all_answered(run)


def test_idle_connections_that_it_closes_are_opened_again(peer: Callable[[str], str], tmp_path: Path) -> None:
    """After a second without a query it closes; those that are only held have none."""
    with knot(peer, tmp_path, idle_s=1) as server:
        how: Any = {**TCP, "connections": 3, "hold": 5, "reconnect": True}
        run = flatout.load("dns", server.address, rate=100, duration=2.5, warmup=0, **how)
    accounts.check(run)
    assert run.connections is not None
    assert run.connections.closed >= 5, run.connections
    assert run.connections.reopened >= 5, run.connections
    assert run.connections.established == run.connections.live + run.connections.closed
    assert run.outcomes.answered > 0.9 * run.outcomes.sent
    assert any("were opened again" in note for note in run.notes), run.notes


def test_a_limit_along_connections_is_found(knotd: DnsServer, cli: Cli) -> None:
    asked = ("--search", "connections", "--transport", "tcp", "--rate", "200", "--min", "2", "--max", "8")
    how = ("--connect-rate", "100", "--loss", "20%", "--budget", "10s", "--json", "-", "--quiet")
    done = cli("limit", "dns", knotd.address, *asked, *how)
    found = done.json
    assert (found["limit"]["axis"], found["limit"]["unit"]) == ("connections", "connections"), done.err
    assert found["trials"], found["sentence"]
    for trial in found["trials"]:
        assert 2 <= trial["intended_connections"] <= 8
        assert trial["outcomes"]["invalid"] == 0
