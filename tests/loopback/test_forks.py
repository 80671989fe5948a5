"""What runs in threads is left alone by a fork of its process, and goes on in the process itself."""

from __future__ import annotations

import gc
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stream_servers import within
from traffic import all_came, records, sending

import flatout
from flatout.testing import Faults, FaultyServer


@pytest.fixture(autouse=True)
def _bounded() -> Iterator[None]:
    with within(60):
        yield


def fork_quietly() -> int:
    """Python warns of forks with threads; they are what is tested."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def in_a_fork(work: Callable[[], object]) -> int:
    """How a fork ends that does this and nothing else."""
    pid = fork_quietly()
    if pid == 0:
        signal.alarm(20)
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize(
    "make",
    [
        lambda: flatout.Receiver("127.0.0.1:0", threads=2),
        lambda: flatout.serve("record", "127.0.0.1:0"),
        lambda: flatout.serve("echo", "127.0.0.1:0"),
        lambda: FaultyServer("echo", Faults()),
    ],
    ids=["receiver", "drained", "server", "faulty"],
)
def test_a_fork_leaves_what_it_did_not_begin(make: Callable[[], Any], capfd: pytest.CaptureFixture[str]) -> None:
    kept = [make()]

    def leave() -> None:
        kept[0].__exit__(None, None, None)

    def forget() -> None:
        kept.clear()
        gc.collect()

    with kept[0]:
        assert in_a_fork(leave) == 0
        assert in_a_fork(forget) == 0
        assert "panicked" not in capfd.readouterr().err


def test_a_receiver_goes_on_where_it_was_made_and_says_so_elsewhere() -> None:
    with flatout.Receiver("127.0.0.1:0") as receiver, sending(receiver) as sender:

        def use() -> None:
            assert not receiver.alive
            for call in (receiver.stats, receiver.drain, lambda: receiver.take(0), lambda: receiver.send(b"x", [0])):
                with pytest.raises(RuntimeError, match="fork"):
                    call()
            receiver.stop()

        assert in_a_fork(use) == 0
        sender.each(records(1, [1, 2]))
        assert all_came(receiver, 2)["parsed"] == 2
        assert receiver.alive


def test_a_server_goes_on_where_it_was_made_and_says_so_elsewhere() -> None:
    with flatout.serve("echo", "127.0.0.1:0") as server:

        def use() -> None:
            assert not server.alive
            with pytest.raises(RuntimeError, match="fork"):
                server.stats()
            server.stop()

        assert in_a_fork(use) == 0
        assert server.alive
        assert flatout.load("echo", server.address, rate=200, duration=0.2, warmup=0, transport="udp").outcomes.sent > 0


class _InAForkError(Exception):
    """Ends a run where it was not begun."""


def test_a_fork_leaves_a_run_that_it_did_not_begin(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A callback that forks in mid-run and raises there: the run is dropped in the fork, and goes on where it began."""
    forked: list[int] = []

    def fork(now: flatout.RunProgress) -> None:
        if now.sent and not forked:
            forked.append(fork_quietly())
            if not forked[0]:
                signal.alarm(20)
                raise _InAForkError

    with flatout.serve("echo", "127.0.0.1:0") as server:
        log = str(tmp_path / "rows.csv")
        try:
            asked: Any = {"rate": 500, "duration": 0.6, "warmup": 0, "transport": "udp"}
            run = flatout.load("echo", server.address, **asked, log=log, progress=fork)
        except _InAForkError:
            pass
        finally:
            if forked and not forked[0]:
                gc.collect()
                os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(forked[0], 0)[1]) == 0
    assert run.outcomes.sent > 0
    assert "panicked" not in capfd.readouterr().err
