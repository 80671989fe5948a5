"""Receivers over loopback: what comes out, what is counted, what the queue does, and that every account closes."""

from __future__ import annotations

import array
import itertools
import math
import os
import socket
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from stream_servers import within
from traffic import DTYPE, FORMAT, Sending, all_came, closed, records, sending, taken

import flatout
from conftest import wait_until
from flatout.errors import UsageError


@pytest.fixture(autouse=True)
def _bounded() -> Iterator[None]:
    with within(60):
        yield


def test_what_was_sent_comes_out() -> None:
    made = records(np.arange(300) % 7, np.arange(300) // 7)
    with flatout.Receiver("127.0.0.1:0", DTYPE, idle=20) as receiver, sending(receiver) as sender:
        before = time.time_ns()
        sender.paced(made, receiver)
        batches = taken(receiver, 300)
        assert np.array_equal(np.concatenate(batches), made)
        for batch in batches:
            assert batch.dtype == DTYPE
            assert (before <= batch.arrived_ns).all()
            assert (batch.arrived_ns <= time.time_ns()).all()
            assert set(batch.sender.tolist()) == {0}
            assert batch.worker == 0
        assert receiver.source(0) == sender.name
        assert receiver.source(1) is None
        stats = all_came(receiver, 300)
        assert (stats["handed_over"], stats["senders"], stats["missing"]) == (300, 7, 0)
        assert stats["delay_ns"].count == 300
    assert not receiver.alive


@pytest.mark.parametrize("gro", [True, False])
def test_what_left_as_one_comes_out_as_many(gro: bool) -> None:
    made = records(np.arange(2_000) % 50, np.arange(2_000) // 50)
    with (
        flatout.Receiver("127.0.0.1:0", FORMAT, gro=gro) as receiver,
        sending(receiver, DTYPE.itemsize) as sender,
    ):
        for at in range(0, 2_000, 100):
            sender.together(made[at : at + 100])
            all_came(receiver, sender.sent)
        assert np.array_equal(np.concatenate(taken(receiver, 2_000)), made)
        stats = all_came(receiver, 2_000)
        assert (stats["missing"], stats["senders"], stats["bytes"]) == (0, 50, 48_000)


def test_the_kernels_stamps_are_before_ours() -> None:
    with flatout.Receiver("127.0.0.1:0", stamps="kernel") as receiver, sending(receiver) as sender:
        before = time.time_ns()
        sender.each(records([1], [1]))
        (batch,) = taken(receiver, 1)
        assert before <= batch.arrived_ns[0] <= time.time_ns()


def test_wrong_messages_are_counted_by_what_is_wrong_with_them() -> None:
    layout = "magic:>u2=0xCAFE id:u2 seq:u4"
    right = np.array([(0xCAFE, 1, n) for n in range(5)], [("magic", ">u2"), ("id", "<u2"), ("seq", "<u4")])
    with flatout.Receiver("127.0.0.1:0", layout) as receiver, sending(receiver) as sender:
        sender.each(right[:2])
        for wrong in (b"", b"\xca\xfe", right[2].tobytes() + b"!", bytes(1000), right[2:3].byteswap().tobytes()):
            sender.one(wrong)
        sender.each(right[3:])
        (*_, last) = taken(receiver, 4)
        assert last["seq"][-1] == 4
        stats = all_came(receiver, 9)
        assert stats["malformed"] == {"short": 2, "long": 2, "wrong_constant": 1}
        assert (stats["parsed"], stats["missing"]) == (4, 1)
        assert stats["dropped"] == {"short": 2, "long": 2, "wrong_constant": 1, "queue_full": 0}


def test_numbers_tell_what_is_missing_twice_late_and_begun_again() -> None:
    wrapping = "id:u2 seq:u1"
    made = np.dtype([("id", "<u2"), ("seq", "u1")])
    with flatout.Receiver("127.0.0.1:0", wrapping) as receiver, sending(receiver) as sender:
        reported = {1: [254, 255, 0, 1], 2: [1, 5], 3: [1, 3, 2, 3], 4: [200, 201, 100, 101]}
        for name, numbers in reported.items():
            sender.each(np.array([(name, number) for number in numbers], made))
        stats = all_came(receiver, 14)
        counted = {name: stats[name] for name in ("missing", "reordered", "duplicate", "restarts", "senders")}
        assert counted == {"missing": 3, "reordered": 1, "duplicate": 1, "restarts": 1, "senders": 4}


def test_the_wrong_byte_order_is_seen_by_the_numbers() -> None:
    with flatout.Receiver("127.0.0.1:0", "id:u4 seq:u4", endian="big") as receiver, sending(receiver) as sender:
        sender.each(np.array([(1, n) for n in range(1, 101)], [("id", "<u4"), ("seq", "<u4")]))
        assert all_came(receiver, 100)["restarts"] == 99


@pytest.mark.parametrize(("full", "kept"), [("drop-oldest", range(990, 1000)), ("drop-newest", range(10))])
def test_a_full_queue_drops_by_its_policy_and_counts(full: str, kept: range) -> None:
    with flatout.Receiver("127.0.0.1:0", queue=10, full=full) as receiver, sending(receiver) as sender:  # type: ignore[arg-type]
        sender.paced(records(1, np.arange(1_000)), receiver)
        stats = all_came(receiver, 1_000)
        assert stats["queue"] == {"waiting": 10, "size": 10, "dropped": 990, "policy": full, "waited": 0}
        assert stats["kernel_drops"] == 0
        assert np.concatenate(taken(receiver, 10))["seq"].tolist() == list(kept)
        assert closed(receiver)["handed_over"] == 10


def test_a_receiver_that_waits_leaves_dropping_to_the_kernel() -> None:
    with (
        flatout.Receiver("127.0.0.1:0", queue=10, full="wait", buffer=8192, gro=False) as receiver,
        sending(receiver) as sender,
    ):
        sender.each(records(1, np.arange(3_000)))
        # Nobody takes: the queue and the kernel's buffer are full, and the rest is gone.
        wait_until(lambda: receiver.stats()["queue"]["waited"], message="a wait")
        drops = receiver.stats()["kernel_drops"]
        assert drops > 2_000
        came = np.concatenate(taken(receiver, 3_000 - drops))
        sender.each(records(1, [3_000]))
        taken(receiver, 1)
        stats = all_came(receiver, 3_001)
        assert (stats["queue"]["dropped"], stats["handed_over"]) == (0, len(came) + 1)
        # What the kernel dropped is what the numbers miss, exactly.
        assert stats["missing"] == stats["kernel_drops"] == drops


def test_a_batch_that_is_kept_never_changes() -> None:
    with flatout.Receiver("127.0.0.1:0", queue=1 << 16, linger=0) as receiver, sending(receiver) as sender:
        kept = []
        for part in range(40):
            made = records(part, np.arange(part * 20))
            sender.paced(made, receiver)
            if part:
                kept.append((made, taken(receiver, len(made))))
        receiver.stop()
        del receiver
        for made, batches in kept:
            assert np.array_equal(np.concatenate(batches), made)
            assert all(len(batch.arrived_ns) == len(batch.sender) == len(batch) for batch in batches)


def test_a_million_senders_take_bounded_memory() -> None:
    count, at_once = 1_000_000, 6_000
    with (
        flatout.Receiver("127.0.0.1:0", follow=1000) as receiver,
        sending(receiver, DTYPE.itemsize) as sender,
    ):
        receiver.drain()
        ids = np.arange(count, dtype="u4") * np.uint32(2_654_435_761)
        for at in range(0, count, at_once):
            sender.together(records(ids[at : at + at_once], 1), 60)
            all_came(receiver, sender.sent)
        stats = all_came(receiver, count)
        wait_until(lambda: not receiver.stats()["queue"]["waiting"])
        assert stats["parsed"] == count
        assert stats["untracked"] == count - 1000
        table, blocks = 2 * 1024 * 32 + 8192, 4 * 16_384 * (24 + 12)
        assert stats["memory_bytes"] <= table + blocks


def test_several_threads_share_the_senders() -> None:
    with flatout.Receiver("127.0.0.1:0", threads=2) as receiver:
        senders = [Sending(receiver) for _ in range(32)]
        for name, sender in enumerate(senders):
            sender.each(records(name, np.arange(20)))
            all_came(receiver, 20 * (name + 1))
        batches = taken(receiver, 640)
        stats = all_came(receiver, 640)
        assert (stats["missing"], stats["reordered"], stats["senders"]) == (0, 0, 32)
        assert [worker["parsed"] > 0 for worker in stats["workers"]] == [True, True]
        assert {batch.worker for batch in batches} == {0, 1}
        names = {receiver.source(int(number)) for batch in batches for number in batch.sender}
        assert names == {sender.name for sender in senders}
        for sender in senders:
            sender.socket.close()


def test_several_threads_read_one_socket_and_follow_together() -> None:
    with flatout.Receiver("127.0.0.1:0", threads=2, shared=True, gro=False) as receiver, sending(receiver) as sender:
        numbers = np.arange(3_000)
        sender.paced(records(1, numbers), receiver)
        came = np.concatenate(taken(receiver, 3_000))
        assert np.array_equal(np.sort(came["seq"]), numbers)
        stats = all_came(receiver, 3_000)
        # In whichever order the threads came to them.
        assert (stats["missing"], stats["duplicate"], stats["restarts"], stats["senders"]) == (0, 0, 0, 1)


def test_several_consumers_get_each_record_once() -> None:
    got: list[list[int]] = [[], [], []]

    def consume(into: list[int], receiver: flatout.Receiver) -> None:
        for batch in receiver:
            into.extend(batch["seq"].tolist())

    with flatout.Receiver("127.0.0.1:0", batch=7, linger=0) as receiver, sending(receiver) as sender:
        threads = [threading.Thread(target=consume, args=(into, receiver)) for into in got]
        for thread in threads:
            thread.start()
        sender.paced(records(1, np.arange(2_000)), receiver)
        wait_until(lambda: closed(receiver)["handed_over"] == 2_000)
        receiver.stop()
        for thread in threads:
            thread.join()
    assert sorted(itertools.chain(*got)) == list(range(2_000))


def test_the_engines_own_handler_counts() -> None:
    with flatout.Receiver("127.0.0.1:0") as receiver, sending(receiver) as sender:
        receiver.drain()
        receiver.drain()
        sender.paced(records(1, np.arange(500)), receiver)
        wait_until(lambda: closed(receiver)["handed_over"] == 500)
    assert closed(receiver)["handed_over"] == 500


def test_a_datagram_goes_back_to_those_it_names() -> None:
    with flatout.Receiver("127.0.0.1:0") as receiver, sending(receiver) as one, sending(receiver) as other:
        for sender in (one, other):
            sender.each(records(1, [1]))
        batches = taken(receiver, 2)
        to = np.concatenate([batch.sender for batch in batches])
        assert receiver.send(np.arange(3, dtype="<u2"), to) == 2
        for sender in (one, other):
            sender.socket.settimeout(20)
            assert sender.socket.recv(100) == b"\0\0\1\0\2\0"
        assert receiver.send(b"once", int(to[0])) == 1
        assert receiver.send(b"nobody", [77, 0xFFFFFFFF]) == 0
        assert receiver.send(np.zeros(3, "u4"), []) == 0, "to nobody"


def test_what_may_be_sent_back() -> None:
    layout = np.dtype([("id", "<u4"), ("when", "<M8[ns]"), ("name", "<U2")])
    record = np.zeros(4, layout)
    record["id"], record["name"] = 7, "ab"
    sent = (b"a\0", bytearray(b"b"), memoryview(b"-c-d")[1::2], array.array("H", [1, 2]), [1, 2], np.uint16(5))
    with flatout.Receiver("127.0.0.1:0") as receiver, sending(receiver) as sender:
        sender.each(records(1, [1]))
        (to,) = taken(receiver, 1)[0].sender
        sender.socket.settimeout(20)
        for data in (*sent, record, record[::2], record[1]):
            assert receiver.send(data, to) == 1
            came = sender.socket.recv(100)
            assert came == (bytes(data) if isinstance(data, bytes | bytearray) else np.asarray(data).tobytes())


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (None, "not of NoneType"),
        ({"a": 1}, "not of dict"),
        ([b"a", None], "not of list"),
        (np.array([None]), "not of an array of object"),
        (np.zeros(1, [("id", "u4"), ("what", "O")]), "not of an array of "),
        ("abc", "not of str"),
        (np.array(["abc"]), "not of an array of <U3"),
        ([[1], [1, 2]], "this list makes no array"),
        (np.ma.array([1, 2], mask=[0, 1]), "a masked array"),
        (b"", "0 bytes: a datagram has at least 1"),
        ([], "0 bytes"),
        (bytes(65_508), "65,508 bytes: a datagram has at least 1 and at most 65,507"),
    ],
    ids=str,
)
def test_what_makes_no_datagram_is_not_sent(data: object, why: str) -> None:
    with flatout.Receiver("127.0.0.1:0") as receiver, pytest.raises(UsageError, match=why):
        receiver.send(data, [0])


