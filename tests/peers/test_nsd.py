"""nsd as target over UDP, TCP and TLS: it ends connections after so many queries, and limits its answers over UDP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from dns_servers import NAME, DnsServer, nsd

import accounts
import flatout
from conftest import until_good

pytestmark = pytest.mark.peer

CONNECTING: Any = {"connections": 10, "connect_rate": 500}
LOAD: Any = {"rate": 500, "duration": 0.5, "warmup": 0}


@pytest.fixture
def server(peer: Callable[[str], str], tmp_path: Path) -> Iterator[DnsServer]:
    with nsd(peer, tmp_path) as running:
        yield running


def over(server: DnsServer, transport: str) -> dict[str, Any]:
    """The target and how to reach it, its certificate checked."""
    tls = {"server_name": NAME, "verify": True, "ca": str(server.authority)}
    return {
        "udp": {"target": server.address},
        "tcp": {"target": server.address, "transport": "tcp", **CONNECTING},
        "tls": {"target": server.tls, "transport": "tls", "tls": tls, **CONNECTING},
    }[transport]


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
def test_every_query_is_answered_and_counted_there_too(server: DnsServer, transport: str) -> None:
    def attempt() -> tuple[flatout.LoadResult, int]:
        before = server.statistics()[f"num.{transport}"]
        run = flatout.load("dns", **over(server, transport), **LOAD)
        return run, server.statistics()[f"num.{transport}"] - before

    run, seen = until_good(attempt, lambda pair: pair[0].outcomes.lost == 0)
    accounts.all_answered(run)
    assert seen == run.outcomes.sent
    if run.connections is not None:
        assert run.connections.established == run.connections.live == 10


@pytest.mark.parametrize("transport", ["tcp", "tls"])
@pytest.mark.parametrize("io", ["io_uring", "epoll"])
def test_connections_that_end_after_five_queries(
    peer: Callable[[str], str], tmp_path: Path, transport: str, io: str
) -> None:
    with nsd(peer, tmp_path, queries=5) as server:
        run = flatout.load("dns", **over(server, transport), **{**LOAD, "io": io, "duration": 1})
        before = server.statistics()
        once = flatout.load("dns", **over(server, transport), **{**LOAD, "io": io, "reconnect": False})
        answered_there = server.statistics()[f"num.{transport}"] - before[f"num.{transport}"]
    for result in (run, once):
        accounts.check(result)
        assert result.outcomes.invalid == 0
        assert result.tallies["noerror"] == result.outcomes.answered + result.outcomes.late
    assert run.connections is not None
    assert run.connections.reopened >= run.connections.closed - 10 > 0
    assert run.outcomes.answered > 60, "more than ten connections without another could"
    assert once.connections is not None
    assert (once.connections.established, once.connections.live, once.connections.reopened) == (10, 0, 0)
    assert once.outcomes.answered <= answered_there <= 50
    assert once.unsent_because["no_connection"] > 0


def test_what_it_limits_is_truncated_or_lost(peer: Callable[[str], str], tmp_path: Path) -> None:
    """Its rate limit answers some of what is too much with TC and drops the rest: counted alike on both sides."""
    with nsd(peer, tmp_path, answers=50) as server:
        run = flatout.load("dns", server.address, rate=500, duration=2, warmup=0)
        there = server.statistics()
    accounts.check(run)
    assert run.outcomes.lost > 0
    # One query made sure that it was ready, over TCP.
    assert there["num.udp"] == run.outcomes.sent
    assert there["num.truncated"] == run.tallies["truncated"] > 0
    assert there["num.dropped"] == run.outcomes.lost
