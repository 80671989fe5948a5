"""`serve` ends on a signal, whenever that comes; what it tells each second adds up to what it tells at the end."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flatout.cli.seconds import Lines, Stop, run_until_stopped


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


class Counting:
    """Counts by itself: three more at each look, the first ones before anybody looked."""

    def __init__(self) -> None:
        self.received = 0
        self.alive = True
        self.errors: list[str] = []

    def stats(self) -> dict[str, Any]:
        self.received += 3
        self.alive = self.received < 12
        return {"t_s": self.received / 3, "received": self.received, "workers": [{"received": self.received}]}

    def stop(self) -> None:
        self.alive = False


class Plain(Lines):
    def difference(self, before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
        assert now["workers"][0]["received"] >= before["workers"][0]["received"]
        return {"received": now["received"] - before["received"]}

    def of_second(self, before: dict[str, Any], now: dict[str, Any], span: float) -> list[str]:
        raise AssertionError(f"nobody looks: {before}, {now}, {span}")

    def of_all(self, totals: dict[str, Any]) -> list[str]:
        raise AssertionError(f"nobody looks: {totals}")


class Never(Stop):
    def wait(self, seconds: float) -> bool:  # noqa: ARG002
        return False


def test_what_came_before_the_first_look_is_in_the_first_second(tmp_path: Path) -> None:
    written = tmp_path / "objects"
    lines = lambda objects: Plain(objects, people=False)  # noqa: E731
    run_until_stopped(Counting(), lines, Never(), seconds=3, json=str(written))
    *seconds, last = [json.loads(line) for line in written.read_text().splitlines()]
    assert [second["received"] for second in seconds] == [6, 3, 3]
    assert last["received"] == 12 + 3


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        (["epoll_wait: Operation not permitted"], "a serving thread cannot go on: epoll_wait: Operation not permitted"),
        ([], "a serving thread has ended, which is a fault of flatout"),
    ],
    ids=["a failed call", "no reason"],
)
def test_a_thread_that_ended_ends_the_command_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], errors: list[str], said: str
) -> None:
    server = Counting()
    server.alive, server.errors = False, errors
    lines = lambda objects: Plain(objects, people=False)  # noqa: E731
    assert run_until_stopped(server, lines, Never(), seconds=3, json=str(tmp_path / "objects")) == 4
    assert capsys.readouterr().err == f"flatout: {said}\n"
