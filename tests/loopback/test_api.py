"""flatout from Python: progress, asyncio, cancelling, Ctrl-C, servers; what notebooks and test suites rely on."""

from __future__ import annotations

import asyncio
import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

import flatout
from conftest import wait_until
from flatout.testing import Faults, FaultyServer


@pytest.fixture
def server() -> Iterator[flatout.Server]:
    with flatout.serve("ntp", "127.0.0.1:0") as running:
        yield running


QUICK: Any = {"rate": 5000, "duration": 0.4, "warmup": 0}
LONG: Any = {"rate": 2000, "duration": 60, "warmup": 0}


def test_a_load_returns_a_typed_result(server: flatout.Server) -> None:
    run = flatout.load("ntp", server.address, **QUICK)
    assert isinstance(run, flatout.LoadResult)
    assert run.outcomes.planned == 2000
    assert run.rate_per_s.planned == pytest.approx(5000)
    assert run.latency_ns.from_due is not None
    assert "ntp" in run._repr_html_()
    assert len(run.interval_array()) == len(run.intervals) > 0


class Searched(NamedTuple):
    """A search, and its progress as it was told."""

    found: flatout.LimitResult
    seen: list[flatout.SearchProgress]


@pytest.fixture(scope="module")
def searched(ntp_server: flatout.Server) -> Searched:
    seen: list[flatout.SearchProgress] = []
    how: Any = {"least": 500, "most": 2000, "budget": "5s", "loss": "50%"}
    return Searched(flatout.limit("ntp", ntp_server.address, **how, progress=seen.append), seen)


def test_a_limit_returns_a_typed_result(searched: Searched) -> None:
    found, _ = searched
    assert isinstance(found, flatout.LimitResult)
    assert found.trials
    assert all(trial.outcomes.answered > 0 for trial in found.trials)


def test_progress_moves_on_and_ends_with_done(server: flatout.Server) -> None:
    seen: list[flatout.RunProgress] = []
    run = flatout.load("ntp", server.address, rate=5000, duration=0.6, warmup=0.3, progress=seen.append)
    times = [look.t_s for look in seen]
    assert times == sorted(times)
    assert times[0] < 0
    assert [look.phase for look in seen if look.t_s < 0] == ["warm-up"] * sum(t < 0 for t in times)
    assert (seen[-1].phase, seen[-1].planned, seen[-1].sent) == ("done", run.outcomes.planned, run.outcomes.sent)
    assert all(before.sent <= after.sent for before, after in itertools.pairwise(seen))
    assert len(seen) >= 4
    # The same requests as in the exact histogram, in bands of a tenth of a decade.
    due = run.latency_ns.from_due
    assert due is not None
    bands = [band for second in seen[-1].latency for band in second.bands]
    assert sum(requests for _, requests in bands) == due.count
    assert 10 ** (min(bands)[0] / 10) <= due.min <= due.max < 1.001 * 10 ** ((max(bands)[0] + 1) / 10)


def test_search_progress_tells_trials_and_the_end(searched: Searched) -> None:
    found, seen = searched
    elapsed = [look.elapsed_s for look in seen]
    assert elapsed == sorted(elapsed)
    assert [look.finished for look in seen if look.finished] == found.trials
    assert seen[-1].limit == found.limit


def test_an_error_in_a_progress_callback_stops_the_run_and_comes_out(server: flatout.Server) -> None:
    def refuse(_: flatout.RunProgress) -> None:
        raise ZeroDivisionError

    began = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        flatout.load("ntp", server.address, **LONG, progress=refuse)
    assert time.monotonic() - began < 10
    assert_quiet(server)


def assert_quiet(server: flatout.Server) -> None:
    """Nothing is sent any more."""
    before = -1

    def still() -> bool:
        nonlocal before
        was, before = before, server.stats()["received"]
        time.sleep(0.1)
        return was == before

    wait_until(still, 5.0, "quiet")


def test_async_forms(server: flatout.Server) -> None:
    async def both() -> list[flatout.LoadResult]:
        return await asyncio.gather(*(flatout.load_async("ntp", server.address, **QUICK) for _ in range(2)))

    first, second = asyncio.run(both())
    assert first.outcomes.planned == second.outcomes.planned == 2000


@pytest.mark.parametrize("start", [flatout.load_async, flatout.limit_async])
def test_cancelling_stops_the_engine(server: flatout.Server, start: Callable[..., Any]) -> None:
    async def cancelled() -> float:
        how = LONG if start is flatout.load_async else {}
        task = asyncio.ensure_future(start("ntp", server.address, **how))
        while server.stats()["received"] < 100:
            assert not task.done()
            await asyncio.sleep(0.01)
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.monotonic() - began

    assert asyncio.run(cancelled()) < 5
    assert_quiet(server)