@pytest.mark.parametrize("to", [None, "0", 1.0, [0.5], -1, 1 << 32, [[0], [1, 2]], True])
def test_what_is_no_number_of_a_sender(to: object) -> None:
    with flatout.Receiver("127.0.0.1:0") as receiver, pytest.raises(UsageError, match="give numbers of senders"):
        receiver.send(b"x", to)


def test_a_wildcard_takes_both_families() -> None:
    with flatout.Receiver("[::]:0") as receiver:
        for host in ("127.0.0.1", "::1"):
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as client:
                client.connect((host, receiver.endpoint.port))
                client.send(records([1], [1]).tobytes())
                client.settimeout(20)
                (batch,) = taken(receiver, 1)
                shown = receiver.source(int(batch.sender[0]))
                port = client.getsockname()[1]
                assert shown == (f"[::1]:{port}" if ":" in host else f"127.0.0.1:{port}")
                assert receiver.send(b"heard", batch.sender) == 1
                assert client.recv(9) == b"heard"


def test_a_port_that_is_taken_is_refused_and_one_that_was_left_is_free() -> None:
    with flatout.Receiver("127.0.0.1:0") as receiver:
        with pytest.raises(UsageError, match="cannot listen on"):
            flatout.Receiver(receiver.address)
        address = receiver.address
    with flatout.Receiver(address) as again:
        assert again.address == address


