"""Records as tests send them: from plain sockets, one or many a datagram call, and an account that must close."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

import flatout
from conftest import wait_until

FORMAT = "id:u4 seq:u4 sent:u8 x:f4 y:f4"
DTYPE = np.dtype([("id", "<u4"), ("seq", "<u4"), ("sent", "<u8"), ("x", "<f4"), ("y", "<f4")])
_UDP_SEGMENT = 103


def records(ids: Any, seqs: Any, sent: int | None = None) -> np.ndarray[Any, Any]:
    """Records of these senders with these numbers, sent now."""
    ids, seqs = np.broadcast_arrays(ids, seqs)
    made = np.zeros(len(ids), DTYPE)
    made["id"], made["seq"] = ids, seqs
    made["sent"] = time.time_ns() if sent is None else sent
    made["x"] = seqs
    return made


class Sending:
    """A socket that sends to a receiver."""

    def __init__(self, receiver: flatout.Receiver, segment: int | None = None) -> None:
        family = socket.AF_INET6 if receiver.endpoint.address.version == 6 else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        if segment is not None:
            self.socket.setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, segment)
        self.socket.connect((str(receiver.endpoint.address), receiver.endpoint.port))
        self.sent = 0

    @property
    def name(self) -> str:
        host, port = self.socket.getsockname()[:2]
        return f"{host}:{port}"

    def one(self, datagram: bytes) -> None:
        self.socket.send(datagram)
        self.sent += 1

    def each(self, made: np.ndarray[Any, Any]) -> None:
        """Each record its own datagram."""
        for record in made:
            self.one(record.tobytes())

    def paced(self, made: np.ndarray[Any, Any], receiver: flatout.Receiver) -> None:
        """The same, never more under way than the smallest socket buffer holds."""
        for at in range(0, len(made), 100):
            self.each(made[at : at + 100])
            all_came(receiver, self.sent)

    def together(self, made: np.ndarray[Any, Any], at_once: int = 50) -> None:
        """So many records a call, cut apart by the kernel."""
        for at in range(0, len(made), at_once):
            part = made[at : at + at_once]
            self.socket.send(part.tobytes())
            self.sent += len(part)


@contextlib.contextmanager
def sending(receiver: flatout.Receiver, segment: int | None = None) -> Iterator[Sending]:
    """A socket that sends there."""
    one = Sending(receiver, segment)
    with one.socket:
        yield one


def closed(receiver: flatout.Receiver) -> dict[str, Any]:
    """The counters, after their laws were checked."""
    stats = receiver.stats()
    queue = stats["queue"]
    assert stats["received"] == stats["parsed"] + sum(stats["malformed"].values()), stats
    assert stats["parsed"] == stats["handed_over"] + queue["dropped"] + queue["waiting"], stats
    assert queue["waiting"] <= queue["size"], stats
    return stats


def all_came(receiver: flatout.Receiver, sent: int) -> dict[str, Any]:
    """Waits until the account of `sent` datagrams closes."""

    def came() -> bool:
        stats = closed(receiver)
        return bool(stats["received"] + stats["kernel_drops"] >= sent)

    wait_until(came, message=f"{sent} datagrams")
    stats = closed(receiver)
    assert stats["received"] + stats["kernel_drops"] == sent, stats
    return stats


def taken(receiver: flatout.Receiver, count: int) -> list[flatout.Batch]:
    """Batches until `count` records have come."""
    batches: list[flatout.Batch] = []
    while sum(map(len, batches)) < count:
        batch = receiver.take(20)
        assert batch is not None, f"only {sum(map(len, batches))} of {count} came"
        batches.append(batch)
    return batches
