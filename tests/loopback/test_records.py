"""Loads of messages that nobody answers, against receivers that count and sockets that do not."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import flatout
from conftest import free_port, until_good
from flatout.protocols import layout_of

LAYOUT = layout_of(None)


@contextmanager
def receiving(listen: str = "127.0.0.1:0", *arguments: Any, **options: Any) -> Iterator[flatout.Receiver]:
    """A receiver that counts, and a thread that takes all it gets."""
    with flatout.Receiver(listen, *arguments, counters=True, **options) as receiver:

        def take_all() -> None:
            for _ in receiver:
                pass

        taker = threading.Thread(target=take_all)
        taker.start()
        try:
            yield receiver
        finally:
            receiver.stop()
            taker.join()


class Plain:
    """A socket that keeps what comes and answers nothing."""

    def __init__(self, family: int = socket.AF_INET) -> None:
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self.socket.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        self.socket.settimeout(0.1)
        self.address = f"{'[::1]' if family == socket.AF_INET6 else '127.0.0.1'}:{self.socket.getsockname()[1]}"
        self.came: list[tuple[bytes, Any]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def _receive(self) -> None:
        while True:
            try:
                self.came.append(self.socket.recvfrom(2048))
            except TimeoutError:
                if self._over.is_set():
                    return

    def records(self, dtype: np.dtype[Any], questions_bytes: int = 192) -> tuple[np.ndarray[Any, Any], list[Any]]:
        """What came in all, but for questions, and from where."""
        self._over.set()
        self._thread.join()
        self.socket.close()
        came = [(data, source) for data, source in self.came if len(data) != questions_bytes]
        return np.frombuffer(b"".join(data for data, _ in came), dtype), [source for _, source in came]


def check(run: flatout.LoadResult) -> None:
    """The account closes, over all and in the receiver's own words."""
    outcomes, receiver = run.outcomes, run.receiver
    said = f"{run.verdict}: {run.why} {outcomes} {receiver} {run.warnings}"
    assert outcomes.received is not None, said
    assert receiver is not None, said
    assert outcomes.planned == outcomes.sent + outcomes.unsent, said
    assert outcomes.sent == outcomes.received + outcomes.lost + outcomes.invalid, said
    assert (outcomes.answered, outcomes.late, outcomes.refused) == (0, 0, 0), said
    assert run.loss == pytest.approx((outcomes.sent - outcomes.received) / outcomes.sent), said
    assert receiver.received == receiver.parsed + receiver.malformed, said
    assert receiver.parsed == receiver.handed_over + receiver.dropped + receiver.queued, said
    assert receiver.lost_in_kernel + receiver.lost_elsewhere == outcomes.lost, said
    assert (run.latency_ns.from_due, run.latency_ns.from_sent) == (None, None), said
    received = [second.received for second in run.intervals]
    assert sum(number or 0 for number in received) == receiver.received, f"{received} {said}"


@pytest.mark.parametrize(("threads", "gso"), [(1, False), (2, True)])
def test_what_arrives_is_told_by_the_receiver(threads: int, gso: bool) -> None:
    with receiving(threads=threads) as receiver:
        run = flatout.load(
            "record", receiver.address, senders=100, tick=100, count=10_000, flows=10, threads=threads, gso=gso
        )
        check(run)
        assert run.outcomes.planned == 10_000
        assert run.receiver is not None
        assert run.receiver.missing == run.outcomes.lost, "numbers are given to what leaves"
        assert (run.receiver.senders, run.receiver.duplicate, run.receiver.restarts) == (100, 0, 0)
        delay = receiver.stats()["delay_ns"]
        assert 0 < delay.count <= run.outcomes.received
        again = flatout.load("record", receiver.address, rate="5k", duration=0.2, senders=100)
        check(again)
        assert again.receiver is not None
        assert (again.receiver.duplicate, again.receiver.restarts) == (0, 0), "numbers begin anew with each run"