def test_numbers_may_be_text() -> None:
    texts = {
        "threads": "2",
        "queue": "1k",
        "batch": "1k",
        "follow": "1k",
        "buffer": "64KiB",
        "cpus": str(min(os.sched_getaffinity(0))),
    }
    with flatout.Receiver("127.0.0.1:0", idle="100ms", linger="2ms", **texts) as receiver:  # type: ignore[arg-type]
        assert (receiver.idle, receiver.linger) == (0.1, 0.002)
        assert (receiver.stats()["queue"]["size"], len(receiver.stats()["workers"])) == (1000, 2)
        assert receiver.take("1ms") is None
        assert receiver.take(-1) is None
        for wrong in (math.nan, "x", [1]):
            with pytest.raises(UsageError):
                receiver.take(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"threads": 0}, "threads=0: give a whole number from 1 to 1,024"),
        ({"threads": 1.5}, "threads=1.5"),
        ({"threads": True}, "threads=True"),
        ({"batch": None}, "batch=None"),
        ({"queue": "64kk"}, "number '64kk'"),
        ({"queue": "0"}, "queue='0': give a whole number from 1"),
        ({"follow": "100M"}, "follow='100M'"),
        ({"buffer": -1}, "buffer=-1: give a whole number from 1"),
        ({"buffer": 1 << 31}, "to 2,147,483,647"),
        ({"buffer": 1e6}, "buffer=1000000.0"),
        ({"idle": math.nan}, "idle=nan: give a number of seconds"),
        ({"idle": math.inf}, "idle=inf: give 0 to 31,622,400 s"),
        ({"idle": -1}, "idle=-1: give 0 to"),
        ({"idle": "soon"}, "duration 'soon'"),
        ({"idle": True}, "idle=True: give a number of seconds"),
        ({"linger": "x"}, "duration 'x'"),
        ({"linger": [1]}, r"linger=\[1\]: give a number of seconds"),
        ({"linger": math.nan}, "linger=nan"),
        ({"cpus": [-1]}, "are not among those"),
        ({"cpus": 0}, "cpus=0: give numbers of CPUs"),
        ({"shared": "no"}, "shared='no': give True or False"),
        ({"gro": None}, "gro=None: give True or False"),
        ({"queue": 0}, "queue=0"),
        ({"follow": 0}, "follow=0"),
        ({"full": "drop"}, "give one of drop-oldest, drop-newest, wait"),
        ({"stamps": "both"}, "give one of user, kernel"),
        ({"dtype": "id:u3"}, "u3"),
        ({"listen": "nowhere"}, "listen address"),
        ({"buffer": "much"}, "size 'much'"),
    ],
)
def test_bad_use_is_said(arguments: dict[str, object], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        flatout.Receiver(**{"listen": "127.0.0.1:0", **arguments})  # type: ignore[arg-type]
