"""`flatout.Sender`: arrays out, each record a datagram."""

from __future__ import annotations

import socket
import threading
from typing import Any

import numpy as np
import pytest

import flatout
from conftest import free_port

DTYPE = np.dtype([("id", "<u4"), ("seq", "<u4"), ("value", ">f8")])


@pytest.fixture
def far_end() -> Any:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiving:
        receiving.bind(("127.0.0.1", 0))
        receiving.settimeout(10)
        yield receiving


def address(far_end: socket.socket) -> str:
    return f"127.0.0.1:{far_end.getsockname()[1]}"


def records(count: int) -> np.ndarray[Any, Any]:
    made = np.zeros(count, DTYPE)
    made["seq"], made["value"] = np.arange(count), np.linspace(-1, 1, count)
    return made


@pytest.mark.parametrize("gso", [None, False])
def test_records_arrive_as_they_are(far_end: socket.socket, gso: bool | None) -> None:
    sent = records(150)
    with flatout.Sender(address(far_end), DTYPE, gso=gso) as sender:
        assert sender.send(sent) == 150
        assert (sender.sent, sender.refused, sender.dropped, sender.dtype) == (150, 0, 0, DTYPE)
    came = [far_end.recv(2048) for _ in range(150)]
    assert {len(datagram) for datagram in came} == {16}
    assert (np.frombuffer(b"".join(came), DTYPE) == sent).all()
    assert sender.sent == 150, "counters stay after closing"


def test_parts_of_arrays_and_more_dimensions(far_end: socket.socket) -> None:
    sent = records(64)
    sent.flags.writeable = False
    with flatout.Sender(address(far_end), "id:u4 seq:u4 value:>f8") as sender:
        assert sender.send(sent[10:20]) == 10
        assert sender.send(sent.reshape(8, 8)) == 64
        assert sender.send(sent[:0]) == 0
    came = np.frombuffer(b"".join(far_end.recv(2048) for _ in range(74)), DTYPE)
    assert (came == np.concatenate([sent[10:20], sent])).all()


def test_arrays_that_it_does_not_take(far_end: socket.socket) -> None:
    with flatout.Sender(address(far_end), DTYPE) as sender:
        for wrong in (np.zeros(3, "u4"), records(4).astype(DTYPE.newbyteorder()), [1, 2], b"abcd"):
            with pytest.raises(flatout.UsageError, match="takes arrays of"):
                sender.send(wrong)  # type: ignore[arg-type]
        with pytest.raises(flatout.UsageError, match="ascontiguousarray"):
            sender.send(records(10)[::2])
        for masked in (np.ma.array(records(3)), np.ma.array(records(3), mask=[0, 1, 0])):
            with pytest.raises(flatout.UsageError, match="a masked array"):
                sender.send(masked)
        assert sender.sent == 0
    with pytest.raises(flatout.UsageError, match="closed"):
        sender.send(records(1))
    sender.close()


def test_nobody_listening_is_counted_not_raised() -> None:
    with flatout.Sender(f"127.0.0.1:{free_port()}", DTYPE, gso=False) as sender:
        assert sender.send(records(20)) == 20
        assert sender.refused == 20


def test_flows_are_sources_of_their_own(far_end: socket.socket) -> None:
    with flatout.Sender(address(far_end), DTYPE, flows=3, sources=["127.0.0.0/29"]) as sender:
        sender.send(records(192))
    came = [far_end.recvfrom(2048)[1] for _ in range(192)]
    assert {source[0] for source in came} == {"127.0.0.1", "127.0.0.2", "127.0.0.3"}
    assert len(set(came[:64])) == 1


def test_threads_take_turns() -> None:
    with (
        flatout.Receiver("127.0.0.1:0", DTYPE, queue=1 << 16) as receiver,
        flatout.Sender(receiver.address, DTYPE) as sender,
    ):
        mine = [threading.Thread(target=lambda: sender.send(records(1000))) for _ in range(4)]
        for thread in mine:
            thread.start()
        for thread in mine:
            thread.join()
        assert sender.sent == 4000
        taken = 0
        while (batch := receiver.take(1.0)) is not None:
            taken += len(batch)
        assert taken + receiver.stats()["kernel_drops"] == 4000


@pytest.mark.parametrize(
    ("target", "options", "word"),
    [
        ("127.0.0.1:5", {"flows": 0}, "flows=0"),
        ("127.0.0.1:5", {"flows": None}, "flows=None"),
        ("8.8.8.8:5", {}, "public"),
        ("127.0.0.1:5", {"sources": ["nonsense"]}, "sources"),
        ("127.0.0.1:", {}, "target"),
    ],
)
def test_senders_that_make_no_sense(target: str, options: dict[str, Any], word: str) -> None:
    with pytest.raises(flatout.UsageError, match=word):
        flatout.Sender(target, DTYPE, **options)


def test_sources_that_are_not_ours() -> None:
    with pytest.raises(flatout.FlatoutError):
        flatout.Sender("127.0.0.1:5", DTYPE, sources=["10.255.255.254"])
