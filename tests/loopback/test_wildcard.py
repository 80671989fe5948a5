"""A receiver that listens on all addresses answers from the one that was asked, whoever asks and however."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from stream_servers import within
from traffic import records

import flatout
from conftest import Cli
from flatout.plan.targets import resolve
from flatout.runner import receiver_stats


@pytest.fixture(autouse=True)
def _bounded() -> Iterator[None]:
    with within(60):
        yield


def port_of(receiver: flatout.Receiver) -> int:
    return receiver.endpoint.port


@pytest.mark.parametrize(
    ("listen", "asked"),
    [
        ("0.0.0.0:0", "127.0.0.1"),
        ("0.0.0.0:0", "127.0.0.2"),
        ("[::]:0", "127.0.0.1"),
        ("[::]:0", "127.0.0.2"),
        ("[::]:0", "[::1]"),
    ],
)
@pytest.mark.parametrize("gro", [True, False])
def test_the_counters_are_told_at_the_address_asked(listen: str, asked: str, gro: bool) -> None:
    with flatout.Receiver(listen, gro=gro, counters=True) as receiver:
        reported = receiver_stats.ask(resolve(f"{asked}:{port_of(receiver)}", 1))
    assert reported is not None
    assert reported["size"] == receiver.layout.size


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0"])
@pytest.mark.parametrize("stamps", ["user", "kernel"])
def test_connected_clients_hear_what_is_sent_to_them(listen: str, stamps: Any) -> None:
    """A connected socket takes nothing from another address than the one it is connected to."""
    made = records(1, [1])
    with flatout.Receiver(listen, stamps=stamps) as receiver:
        clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
        try:
            for n, client in enumerate(clients):
                client.settimeout(20)
                client.connect((f"127.0.0.{1 + n}", port_of(receiver)))
                client.send(made.tobytes())
                batch = receiver.take(20)
                assert batch is not None
                assert receiver.send(b"welcome", batch.sender) == 1
                assert client.recv(64) == b"welcome", f"127.0.0.{1 + n}"
            assert receiver.send(b"news", range(3)) == 3
            assert [client.recv(64) for client in clients] == [b"news"] * 3
        finally:
            for client in clients:
                client.close()


def test_loss_is_known_at_each_address_of_one_receiver(cli: Cli) -> None:
    with flatout.Receiver("0.0.0.0:0", counters=True, queue=100) as receiver:
        port = port_of(receiver)
        receiver.drain()
        for targets in (f"127.0.0.2:{port}", f"127.0.0.1:{port},127.0.0.2:{port}"):
            flags = ("--rate", "5k", "--count", "1k", "--players", "10", "--json", "-", "--quiet")
            outcomes = cli("load", "record", targets, *flags).json["outcomes"]
            assert outcomes["received"] is not None, targets
            assert outcomes["sent"] == outcomes["received"] + outcomes["lost"] + outcomes["invalid"]
            assert outcomes["received"] > 0
