"""How a receiver waits: never long without hearing signals, never longer than told. The engine and time are fakes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import flatout
from flatout.errors import GeneratorError, UsageError

STEP_S = 0.1
# Sums of decimal fractions are not exact.
EXACT_S = 1e-8


class Clock:
    """Time that passes only where somebody waits."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


class Engine:
    """Stands for the engine: messages arrive at set times. Notes how long each call took at most."""

    def __init__(self, clock: Clock, arrivals: list[float]) -> None:
        self.clock, self.arrivals = clock, [clock.now + after for after in arrivals]
        self.longest = 0.0
        self.bell = os.eventfd(0, os.EFD_NONBLOCK)
        self.waiting: list[int] = []
        self.looks = 0
        self.failures: list[str] = []

    def take(self, most: int, wait_s: float, linger_s: float) -> Any:
        assert most >= 1
        assert min(wait_s, linger_s) >= 0
        self.longest = max(self.longest, wait_s + linger_s)
        first = self.arrivals[0] if self.arrivals else np.inf
        if first > self.clock.now + wait_s:
            self.clock.now += max(wait_s, 1e-9)
            return None
        self.clock.now = max(self.clock.now, first) + linger_s
        self.arrivals = [at for at in self.arrivals if at > self.clock.now]
        return np.zeros(4, "u1"), np.zeros(1, "u8"), np.zeros(1, "u4"), 0

    def fileno(self) -> int:
        return self.bell

    def arm(self) -> bool:
        os.eventfd_write(self.bell, 1)
        return True

    def received(self) -> list[dict[str, int]]:
        self.looks += 1
        return [{"queued": queued} for queued in self.waiting]

    def stop(self) -> None:
        self.clock.now += 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("flatout.receiver.receiver.time", clock)
    monkeypatch.setattr("flatout.server.base.time", clock)
    return clock


@pytest.fixture
def engines(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    made: list[Engine] = []

    def with_arrivals(*after: float, **options: Any) -> tuple[flatout.Receiver, Engine]:
        made.append(Engine(clock, list(after)))
        monkeypatch.setattr("flatout.receiver.receiver.bound", lambda *_, **__: made[-1])
        return flatout.Receiver("127.0.0.1:0", "id:u4", **options), made[-1]

    yield with_arrivals
    for engine in made:
        os.close(engine.bell)


@pytest.mark.parametrize("linger", [0.0, 0.001, 0.05])
@pytest.mark.parametrize("timeout", [0.0, 0.0005, 0.05, 0.1, 0.7])
@pytest.mark.parametrize("before_the_end", [0.0, 0.02])
def test_taking_lasts_no_longer_than_it_may(
    engines: Any, clock: Clock, linger: float, timeout: float, before_the_end: float
) -> None:
    receiver, engine = engines(max(timeout - before_the_end, 0.0), linger=linger)
    began = clock.now
    assert receiver.take(timeout) is not None
    assert clock.now <= began + timeout + EXACT_S
    assert receiver.take(timeout) is None
    assert clock.now <= began + 2 * timeout + EXACT_S
    assert engine.longest <= STEP_S


def test_a_batch_lingers_where_there_is_time(engines: Any, clock: Clock) -> None:
    receiver, engine = engines(0.25, linger=0.05)
    began = clock.now
    assert receiver.take() is not None
    assert clock.now == pytest.approx(began + 0.3)
    assert engine.longest <= STEP_S


@pytest.mark.parametrize("linger", [0.0, 0.05])
def test_a_loop_ends_by_silence_however_it_lingers(engines: Any, clock: Clock, linger: float) -> None:
    receiver, engine = engines(0.01, 0.25, linger=linger, idle=0.3)
    began = clock.now
    assert sum(map(len, receiver)) == 2
    assert 0.55 - EXACT_S <= clock.now - began <= 0.55 + linger + EXACT_S
    assert engine.longest <= STEP_S


def test_more_than_a_step_is_no_lingering() -> None:
    with pytest.raises(UsageError, match=r"linger=0\.06: give 0 to 0\.05 s"):
        flatout.Receiver("127.0.0.1:0", linger=0.06)


@pytest.mark.parametrize(
    ("queued", "options"), [([500], {"queue": 1000}), ([3, 4], {"batch": 7})], ids=["queue", "batch"]
)
def test_an_event_loop_lingers_until_enough_is_there(engines: Any, queued: list[int], options: dict[str, int]) -> None:
    """Its clock stands still, so that nothing but what is there ends it."""
    receiver, engine = engines(linger=0.05, idle=1.0, **options)
    looked = engine.received

    def received() -> list[dict[str, int]]:
        if engine.looks == 2:
            engine.waiting = queued
            engine.arrivals = [engine.clock.now]
        return looked()

    engine.received = received

    async def one() -> None:
        batches = aiter(receiver)
        await anext(batches)
        await batches.aclose()  # type: ignore[attr-defined]

    asyncio.run(asyncio.wait_for(one(), 20))
    assert engine.looks == 3


def test_a_stop_ends_the_lingering_of_an_event_loop(engines: Any) -> None:
    receiver, engine = engines(linger=0.05)
    looked = engine.received

    def received() -> list[dict[str, int]]:
        receiver.stop()
        return looked()

    engine.received = received
    assert asyncio.run(asyncio.wait_for(first(receiver), 20)) == []
    assert engine.looks == 1


async def first(receiver: flatout.Receiver) -> list[Any]:
    return [batch async for batch in receiver]


def test_what_can_receive_no_more_says_so_after_what_had_arrived(engines: Any) -> None:
    receiver, engine = engines(0.0)
    engine.failures = ["recvmsg: Operation not permitted"] * 2
    assert receiver.take() is not None
    with pytest.raises(GeneratorError, match=r"the receiver has ended: recvmsg: Operation not permitted$"):
        receiver.take()
    with pytest.raises(GeneratorError):
        next(iter(receiver))
    with pytest.raises(GeneratorError):
        asyncio.run(asyncio.wait_for(first(receiver), 20))
    receiver.stop()
    assert receiver.take() is None
