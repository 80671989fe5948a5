"""A server's clocks, over io_uring and epoll: cut messages hold up nobody, and idle connections may be timed out."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
from collections.abc import Iterator

import pytest
from stream_servers import within

import flatout
from conftest import Cli, wait_until
from flatout.errors import UsageError

QUERY = struct.pack(">HHHHHH", 1, 0x100, 1, 0, 0, 0) + b"\x07example\x03com\0\0\x01\0\x01"
FRAMED = struct.pack(">H", len(QUERY)) + QUERY
# A message of which most has come: 4,500 of them are more than the 256 MB that a worker keeps.
HALF = struct.pack(">H", 65_535) + bytes(65_000)


@pytest.fixture(params=["io_uring", "epoll"])
def carrier(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextlib.contextmanager
def connected(server: flatout.Server) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.endpoint.port)) as client:
        client.settimeout(20)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield client


def connections(server: flatout.Server) -> dict[str, int]:
    counted: dict[str, int] = server.stats()["connections"]
    return counted


def test_a_query_in_two_segments_is_answered_beside_4500_half_messages(carrier: str) -> None:
    with (
        within(120),
        flatout.serve("dns", "127.0.0.1:0", threads=1, transports=["tcp"], io=carrier) as server,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(4_500):
            client = stack.enter_context(connected(server))
            client.sendall(HALF)
        wait_until(lambda: connections(server)["evicted"] > 0, seconds=60)
        for _ in range(5):
            with connected(server) as honest:
                before = server.stats()["bytes"]["in"]
                honest.sendall(FRAMED[:10])
                wait_until(lambda before=before: server.stats()["bytes"]["in"] >= before + 10, seconds=10)
                honest.sendall(FRAMED[10:])
                assert honest.recv(4096)[2:4] == QUERY[:2]
        assert connections(server)["stalled"] == 0
        assert server.stats()["memory_bytes"] < 320 << 20


def test_idle_connections_are_closed_in_order_and_busy_ones_stay(carrier: str) -> None:
    with (
        within(60),
        flatout.serve("dns", "127.0.0.1:0", threads=1, io=carrier, idle_timeout=3) as server,
        connected(server) as busy,
        contextlib.ExitStack() as stack,
    ):
        idle = [stack.enter_context(connected(server)) for _ in range(100)]
        until = time.monotonic() + 30
        while connections(server)["idle_closed"] < 100 and time.monotonic() < until:
            busy.sendall(FRAMED)
            assert busy.recv(4096), "it is not idle"
        assert [client.recv(1) for client in idle] == [b""] * 100, "ends in order, no resets"
        assert connections(server)["idle_closed"] == 100
        assert connections(server)["now"] == 1


def test_the_command_counts_idle_connections(cli: Cli) -> None:
    running = cli.start("serve", "echo", "--listen", "127.0.0.1:0", "--idle-timeout", "300ms", "--json", "-")
    begun = wait_until(lambda: running.err.read_text().count("\n") >= 2 and running.err.read_text())
    with socket.create_connection(("127.0.0.1", int(begun.split("127.0.0.1:")[1].split()[0]))) as client:
        client.settimeout(20)
        assert client.recv(1) == b""
    running.interrupt()
    last = json.loads(running.end(30).out.splitlines()[-1])
    assert last["connections"]["idle_closed"] >= 1
    assert {"incomplete", "evicted"} <= last["connections"].keys()


@pytest.mark.parametrize(
    ("protocol", "wanted", "why"),
    [
        ("dns", 0, "give 0.1 to"),
        ("dns", "soon", "soon"),
        ("dns", -1, "give 0.1 to"),
        ("ntp", 30, "no connections"),
        ("record", 30, "no connections"),
    ],
)
def test_time_outs_that_make_no_sense(protocol: str, wanted: float | str, why: str) -> None:
    options = {"format": "seq:u4"} if protocol == "record" else {}
    with pytest.raises(UsageError, match=why):
        flatout.serve(protocol, "127.0.0.1:0", idle_timeout=wanted, **options)