def test_what_the_receivers_socket_drops_is_told_from_the_rest() -> None:
    """A receiver that waits for a handler that never comes: the socket's buffer fills, and the kernel drops."""
    with flatout.Receiver("127.0.0.1:0", counters=True, queue=64, full="wait", buffer=8192) as receiver:
        stop = threading.Event()

        def take_late() -> None:
            stop.wait(1.0)
            for _ in receiver:
                pass

        taker = threading.Thread(target=take_late)
        taker.start()
        try:
            run = flatout.load("record", receiver.address, rate="5k", duration=0.5)
        finally:
            stop.set()
            receiver.stop()
            taker.join()
        check(run)
        assert run.receiver is not None
        assert run.outcomes.lost > 0
        assert run.receiver.lost_in_kernel == run.outcomes.lost
        assert run.receiver.kernel_drops >= run.outcomes.lost, "questions in mid-run are dropped like messages"
        assert run.receiver.missing <= run.outcomes.lost, "what is lost at the end leaves no gap behind it"


def test_what_its_queue_drops_has_arrived() -> None:
    with flatout.Receiver("127.0.0.1:0", counters=True, queue=100, full="drop-newest") as receiver:
        run = flatout.load("record", receiver.address, rate="5k", duration=0.5)
        check(run)
        assert run.receiver is not None
        assert (run.receiver.handed_over, run.receiver.queued) == (0, 100)
        assert run.receiver.dropped == run.receiver.parsed - 100


@pytest.mark.parametrize("gso", [False, True])
def test_senders_number_their_messages_over_one_flow_each(gso: bool) -> None:
    far_end = Plain()
    run = flatout.load("record", far_end.address, rate="20k", duration=0.5, senders=12, flows=4, gso=gso)
    records, sources = far_end.records(LAYOUT.dtype)
    assert len(records) == run.outcomes.sent
    for sender in range(12):
        mine = records["id"] == sender
        assert (records["seq"][mine] == np.arange(mine.sum())).all()
        assert len({source for source, is_mine in zip(sources, mine, strict=True) if is_mine}) == 1
    assert len(set(sources)) == 4
    assert (np.diff(records["sent"].astype("i8")) >= 0).all()
    assert (run.loss, run.receiver) == (None, None)
    assert "loss is unknown" in run.notes[0]


def test_messages_that_name_no_sender_are_numbered_by_flow() -> None:
    far_end = Plain()
    text = "seq:u2 sent_at:f8@sent"
    flatout.load(
        "record",
        far_end.address,
        rate="5k",
        duration=0.2,
        senders=5,
        flows=5,
        options={"format": text, "endian": "big"},
    )
    records, sources = far_end.records(layout_of(text, "big").dtype)
    flows = sorted(set(sources))
    assert len(flows) == 5
    for flow in flows:
        numbers = records["seq"][[source == flow for source in sources]]
        assert (numbers == np.arange(len(numbers))).all()


def test_several_targets_are_served_in_turn_over_either_family() -> None:
    one, other = Plain(socket.AF_INET6), Plain(socket.AF_INET6)
    run = flatout.load("record", f"{one.address},{other.address}", rate="2k", count=1000, senders=2)
    first, _ = one.records(LAYOUT.dtype)
    second, _ = other.records(LAYOUT.dtype)
    assert len(first) + len(second) == run.outcomes.sent
    assert len(first) == pytest.approx(len(second), abs=1 + run.outcomes.unsent)


def test_two_receivers_are_added_up() -> None:
    with receiving() as one, receiving() as other:
        run = flatout.load("record", f"{one.address},{other.address}", rate="5k", duration=0.5, threads=2)
        check(run)
        assert len(run.readings) == 2
        assert run.receiver is not None
        assert run.receiver.workers == 2


