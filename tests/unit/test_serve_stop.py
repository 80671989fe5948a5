"""`serve` ends on a signal, whenever that comes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from flatout.cli.seconds import Stop


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def stop() -> Stop:
    return Stop()


def test_no_signal_no_wish(stop: Stop) -> None:
    assert not stop.wait(0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_heard_and_stays_heard(stop: Stop, number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    assert stop.wait(5)
    assert stop.wait(0)


def test_signals_at_every_moment_of_waiting_never_hang_it() -> None:
    """An event's own lock is taken for some microseconds of each wait; a handler that needs it would hang there."""
    for _ in range(100):
        stop = Stop()
        sender = threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGTERM))
        sender.start()
        assert stop.wait(5)
        sender.join()
