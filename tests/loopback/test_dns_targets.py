"""What a load of DNS makes of its target: an echo, several addresses, names of many lengths in one call."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path

import pytest

import flatout
from flatout.plan import targets
from flatout.protocols import PROTOCOLS


def test_from_a_target_that_echoes_queries_are_right_answers_only_where_that_is_said() -> None:
    with flatout.serve("echo", "127.0.0.1:0", threads=1) as server:
        reported = flatout.load(
            "dns", server.address, transport="tcp", rate=500, duration=0.5, warmup=0, options={"echo": True}
        )
        plain = flatout.load("dns", server.address, transport="tcp", rate=500, duration=0.5, warmup=0)
    assert reported.outcomes.answered == reported.tallies["echoed"] == reported.outcomes.sent > 0
    assert plain.outcomes.invalid == plain.tallies["not_a_response"] == plain.outcomes.sent > 0


def test_where_nobody_can_be_connected_to_the_next_address_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed, flatout.serve("dns", "127.0.0.1:0", threads=1) as server:
        closed.bind(("127.0.0.1", 0))
        nobody = targets.Endpoint(ipaddress.ip_address("127.0.0.1"), closed.getsockname()[1], 0)
        monkeypatch.setattr(targets, "addresses", lambda _text, _port: [nobody, server.endpoint])
        result = flatout.load("dns", "a.test", transport="tcp", connections=3, rate=500, duration=0.5, warmup=0)
    assert result.connections is not None
    assert (result.connections.established, result.connections.refused) == (3, 0)
    assert result.outcomes.answered == result.outcomes.sent > 0
    assert any(str(nobody) in note for note in result.notes)


def test_over_tls_the_port_is_another() -> None:
    spoken = PROTOCOLS["dns"]
    assert [spoken.port_over(link) for link in ("udp", "tcp", "tls")] == [53, 53, 853]
    assert PROTOCOLS["ntp"].port_over("udp") == 123


def test_names_of_many_lengths_leave_whole_where_the_kernel_cuts_datagrams(tmp_path: Path) -> None:
    queries = tmp_path / "names.txt"
    queries.write_text("\n".join(f"{'x' * (n % 40 + 1)}.example.com A" for n in range(200)), encoding="ascii")
    with flatout.serve("dns", "127.0.0.1:0", threads=1) as server:
        result = flatout.load(
            "dns", server.address, rate=100e3, duration=0.5, warmup=0, flows=1, gso=True, queries=str(queries)
        )
        dropped = server.stats()["dropped"]
    assert result.outcomes.sent > 1000
    assert result.tallies["noerror"] == result.outcomes.answered + result.outcomes.late
    assert (result.outcomes.invalid, sum(dropped.values())) == (0, 0)