@contextmanager
def another_address(receiver: flatout.Receiver) -> Iterator[str]:
    """Passes on to a receiver what comes here, and its answers back to whoever asked last."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there,
    ):
        here.bind(("127.0.0.1", 0))
        there.connect(("127.0.0.1", receiver.endpoint.port))
        over = threading.Event()

        def relay() -> None:
            asker: Any = None
            while not over.is_set():
                for ready in select.select([here, there], [], [], 0.05)[0]:
                    data, source = ready.recvfrom(2048)
                    if ready is there:
                        here.sendto(data, asker)
                        continue
                    asker = source if data.startswith(b"flatout?") else asker
                    there.send(data)

        relaying = threading.Thread(target=relay)
        relaying.start()
        try:
            yield f"127.0.0.1:{here.getsockname()[1]}"
        finally:
            over.set()
            relaying.join()


def test_one_receiver_at_two_addresses_is_counted_once() -> None:
    with receiving() as receiver, another_address(receiver) as other:
        run = flatout.load("record", f"{receiver.address},{other}", rate="1k", duration=0.5)
        check(run)
        assert len(run.readings) == 2
        assert run.receiver is not None
        assert (run.receiver.workers, run.warnings) == (1, [])
        assert run.receiver.received == receiver.stats()["received"]


def test_a_receiver_that_is_started_anew_in_mid_run_is_noticed() -> None:
    def attempt() -> flatout.LoadResult:
        with contextlib.ExitStack() as receivers:
            running = [receivers.enter_context(flatout.Receiver("127.0.0.1:0", counters=True))]

            def start_anew(progress: flatout.RunProgress) -> None:
                if progress.t_s > 0.3 and len(running) == 1:
                    running[0].stop()
                    running.append(receivers.enter_context(flatout.Receiver(running[0].address, counters=True)))

            return flatout.load("record", running[0].address, rate="1k", duration=1.5, progress=start_anew)

    # Where the second takes long to start, the run ends because nobody listens.
    run = until_good(attempt, lambda run: "refuses" not in run.why)
    assert run.verdict == "target-lost", run.why
    assert "was restarted during the run" in run.why
    assert (run.loss, run.outcomes.received, run.receiver) == (None, None, None)


def test_senders_at_a_tick_send_together() -> None:
    """Half of the tick is quiet: only the order of arrival and the time in each message are looked at."""

    def attempt() -> tuple[int, np.ndarray[Any, Any]]:
        far_end = Plain()
        run = flatout.load("record", far_end.address, senders=20, tick=10, spread=0.2, count=200)
        records, _ = far_end.records(LAYOUT.dtype)
        return run.outcomes.unsent, records

    unsent, records = until_good(attempt, lambda pair: pair[0] == 0)
    assert unsent == 0, "this machine is too busy to say anything"
    assert (records["id"] == np.arange(200) % 20).all()
    sent = records["sent"].astype("i8").reshape(10, 20)
    quiet = sent[1:, 0] - sent[:-1, 19]
    assert (quiet > 70_000_000).all(), "80 ms of each tick of 100 ms"


def test_others_who_send_to_the_same_receiver_are_named() -> None:
    with receiving() as receiver, flatout.Sender(receiver.address) as stranger:
        records = np.zeros(500, LAYOUT.dtype)
        records["id"] = 1 << 30
        records["seq"] = np.arange(500)
        sent = threading.Event()

        def disturb(progress: flatout.RunProgress) -> None:
            if progress.phase == "running" and not sent.is_set():
                sent.set()
                assert stranger.send(records) == 500

        run = flatout.load("record", receiver.address, rate="2k", duration=0.5, progress=disturb)
        assert run.outcomes.received == run.outcomes.sent - run.outcomes.lost - run.outcomes.invalid
        assert any("the receiver has other senders" in warning for warning in run.warnings)
        assert run.loss == 0.0


@pytest.mark.parametrize("sent", ["seq:u4 20x", "id:u1 seq:u1 22x", "seq:u4 id:u4 16x", "id:>u4 seq:u4 16x"])
def test_a_receiver_that_reads_other_places_is_refused(sent: str) -> None:
    with receiving() as receiver:
        with pytest.raises(flatout.UsageError, match="looks for sender and sequence number elsewhere"):
            flatout.load("record", receiver.address, rate=1000, senders=10, flows=10, options={"format": sent})
        assert receiver.stats()["received"] == 0
    with receiving("127.0.0.1:0", "24x") as receiver:
        run = flatout.load("record", receiver.address, count=20, rate=1000, options={"format": "id:u4 seq:u4 16x"})
        assert run.outcomes.received == run.outcomes.sent, "who follows no numbers takes them all alike"


def test_what_can_never_arrive_is_said_before_anything_is_sent() -> None:
    with pytest.raises(flatout.TargetError, match="no receiver listens"):
        flatout.load("record", f"127.0.0.1:{free_port()}", rate=1000)
    with receiving("127.0.0.1:0", "id:u4 seq:u4") as receiver:
        with pytest.raises(flatout.UsageError, match="messages of 8 bytes, and these have 24"):
            flatout.load("record", receiver.address, rate=1000)
        assert receiver.stats()["received"] == 0
    with (
        receiving("127.0.0.1:0", "id:u1 seq:u4") as receiver,
        pytest.raises(flatout.UsageError, match="no more than 256"),
    ):
        flatout.load("record", receiver.address, rate=1000, senders=257, options={"format": "id:u1 seq:u4"})


def test_a_receiver_that_dies_is_a_lost_target() -> None:
    with receiving() as receiver:

        def stop(progress: flatout.RunProgress) -> None:
            if progress.t_s > 0.5:
                receiver.stop()

        run = flatout.load("record", receiver.address, rate="5k", duration=10, progress=stop)
    assert run.verdict == "target-lost"
    assert run.duration_s < 5


def test_rows_are_sent_in_turn(tmp_path: Any) -> None:
    rows = np.zeros(3, LAYOUT.dtype)
    rows["x"], rows["y"] = [1.5, 2.5, 3.5], [-1, -2, -3]
    np.save(tmp_path / "rows.npy", rows)
    far_end = Plain()
    flatout.load("record", far_end.address, rate="1k", count=30, options={"values": str(tmp_path / "rows.npy")})
    records, _ = far_end.records(LAYOUT.dtype)
    assert set(zip(records["x"].tolist(), records["y"].tolist(), strict=True)) == {(1.5, -1), (2.5, -2), (3.5, -3)}


def test_each_message_can_be_logged(tmp_path: Any) -> None:
    with receiving() as receiver:
        log = tmp_path / "log.csv"
        run = flatout.load("record", receiver.address, rate="1k", count=300, log=str(log))
    rows = log.read_text().splitlines()[1:]
    assert sum(",sent," in row for row in rows) == run.outcomes.sent
    assert sum(",unsent," in row for row in rows) == run.outcomes.unsent


def test_the_seeds_message_is_the_same_from_all_senders() -> None:
    far_end = Plain()
    run = flatout.load("record", far_end.address, rate="5k", count=500, senders=8, options={"format": "movement"})
    assert [data for data, _ in far_end.came if len(data) == 4] == [b"\7\0\0\0"] * run.outcomes.sent
    records, sources = far_end.records(np.dtype("<u4"))
    assert (len(records), len(set(sources))) == (run.outcomes.sent, 8)


def test_requests_that_are_answered_carry_their_time_too() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(0.1)
        came: list[bytes] = []

        def answer() -> None:
            while not over.is_set():
                try:
                    data, source = server.recvfrom(2048)
                except TimeoutError:
                    continue
                came.append(data)
                server.sendto(data, source)

        over = threading.Event()
        thread = threading.Thread(target=answer)
        thread.start()
        began_ns = time.time_ns()
        text = "id:u4 seq:u4 sent:u8"
        address = f"127.0.0.1:{server.getsockname()[1]}"
        run = flatout.load("record", address, rate=500, count=200, warmup=0, options={"format": text, "reply": text})
        over.set()
        thread.join()
    assert run.outcomes.answered + run.outcomes.late == run.outcomes.sent
    assert (run.outcomes.received, run.receiver, run.readings) == (None, None, [])
    assert run.latency_ns.from_due is not None
    sent = np.frombuffer(b"".join(came), layout_of(text).dtype)["sent"].astype("i8")
    assert ((sent > began_ns - 10**9) & (sent < time.time_ns() + 10**9)).all()
    assert (np.diff(sent) > 0).all()
