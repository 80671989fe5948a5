"""A generator in trouble says so: its own standstill is its own, and never a server's limit."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

import flatout
from conftest import Cli, Running, until_good, wait_until

STANDSTILL_S = 0.2


def test_a_standstill_shows_in_lateness_and_from_due_not_from_sent(cli: Cli) -> None:
    def attempt() -> tuple[float, Any]:
        with flatout.serve("ntp", "127.0.0.1:0") as server:
            load = cli.start(
                "load", "ntp", server.address, "--rate", "5k", "--for", "1s", "--warmup", "0", "--json", "-", "--quiet"
            )
            wait_until(lambda: server.stats()["received"] > 500, message="under way")
            held_s = load.held_up(STANDSTILL_S)
            return held_s, load.end().json

    def spoilt(pair: tuple[float, Any]) -> bool:
        """By others on this machine: they hold up the server, or the generator more than we did."""
        answered_late = pair[1]["latency_ns"]["from_sent"]["max"] > 0.3 * STANDSTILL_S * 1e9
        return answered_late or pair[1]["outcomes"]["unsent"] > 1.25 * 5000 * STANDSTILL_S

    held_s, run = until_good(attempt, lambda pair: not spoilt(pair))
    assert not spoilt((held_s, run)), "this machine is too busy to say anything"
    least, most = 0.9 * STANDSTILL_S * 1e9, 1.5 * held_s * 1e9
    assert least < run["lateness_ns"]["max"] < most
    assert least < run["latency_ns"]["from_due"]["max"] < most
    # What could not leave in time is unsent, at least what was due in the standstill less its last ms.
    assert run["outcomes"]["unsent"] == pytest.approx(5000 * STANDSTILL_S, rel=0.25)
    assert run["unsent_because"]["late"] == run["outcomes"]["unsent"]
    assert run["verdict"] == "generator-limited"
    # Each unsent request's wait is in from due, so that the standstill is not left out of it.
    assert run["latency_ns"]["from_due"]["count"] == run["outcomes"]["answered"] + run["outcomes"]["unsent"]
    assert run["latency_ns"]["from_sent"]["count"] == run["outcomes"]["answered"]


def test_an_impossible_rate_ends_generator_limited(cli: Cli) -> None:
    with flatout.serve("ntp", "127.0.0.1:0") as server:
        done = cli(
            "load", "ntp", server.address, "--rate", "20M", "--for", "300ms", "--warmup", "0", "--json", "-", "--quiet"
        )
    run = done.json
    assert (done.code, run["verdict"]) == (4, "generator-limited")
    assert run["outcomes"]["planned"] == run["outcomes"]["sent"] + run["outcomes"]["unsent"] == 6_000_000
    assert run["outcomes"]["unsent"] > 6000
    assert "could not leave" in run["why"]


class Slowed:
    """Lets a process run only a few ms at a time, until the block ends."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._slow)

    def _slow(self) -> None:
        while not self._over.wait(0.004) and self.running.process.poll() is None:
            self.running.held_up(0.006)

    def __enter__(self) -> Slowed:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def test_a_slowed_generator_is_never_a_servers_limit(cli: Cli) -> None:
    with flatout.serve("ntp", "127.0.0.1:0") as server:
        search = cli.start(
            *("limit", "ntp", server.address, "--min", "2k", "--max", "50k", "--budget", "8s", "--json", "-", "--quiet")
        )
        with Slowed(search):
            done = search.end()
    found = json.loads(done.out)
    assert done.code == 4, found["sentence"]
    assert found["limit"]["stopped_by"] == "generator"
    assert found["limit"]["value"] is None
    assert found["limit"]["upper"] is None
    assert {trial["verdict"] for trial in found["trials"]} == {"invalid"}
    assert {trial["run_verdict"] for trial in found["trials"]} == {"generator-limited"}
    assert "generator" in found["sentence"]
