"""Several threads at one server, run or sender: none of them gets an error for what another one does."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flatout
from flatout.testing import Faults, FaultyServer


def beside(look: Callable[[], Any], act: Callable[[], Any], threads: int = 4) -> None:
    """Looks in several threads while `act` runs, and reports what any of them raised."""
    raised: list[BaseException] = []
    begun, over = threading.Barrier(threads + 1), threading.Event()

    def looking() -> None:
        begun.wait()
        try:
            while not over.is_set():
                look()
            look()
        except BaseException as error:
            raised.append(error)

    lookers = [threading.Thread(target=looking) for _ in range(threads)]
    for looker in lookers:
        looker.start()
    begun.wait()
    try:
        act()
    finally:
        over.set()
        for looker in lookers:
            looker.join()
    assert raised == []


def stop_beside_stats(rounds: int) -> None:
    for n in range(rounds):
        protocol = ("dns", "ntp")[n % 2]
        server = flatout.serve(protocol, "127.0.0.1:0", threads=1)
        beside(lambda server=server: (server.stats(), server.alive), server.stop)
        assert not server.alive
        assert server.stats()["received"] == 0


def test_stats_beside_stop() -> None:
    stop_beside_stats(30)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_stats_beside_stop_a_thousand_times() -> None:
    stop_beside_stats(1_000)


def test_several_threads_may_stop_one_server() -> None:
    for _ in range(5):
        with flatout.serve("ntp", "127.0.0.1:0", threads=2) as server:
            beside(server.stop, server.stop)
        with FaultyServer("ntp", Faults()) as faulty:
            beside(lambda faulty=faulty: faulty.done(), faulty.stop)


def test_an_array_may_change_while_it_is_sent() -> None:
    """Other threads write into it and resize it: what leaves is whole records, all as they were at some time."""
    size = 1 << 20
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as far_end:
        far_end.bind(("127.0.0.1", 0))
        with flatout.Sender(f"127.0.0.1:{far_end.getsockname()[1]}", "id:u4 seq:u4") as sender:
            records = np.zeros(size, sender.dtype)
            # A view of it would hold NumPy back; the engine takes the bytes themselves.
            data = np.zeros(size * sender.dtype.itemsize, np.uint8)

            def change() -> None:
                with contextlib.suppress(ValueError):
                    data.resize(sender.dtype.itemsize, refcheck=False)
                records["seq"] += 1

            beside(change, lambda: (sender._engine.send(data), sender.send(records)), threads=1)
