"""unbound as target over UDP, TCP and TLS: names that are checked, sessions that are resumed, places that run out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dns_servers import NAME, DnsServer, unbound

import accounts
import flatout
from conftest import Cli, until_good

pytestmark = pytest.mark.peer

CONNECTING: Any = {"connections": 10, "connect_rate": 500}
LOAD: Any = {"rate": 500, "duration": 0.5, "warmup": 0}


@pytest.fixture
def server(peer: Callable[[str], str], tmp_path: Path) -> Iterator[DnsServer]:
    with unbound(peer, tmp_path) as running:
        yield running


def over(server: DnsServer, transport: str, **tls: Any) -> dict[str, Any]:
    """The target and how to reach it."""
    if transport == "udp":
        return {"target": server.address}
    at = server.tls if transport == "tls" else server.address
    return {"target": at, "transport": transport, **CONNECTING, **({"tls": tls} if tls else {})}


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
def test_every_query_is_answered_and_counted_there_too(server: DnsServer, transport: str) -> None:
    def attempt() -> tuple[flatout.LoadResult, int, int]:
        before = server.statistics()
        run = flatout.load("dns", **over(server, transport), **LOAD)
        after = server.statistics()
        name = {"udp": "num.answer.rcode.NOERROR", "tcp": "num.query.tcp", "tls": "num.query.tls"}[transport]
        codes = "num.answer.rcode.NOERROR"
        return run, after[name] - before[name], after[codes] - before[codes]

    run, seen, noerror = until_good(attempt, lambda three: three[0].outcomes.lost == 0)
    accounts.all_answered(run)
    assert seen == noerror == run.outcomes.sent
    if run.connections is not None:
        assert run.connections.established == run.connections.live == run.connect_ns.count == 10


def test_nxdomain_and_edns_over_tls(server: DnsServer, tmp_path: Path) -> None:
    queries = tmp_path / "queries"
    queries.write_text("none.example.com A\n", encoding="ascii")
    edns: Any = {"queries": str(queries), "options": {"dnssec_ok": True}}
    before = server.statistics()
    run = flatout.load("dns", **over(server, "tls"), **LOAD, **edns)
    after = server.statistics()
    accounts.all_answered(run, "nxdomain")
    for counter in ("num.query.edns.present", "num.query.edns.DO", "num.answer.rcode.NXDOMAIN"):
        assert after[counter] - before.get(counter, 0) == run.outcomes.sent, counter


def test_a_verified_name_is_let_in(server: DnsServer) -> None:
    tls = {"server_name": NAME, "verify": True, "ca": str(server.authority)}
    accounts.all_answered(flatout.load("dns", **over(server, "tls", **tls), **LOAD))


@pytest.mark.parametrize(
    ("name", "authority", "reason"),
    [
        ("other.test", "authority.pem", 'not valid for name "other.test"'),
        (None, "authority.pem", 'not valid for name "127.0.0.1"'),
        (NAME, "certificate.pem", "UnknownIssuer"),
    ],
    ids=["another name", "the address", "an unknown authority"],
)
def test_a_wrong_certificate_is_refused_with_its_reason(
    server: DnsServer, cli: Cli, name: str | None, authority: str, reason: str
) -> None:
    flags = ["--tls-verify", "--tls-ca", server.authority.with_name(authority), *(["--tls-name", name] if name else [])]
    asked = ("--rate", "200", "--for", "1s", "--connections", "4", "--transport", "tls", "--json", "-", "--quiet")
    done = cli("load", "dns", server.tls, *asked, *flags)
    run = done.json
    assert (done.code, run["verdict"]) == (3, "target-lost")
    assert any("certificate" in text and reason in text for text in run["warnings"]), run["warnings"]
    assert run["outcomes"]["sent"] == 0
    counted = run["connections"]
    assert (counted["failed"], counted["local"], counted["established"]) == (4, 0, 0)
    assert "none of 4 connections could be established: 4 broken off" in run["why"]


def resumed(server: DnsServer, resume: bool) -> tuple[int, int]:
    before = server.statistics()["num.query.tls.resume"]
    # Every connection is replaced after two queries, long after the first one brought a ticket.
    asked: Any = {**LOAD, "rate": 200, "churn": 2}
    run = flatout.load("dns", **over(server, "tls", resume=resume), **asked)
    accounts.check(run)
    assert run.outcomes.answered > 0
    return run.outcomes.sent, server.statistics()["num.query.tls.resume"] - before


def test_sessions_are_resumed_unless_not_wanted(server: DnsServer) -> None:
    sent, full = resumed(server, resume=False)
    assert full == 0
    sent, again = resumed(server, resume=True)
    assert 0.5 * sent < again <= sent, "most queries go over connections that came after the first ones"


def test_the_wrong_port_is_told(server: DnsServer) -> None:
    """TLS to a port that speaks plain TCP, and the other way round: no hang, nothing answered, accounts close."""
    asked: Any = {**LOAD, **CONNECTING, "connect_timeout": 0.5}
    shaking = flatout.load("dns", server.address, transport="tls", **asked)
    accounts.check(shaking)
    assert shaking.verdict == "target-lost"
    assert shaking.connections is not None
    assert shaking.connections.established == 0
    plain = flatout.load("dns", server.tls, transport="tcp", **asked)
    accounts.check(plain)
    assert plain.verdict == "target-lost"
    assert plain.outcomes.answered == 0


def test_places_that_run_out(peer: Callable[[str], str], tmp_path: Path) -> None:
    """With five places for connections it shortens its patience and closes idle ones; reconnecting goes on."""
    with unbound(peer, tmp_path, places=5, idle_ms=200) as server:
        how: Any = {"transport": "tcp", "connections": 20, "connect_timeout": 1, "connect_rate": 500}
        run = flatout.load("dns", server.address, rate=50, duration=2, warmup=0, **how)
    accounts.check(run)
    assert run.connections is not None
    assert run.connections.closed + run.connections.reset > 0, run.connections
    assert run.connections.reopened > 0
    assert run.outcomes.answered > 0
    assert run.tallies["noerror"] == run.outcomes.answered + run.outcomes.late
