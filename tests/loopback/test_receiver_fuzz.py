"""Receivers under traffic that hypothesis makes: whatever comes, nothing breaks and every account closes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stream_servers import within
from traffic import all_came, sending

import flatout
from flatout.protocols import layout_of

FORMATS = [
    "id:u4 seq:u4 sent:u8 x:f4 y:f4",
    "id:>u2 seq:>u1",
    "movement",
    "seq:u8 kind:u1=7 x:f8",
    "id:u1",
    "sent:f8 seq:<u2 4x id:>u8",
]
SIZES = [layout_of(text).size for text in FORMATS]

datagrams = st.lists(
    st.binary(max_size=60) | st.sampled_from(SIZES).flatmap(lambda size: st.binary(min_size=size, max_size=size))
)
arguments = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(FORMATS),
        "threads": st.integers(1, 2),
        "shared": st.booleans(),
        "gro": st.booleans(),
        "stamps": st.sampled_from(["user", "kernel"]),
        "queue": st.integers(1, 40),
        "full": st.sampled_from(["drop-oldest", "drop-newest", "wait"]),
        "batch": st.integers(1, 50),
        "follow": st.integers(1, 4),
        "counters": st.booleans(),
    }
)


def at_most_one(receiver: flatout.Receiver, seconds: float) -> list[flatout.Batch]:
    batch = receiver.take(seconds)
    return [] if batch is None else [batch]


any_traffic = given(arguments, datagrams, st.integers(1, 8), st.integers(0, 3))


@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@any_traffic
def test_every_account_closes(how: dict[str, Any], sent: list[bytes], together: int, takes: int) -> None:
    check_account(how, sent, together, takes)


@pytest.mark.slow
@settings(max_examples=400, suppress_health_check=list(HealthCheck))
@any_traffic
def test_hundreds_of_accounts_close(how: dict[str, Any], sent: list[bytes], together: int, takes: int) -> None:
    check_account(how, sent, together, takes)


def check_account(how: dict[str, Any], sent: list[bytes], together: int, takes: int) -> None:
    with within(60), flatout.Receiver("127.0.0.1:0", linger=0, **how) as receiver, sending(receiver) as sender:
        size = receiver.dtype.itemsize
        with sending(receiver, size) as coalesced:
            batches: list[flatout.Batch] = []
            for number, datagram in enumerate(sent):
                sender.one(datagram)
                if number % 5 == takes:
                    batches += at_most_one(receiver, 0)
            right = [datagram for datagram in sent if len(datagram) == size]
            for datagram in right:
                coalesced.socket.send(datagram * together)
                coalesced.sent += together
            came = sender.sent + coalesced.sent
            if how["full"] == "wait":
                # Nothing more comes while the queue is full.
                while receiver.stats()["received"] + receiver.stats()["kernel_drops"] < came:
                    batches += at_most_one(receiver, 0.01)
            stats = all_came(receiver, came)
            expected = sum(len(datagram) != size for datagram in sent)
            assert stats["malformed"]["short"] + stats["malformed"]["long"] == expected or stats["kernel_drops"]
        receiver.stop()
        while (batch := receiver.take(0)) is not None:
            batches.append(batch)
        assert receiver.stats()["handed_over"] == sum(map(len, batches))
        for batch in batches:
            assert batch.dtype == receiver.dtype
            assert len(batch) == len(batch.arrived_ns) == len(batch.sender) <= how["batch"]
            raw = np.asarray(batch).view(np.uint8).tobytes()
            assert {raw[at : at + size] for at in range(0, len(raw), size)} <= set(right)