def test_a_task_can_be_timed_out(server: flatout.Server) -> None:
    async def impatient() -> None:
        await asyncio.wait_for(flatout.load_async("ntp", server.address, **LONG), 0.5)

    began = time.monotonic()
    with pytest.raises(TimeoutError):
        asyncio.run(impatient())
    assert time.monotonic() - began < 20, "the engine stopped long before its end"
    assert_quiet(server)


def interrupt_when(ready: Callable[[], object]) -> threading.Thread:
    """Ctrl-C to this process once `ready`."""

    def send() -> None:
        wait_until(ready)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def test_ctrl_c_carries_the_result(server: flatout.Server) -> None:
    thread = interrupt_when(lambda: server.stats()["received"] > 500)
    with pytest.raises(KeyboardInterrupt) as interrupted:
        flatout.load("ntp", server.address, **LONG)
    thread.join()
    assert isinstance(interrupted.value, flatout.Interrupted)
    run = interrupted.value.result
    assert run.verdict == "interrupted"
    assert run.outcomes.sent >= 400
    assert run.duration_s < 30
    assert run.rate_per_s.planned == pytest.approx(2000, rel=0.3)
    assert_quiet(server)


def test_ctrl_c_in_a_search_carries_its_trials(server: flatout.Server) -> None:
    reported = threading.Event()

    def look(progress: flatout.SearchProgress) -> None:
        if progress.finished:
            reported.set()

    thread = interrupt_when(reported.is_set)
    with pytest.raises(KeyboardInterrupt) as interrupted:
        flatout.limit("ntp", server.address, most=5000, loss=0.5, progress=look)
    thread.join()
    assert isinstance(interrupted.value, flatout.Interrupted)
    found = interrupted.value.result
    assert found.limit.stopped_by == "interrupted"
    assert found.trials


def test_a_server_counts_what_it_does() -> None:
    with flatout.serve("ntp", "127.0.0.1:0", threads=2) as server:
        assert server.alive
        assert server.address.startswith("127.0.0.1:")
        run = flatout.load("ntp", server.address, **QUICK)
        wait_until(lambda: server.stats()["answered"] == run.outcomes.sent, message="counted")
        stats = server.stats()
    assert stats["received"] == run.outcomes.sent
    assert sum(worker["received"] for worker in stats["workers"]) == stats["received"]
    assert len(stats["workers"]) == 2
    assert sum(stats["dropped"].values()) == stats["kernel_drops"] == 0
    assert not server.alive
    assert server.stats()["answered"] == run.outcomes.sent, "the counters stay"


def test_a_stopped_server_gives_its_port_back() -> None:
    with flatout.serve("ntp", "127.0.0.1:0") as server:
        address = server.address
    with flatout.serve("ntp", address) as again:
        assert again.address == address


def test_a_port_in_use_is_bad_use() -> None:
    with FaultyServer("ntp", Faults()) as holder, pytest.raises(flatout.UsageError, match="cannot listen"):
        flatout.serve("ntp", holder.address)


@pytest.mark.parametrize(
    "bad",
    [
        {"listen": "here"},
        {"listen": "127.0.0.1:99999"},
        {"listen": "203.0.113.9:1123"},
        {"threads": 0},
        {"no_such_knob": 1},
    ],
    ids=str,
)
def test_servers_that_cannot_be(bad: Any) -> None:
    with pytest.raises(flatout.UsageError):
        flatout.serve("ntp", **{"listen": "127.0.0.1:0", **bad})


def test_ipv6(server: flatout.Server) -> None:
    del server
    with flatout.serve("ntp", "[::1]:0") as six:
        assert six.address.startswith("[::1]:")
        assert flatout.load("ntp", six.address, **QUICK).outcomes.answered > 0


def test_a_seed_repeats_the_schedule(server: flatout.Server, tmp_path: Any) -> None:
    def dues(seed: int, name: str) -> list[int]:
        log = tmp_path / name
        flatout.load("ntp", server.address, **QUICK, arrivals="poisson", seed=seed, log=str(log))
        return sorted(int(line.split(",")[0]) for line in log.read_text().splitlines()[1:])

    first, again, other = dues(1, "a"), dues(1, "b"), dues(2, "c")
    assert first == again
    assert first != other


def test_a_fleet_of_processes_gives_one_result() -> None:
    with flatout.serve("ntp", "127.0.0.1:0") as server:
        result = flatout.load("ntp", server.address, fleet="local:2", rate=500, duration=0.5, warmup=0, flows=4)
    assert len(result.nodes) == 2
    assert result.outcomes.planned == 250
    assert result.outcomes.sent == sum(node.sent for node in result.nodes) > 0


def test_a_fleet_and_changes_of_this_host_do_not_go_together() -> None:
    with pytest.raises(flatout.UsageError, match="leave fleet out"):
        flatout.limit("echo", "127.0.0.1:9", transport="udp", improve=True, fleet="local:2")
    with pytest.raises(flatout.UsageError, match="fleet='local:'"):
        flatout.load("echo", "127.0.0.1:9", rate=10, fleet="local:")
