"""How iterating over a receiver waits and ends: in threads and event loops, by silence, stop, errors and Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest
from stream_servers import within
from traffic import Sending, all_came, closed, records, sending, taken

import flatout


@pytest.fixture(autouse=True)
def _bounded() -> Iterator[None]:
    with within(60):
        yield


# --- Threads ---


def test_silence_ends_an_iteration_and_another_may_follow() -> None:
    with flatout.Receiver("127.0.0.1:0", idle=0.05) as receiver, sending(receiver) as sender:
        assert list(receiver) == []
        sender.each(records(1, [1, 2]))
        assert sum(map(len, receiver)) == 2
        assert receiver.alive


def test_a_stop_from_another_thread_ends_what_waits() -> None:
    receiver = flatout.Receiver("127.0.0.1:0")
    waiting = [threading.Thread(target=list, args=(receiver,)), threading.Thread(target=receiver.take)]
    for thread in waiting:
        thread.start()
    receiver.stop()
    receiver.stop()
    for thread in waiting:
        thread.join()
    assert not receiver.alive


def test_what_had_arrived_outlives_a_stop() -> None:
    with flatout.Receiver("127.0.0.1:0") as receiver, sending(receiver) as sender:
        sender.each(records(1, np.arange(50)))
        all_came(receiver, 50)
    assert list(receiver) == []
    assert closed(receiver)["queue"]["waiting"] == 50
    batch = receiver.take(0)
    assert batch is not None
    assert batch["seq"].tolist() == list(range(50))
    assert receiver.take() is None
    assert closed(receiver)["handed_over"] == 50
    assert receiver.send(b"late", batch.sender) == 0, "its socket is gone"


def test_nothing_within_the_time_is_none() -> None:
    with flatout.Receiver("127.0.0.1:0") as receiver:
        began = time.monotonic()
        assert receiver.take(0) is None
        assert receiver.take(0.15) is None
        assert time.monotonic() - began >= 0.15


def divide(receiver: flatout.Receiver) -> None:
    for batch in receiver:
        assert len(batch) / 0


def test_a_consumer_that_raises_leaves_the_receiver_running() -> None:
    with flatout.Receiver("127.0.0.1:0") as receiver, sending(receiver) as sender:
        sender.each(records(1, [1]))
        with pytest.raises(ZeroDivisionError):
            divide(receiver)
        assert receiver.alive
        sender.each(records(1, [2]))
        (batch,) = taken(receiver, 1)
        assert batch["seq"][0] == 2


def test_a_consumer_that_disappears_leaves_the_rest_to_the_others() -> None:
    with flatout.Receiver("127.0.0.1:0", batch=1, linger=0) as receiver, sending(receiver) as sender:
        gone = iter(receiver)
        sender.each(records(1, np.arange(10)))
        next(gone)
        del gone
        assert np.concatenate(taken(receiver, 9))["seq"].tolist() == list(range(1, 10))


def test_ctrl_c_works_while_nothing_comes() -> None:
    program = (
        "import flatout\n"
        "with flatout.Receiver('127.0.0.1:0') as receiver:\n"
        "    try:\n"
        "        print('ready', flush=True)\n"
        "        for batch in receiver: pass\n"
        "    except KeyboardInterrupt:\n"
        "        print('interrupted', receiver.alive)\n"
        "print('stopped', receiver.alive)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGINT)
        assert child.communicate(timeout=30)[0] == "interrupted True\nstopped False\n"
        assert child.returncode == 0


def test_a_signals_handler_may_stop_it() -> None:
    with flatout.Receiver("127.0.0.1:0") as receiver:
        before = signal.signal(signal.SIGUSR1, lambda *_: receiver.stop())
        try:
            thread = threading.Timer(0.05, signal.raise_signal, (signal.SIGUSR1,))
            thread.start()
            assert list(receiver) == []
            thread.join()
        finally:
            signal.signal(signal.SIGUSR1, before)


# --- Event loops ---


async def received(receiver: flatout.Receiver, into: list[int]) -> None:
    async for batch in receiver:
        into.extend(batch["seq"].tolist())


async def until(what: object) -> None:
    assert callable(what)
    while not what():
        await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def ticking() -> AsyncIterator[list[float]]:
    """Notes when the event loop was free."""
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            ticks.append(time.monotonic())
            await asyncio.sleep(0.001)

    task = asyncio.create_task(tick())
    yield ticks
    task.cancel()


def test_an_event_loop_goes_on_while_it_receives() -> None:
    async def main() -> None:
        got: list[int] = []
        with flatout.Receiver("127.0.0.1:0") as receiver, sending(receiver) as sender:
            async with ticking() as ticks:
                task = asyncio.create_task(received(receiver, got))
                for n in range(20):
                    sender.each(records(1, np.arange(n * 10, n * 10 + 10)))
                    await until(lambda n=n: len(got) == n * 10 + 10)
                receiver.stop()
                await task
            assert got == list(range(200))
            assert len(ticks) >= 20

    asyncio.run(main())


def test_several_tasks_and_a_thread_share_the_batches() -> None:
    async def main() -> None:
        got: list[list[int]] = [[], [], []]
        with flatout.Receiver("127.0.0.1:0", batch=3, linger=0) as receiver, sending(receiver) as sender:
            tasks = [asyncio.create_task(received(receiver, into)) for into in got[:2]]
            thread = threading.Thread(target=lambda: [got[2].extend(batch["seq"].tolist()) for batch in receiver])
            thread.start()
            for n in range(50):
                sender.each(records(1, np.arange(n * 10, n * 10 + 10)))
                await until(lambda n=n: sum(map(len, got)) == n * 10 + 10)
            # One that goes leaves the others their calls.
            tasks[0].cancel()
            sender.each(records(1, np.arange(500, 600)))
            await until(lambda: sum(map(len, got)) == 600)
            await asyncio.to_thread(receiver.stop)
            await asyncio.gather(*tasks, return_exceptions=True)
            thread.join()
        assert sorted(itertools.chain(*got)) == list(range(600))

    asyncio.run(main())


def test_silence_ends_an_asynchronous_iteration() -> None:
    async def main() -> None:
        got: list[int] = []
        with flatout.Receiver("127.0.0.1:0", idle=0.05) as receiver, sending(receiver) as sender:
            await received(receiver, got)
            sender.each(records(1, [7]))
            await received(receiver, got)
        assert got == [7]

    asyncio.run(main())


def test_breaking_off_an_asynchronous_iteration_leaves_nothing_behind() -> None:
    async def main() -> None:
        with flatout.Receiver("127.0.0.1:0") as receiver, sending(receiver) as sender:
            for n in range(50):
                sender.each(records(1, [n]))
                batches = aiter(receiver)
                assert (await anext(batches))["seq"].tolist() == [n]
                await batches.aclose()  # type: ignore[attr-defined]

    before = len(list(_descriptors()))
    asyncio.run(main())
    assert len(list(_descriptors())) <= before


def _descriptors() -> Iterator[str]:
    import os

    yield from os.listdir("/proc/self/fd")


# --- Counters for those who send ---

_HEAD = struct.Struct("<8sBB6xQ")
_LENGTH = 24 + 8 + 8 + 19 * 8


def asked(sender: Sending, reset_sequences: bool = False, nonce: int = 7) -> tuple[int, ...] | None:
    """Which receiver tells, where it reads sender and number, and its counters; None where it does not."""
    sender.socket.settimeout(0.3)
    for _ in range(20):
        sender.socket.send(_HEAD.pack(b"flatout?", 2, reset_sequences, nonce).ljust(_LENGTH, b"\0"))
        with contextlib.suppress(TimeoutError):
            answer = sender.socket.recv(2048)
            assert len(answer) == _LENGTH, "an answer is as long as its question"
            assert _HEAD.unpack(answer[:24]) == (b"flatout!", 2, reset_sequences, nonce)
            return struct.unpack("<21Q", answer[24:])
    return None


def test_the_counters_are_told_to_those_who_ask_and_questions_are_not_counted() -> None:
    with flatout.Receiver("127.0.0.1:0", counters=True, threads=2) as receiver, sending(receiver) as sender:
        sender.each(records(1, [0, 1, 5]))
        sender.one(b"wrong")
        all_came(receiver, 4)
        reported = asked(sender)
        assert reported is not None
        _, places, received, parsed, malformed, duplicate, reordered, missing = reported[:8]
        assert places == 4 << 16 | (4 << 16 | 4) << 32, "4 bytes at 0, 4 bytes at 4"
        assert (received, parsed, malformed, duplicate, reordered, missing) == (4, 3, 1, 0, 0, 3)
        assert reported[-3:] == (2, 24, 32), "workers, size, bits of a number"
        assert all_came(receiver, 4)["received"] == 4


def test_numbers_begin_anew_when_a_sender_asks_for_it() -> None:
    with flatout.Receiver("127.0.0.1:0", counters=True) as receiver, sending(receiver) as sender:
        sender.each(records(1, [5000, 5001]))
        all_came(receiver, 2)
        assert asked(sender, reset_sequences=True)
        sender.each(records(1, [0, 1]))
        stats = all_came(receiver, 4)
        assert (stats["restarts"], stats["duplicate"], stats["missing"]) == (0, 0, 0)


def test_counters_are_told_to_nobody_unless_that_is_wanted() -> None:
    with flatout.Receiver("127.0.0.1:0") as receiver, sending(receiver) as sender:
        sender.one(_HEAD.pack(b"flatout?", 2, 0, 7).ljust(_LENGTH, b"\0"))
        sender.one(b"a message after it")
        stats = all_came(receiver, 2)
        assert (stats["malformed"]["short"], stats["malformed"]["long"]) == (1, 1), "a question is a message then"
        sender.socket.settimeout(0.05)
        with pytest.raises(TimeoutError):
            sender.socket.recv(2048)
