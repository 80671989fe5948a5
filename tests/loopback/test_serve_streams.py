"""Servers of streams against clients of all manners, by plain sockets, over each carrier that this kernel has."""

from __future__ import annotations

import json
import os
import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import flatout
from conftest import Cli, wait_until
from flatout import _engine
from flatout.errors import UsageError
from flatout.server.base import Server

LINGER_0 = struct.pack("ii", 1, 0)
SECONDS = 20.0


@pytest.fixture(params=["io_uring", "epoll"])
def carrier(request: pytest.FixtureRequest) -> str:
    if request.param == "io_uring" and not _engine.kernel()["uring"]:
        pytest.skip("needs io_uring, which is off or too old here")
    return str(request.param)


@pytest.fixture
def echo(carrier: str) -> Iterator[Server]:
    with flatout.serve("echo", "127.0.0.1:0", transports=["tcp"], threads=1, io=carrier) as server:  # type: ignore[arg-type]
        assert server.carrier == carrier
        yield server


@pytest.fixture
def dns(carrier: str) -> Iterator[Server]:
    with flatout.serve("dns", "127.0.0.1:0", threads=1, io=carrier) as server:  # type: ignore[arg-type]
        yield server


def connect(server: Server) -> socket.socket:
    made = socket.create_connection((str(server.endpoint.address), server.endpoint.port), SECONDS)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def read(client: socket.socket, count: int) -> bytes:
    """So many bytes, or fewer where the far end closes."""
    parts, left = [], count
    while left and (part := client.recv(min(left, 1 << 20))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def over(client: socket.socket) -> bool:
    """Whether the far end ends the connection, in order or not."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def query(number: int, name: bytes = b"\7example\3com\0") -> bytes:
    return struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + name + b"\0\1\0\1"


def framed(message: bytes) -> bytes:
    return struct.pack(">H", len(message)) + message


def message(client: socket.socket) -> bytes:
    (length,) = struct.unpack(">H", read(client, 2))
    return read(client, length)


def right(answer: bytes, number: int) -> bool:
    reported, flags, _, answers = struct.unpack(">HHHH", answer[:8])
    return (reported, flags & 0x800F, answers) == (number, 0x8000, 1) and answer.endswith(bytes([192, 0, 2, 1]))


def connections(server: Server) -> dict[str, int]:
    found = server.stats()["connections"]
    assert found is not None
    return dict(found)


def until(server: Server, what: Callable[[dict[str, int]], bool]) -> dict[str, int]:
    wait_until(lambda: what(connections(server)), SECONDS, "what was expected of the connections")
    return connections(server)


# --- Bytes ---


def test_bytes_come_back_in_whatever_pieces_they_go(echo: Server) -> None:
    chance = random.Random(1)
    with connect(echo) as client:
        for size in (1, 2, 1000, 4096, 65_535, 65_536, 65_537, 200_000):
            sent = chance.randbytes(size)
            client.sendall(sent)
            assert read(client, size) == sent
        for byte in b"single bytes":
            client.sendall(bytes([byte]))
        assert read(client, 12) == b"single bytes"
    found = until(echo, lambda now: now["ended"] == 1)
    assert (found["accepted"], found["now"], found["resets"]) == (1, 0, 0)
    wait_until(lambda: echo.stats()["bytes"]["in"] == echo.stats()["bytes"]["out"] > 400_000)


def test_queries_are_answered_in_whatever_pieces_they_come(dns: Server) -> None:
    chance = random.Random(2)
    many = b"".join(framed(query(number)) for number in range(100))
    with connect(dns) as client:
        client.sendall(many)
        assert all(right(message(client), number) for number in range(100)), "in one piece"
        for byte in many[:300]:
            client.sendall(bytes([byte]))
        whole = 300 // len(framed(query(0)))
        assert all(right(message(client), number) for number in range(whole)), "in single bytes"
        client.sendall(many[300 : (whole + 1) * len(framed(query(0)))])
        assert right(message(client), whole)
        at = 0
        while at < len(many):
            end = at + chance.randint(1, 90)
            client.sendall(many[at:end])
            at = end
        assert all(right(message(client), number) for number in range(100)), "in odd pieces"
    wait_until(lambda: dns.stats()["answered"] == 201 + whole)


def test_both_transports_answer_on_one_port(dns: Server) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker, connect(dns) as client:
        asker.settimeout(SECONDS)
        asker.connect((str(dns.endpoint.address), dns.endpoint.port))
        asker.send(query(7))
        client.sendall(framed(query(7)))
        by_datagram = asker.recv(4096)
        assert right(by_datagram, 7)
        assert by_datagram == message(client)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_wildcard_takes_both_families(carrier: str, family: socket.AddressFamily) -> None:
    with flatout.serve("echo", "[::]:0", transports=["tcp"], threads=2, io=carrier) as server:  # type: ignore[arg-type]
        at = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        with socket.create_connection((at, server.endpoint.port), SECONDS) as client:
            client.sendall(b"hello")
            assert read(client, 5) == b"hello"


# --- Clients that misbehave ---


def test_resets_at_accept_stop_nothing(echo: Server) -> None:
    for _ in range(300):
        client = connect(echo)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
        client.close()
    with connect(echo) as client:
        client.sendall(b"still here")
        assert read(client, 10) == b"still here"
        found = until(echo, lambda now: now["now"] == 1)
        # Some may have gone before they could be accepted.
        assert found["accepted"] - 1 == found["resets"] + found["ended"]
        assert found["accepted"] + found["errors"] > 1
    assert echo.alive


def test_a_half_open_client_holds_up_nobody(dns: Server) -> None:
    whole = framed(query(3))
    waiting = [connect(dns) for _ in range(20)]
    for number, client in enumerate(waiting):
        client.sendall(whole[: 1 + number])
    with connect(dns) as other:
        other.sendall(whole)
        assert right(message(other), 3)
    for number, client in enumerate(waiting):
        client.sendall(whole[1 + number :])
        assert right(message(client), 3)
        client.close()


def test_who_has_said_everything_still_gets_the_answers(dns: Server) -> None:
    with connect(dns) as client:
        client.sendall(b"".join(framed(query(number)) for number in range(50)))
        client.shutdown(socket.SHUT_WR)
        assert all(right(message(client), number) for number in range(50))
        assert over(client)
    until(dns, lambda now: now["ended"] == 1 and now["now"] == 0)


def test_what_can_be_no_message_ends_its_connection_alone(dns: Server) -> None:
    with connect(dns) as bad, connect(dns) as good:
        bad.sendall(b"\0\0")
        assert over(bad)
        good.sendall(framed(query(1)))
        assert right(message(good), 1)
        assert until(dns, lambda now: now["broken"] == 1)["now"] == 1


def test_garbage_stops_nothing(dns: Server) -> None:
    chance = random.Random(3)
    for _ in range(50):
        with connect(dns) as client:
            client.sendall(chance.randbytes(chance.randint(1, 3000)))
    for _ in range(50):
        with connect(dns) as client:
            client.sendall(framed(chance.randbytes(chance.randint(1, 600))) + framed(query(5)))
            # Whatever is said to the nonsense, what follows is understood.
            while not right(found := message(client).ljust(12), 5):
                assert found[2] & 0x80, "an answer"
    until(dns, lambda now: now["now"] == 0 and now["accepted"] == 100)
    assert dns.alive


def test_who_does_not_read_waits_alone_and_loses_nothing(echo: Server) -> None:
    chance = random.Random(4)
    sent = bytearray()
    with connect(echo) as greedy, connect(echo) as other:
        greedy.setblocking(False)
        piece = chance.randbytes(100_000)
        deadline = time.monotonic() + SECONDS
        # Until nothing more is taken for a while: buffers on both sides are full.
        quiet = 0
        while quiet < 20 and time.monotonic() < deadline:
            try:
                sent += piece[: greedy.send(piece)]
                quiet = 0
            except BlockingIOError:
                quiet += 1
                other.sendall(b"meanwhile")
                assert read(other, 9) == b"meanwhile"
        assert quiet == 20, "the server takes no more of it"
        assert connections(echo)["stalled"] == 0
        greedy.setblocking(True)
        greedy.settimeout(SECONDS)
        assert read(greedy, len(sent)) == sent
        greedy.sendall(b"and on")
        assert read(greedy, 6) == b"and on"


def test_more_than_there_is_room_for(carrier: str) -> None:
    with flatout.serve("echo", "127.0.0.1:0", transports=["tcp"], threads=1, io=carrier, connections=10) as server:  # type: ignore[arg-type]
        clients = [connect(server) for _ in range(10)]
        for client in clients:
            client.sendall(b"x")
            assert read(client, 1) == b"x"
        late = connect(server)
        late.sendall(b"late")
        until(server, lambda now: now["now"] == 10)
        clients.pop().close()
        try:
            answered = read(late, 4) == b"late"
        except ConnectionResetError:
            answered = False
        # Whoever was turned away can come again.
        if not answered:
            late = connect(server)
            late.sendall(b"late")
            assert read(late, 4) == b"late"
        for client in [*clients, late]:
            client.close()
        until(server, lambda now: now["now"] == 0 and now["accepted"] > 10)


# --- Many ---


def test_five_thousand_at_once(dns: Server) -> None:
    count = 5000
    clients = [connect(dns) for _ in range(count)]
    until(dns, lambda now: now["now"] == count)
    for number, client in enumerate(clients):
        client.sendall(framed(query(number)))
    assert all(right(message(client), number) for number, client in enumerate(clients))
    stats = dns.stats()
    assert stats["connections"]["accepted"] == count
    assert stats["memory_bytes"] > 0
    assert stats["kernel_memory"]["tcp_bytes"] >= 0
    began = time.monotonic()
    dns.stop()
    assert time.monotonic() - began < 5, "a server with thousands of connections ends soon"
    assert sum(over(client) for client in clients[::100]) == count // 100
    for client in clients:
        client.close()


def test_connections_are_spread_over_workers(carrier: str) -> None:
    with flatout.serve("echo", "127.0.0.1:0", transports=["tcp"], threads=2, io=carrier) as server:  # type: ignore[arg-type]
        clients = [connect(server) for _ in range(200)]
        until(server, lambda now: now["now"] == 200)
        assert all(worker["connections"] > 20 for worker in server.stats()["workers"])
        for client in clients:
            client.close()


# --- Settings ---


def test_a_port_that_is_taken_is_no_port() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        at = f"127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(UsageError, match="in use"):
            flatout.serve("dns", at)
    with flatout.serve("echo", "127.0.0.1:0") as first, pytest.raises(UsageError, match="in use"):
        flatout.serve("echo", first.address)


def test_a_port_can_be_had_again_at_once(carrier: str) -> None:
    address = "127.0.0.1:0"
    for _ in range(3):
        with flatout.serve("echo", address, io=carrier) as server, connect(server) as client:  # type: ignore[arg-type]
            address = server.address
            client.sendall(b"x")
            assert read(client, 1) == b"x"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [({"transports": ["tls"]}, "udp and tcp"), ({"transports": []}, "udp"), ({"connections": 0}, "connections")],
)
def test_settings_that_make_no_sense(arguments: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        flatout.serve("dns", "127.0.0.1:0", **arguments)
    with pytest.raises(UsageError, match="not over 'tcp'"):
        flatout.serve("ntp", "127.0.0.1:0", transports=["tcp"])


def test_one_worker_for_each_cpu() -> None:
    with flatout.serve("echo", "127.0.0.1:0") as server:
        assert len(server.stats()["workers"]) == len(os.sched_getaffinity(0))
    with flatout.serve("echo", "127.0.0.1:0", transports=["udp"]) as server:
        assert server.stats()["connections"] is None
        assert (server.carrier, server.streams) == ("", False)


# --- The command ---


def test_the_command_says_what_it_does_and_ends_soon(cli: Cli) -> None:
    serving = cli.start("serve", "dns", "--listen", "127.0.0.1:0", "--json", "-", "--connections", "2k")
    begun = wait_until(lambda: serving.err.read_text().count("\n") >= 3 and serving.err.read_text())
    assert "over udp and tcp" in begun
    assert "connections, carried by " in begun
    port = int(begun.split("127.0.0.1:")[1].split()[0])
    clients = [socket.create_connection(("127.0.0.1", port), SECONDS) for _ in range(200)]
    for client in clients:
        client.sendall(framed(query(9)))
    assert all(right(message(client), 9) for client in clients)
    wait_until(lambda: '"now":200' in serving.out.read_text())
    serving.interrupt()
    done = serving.end(10.0)
    for client in clients:
        client.close()
    assert done.code == 0
    lines = [json.loads(line) for line in done.out.splitlines()]
    total = lines[-1]
    assert (total["total"], total["received"], total["answered"]) == (True, 200, 200)
    assert total["connections"]["accepted"] == sum(line["connections"]["accepted"] for line in lines[:-1]) == 200
    assert total["bytes"]["in"] == 200 * len(framed(query(9)))
    assert "in all: received 200, answered 200; connections: accepted 200" in done.err
