"""One request at a time, over real sockets."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path
from typing import Any

import pytest

import flatout
from conftest import Cli, free_port, until_good
from flatout.result.histogram import histogram
from flatout.testing import Faults, FaultyServer

Row = dict[str, str]


def rows(path: Path) -> list[Row]:
    with path.open(encoding="utf-8") as text:
        return sorted(csv.DictReader(text), key=lambda row: int(row["due_ns"]))


@pytest.mark.parametrize("wait", ["sleep", "spin"])
def test_each_request_leaves_after_the_answer_to_the_last(wait: str, tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    asked: Any = {
        "transport": "udp",
        "arrivals": "ping-pong",
        "wait": wait,
        "duration": 0.3,
        "warmup": 0,
        "log": str(log),
    }
    with flatout.serve("echo", "127.0.0.1:0", transports=["udp"]) as server:
        run = until_good(lambda: flatout.load("echo", server.address, **asked), lambda run: run.verdict == "ok")
        assert server.stats()["received"] >= run.outcomes.sent
    assert run.verdict == "ok", run.why
    assert run.outcomes.answered == run.outcomes.sent > 20
    found = rows(log)
    assert len(found) == run.outcomes.planned
    assert all(int(after["sent_ns"]) >= int(row["answered_ns"]) for row, after in itertools.pairwise(found))


def test_a_round_trip_is_told_in_two_parts(tmp_path: Path) -> None:
    """Up to the kernel's stamp, and until it was read: together no more than from one request to the next."""
    log = tmp_path / "log.csv"
    asked: Any = {"arrivals": "ping-pong", "warmup": 0}
    with flatout.serve("ntp", "127.0.0.1:0") as server:
        run = flatout.load("ntp", server.address, **asked, duration=0.3, log=str(log))
        user = flatout.load("ntp", server.address, **asked, duration=0.2, stamps="user")
        scheduled = flatout.load("ntp", server.address, rate="1k", duration=0.2, warmup=0)
    assert run.reading_ns is not None
    assert run.latency_ns.from_sent is not None
    assert run.reading_ns.count == run.latency_ns.from_sent.count == run.outcomes.answered
    sent = [int(row["sent_ns"]) for row in rows(log)]
    whole = (sent[-1] - sent[0]) / (len(sent) - 1)
    parts = run.latency_ns.from_sent.mean + run.reading_ns.mean
    assert 0.2 * whole < parts < 1.05 * whole
    assert user.reading_ns is None
    assert user.latency_ns.from_sent is not None
    assert scheduled.reading_ns is None, "there answers lie until many can be read in one call"
    assert histogram(run.reading_ns).max == run.reading_ns.max


def test_what_is_lost_costs_its_timeout() -> None:
    with FaultyServer("ntp", Faults(drop=0.2)) as server:
        run = flatout.load("ntp", server.address, arrivals="ping-pong", duration=1, warmup=0, timeout="20ms")
    assert 3 < run.outcomes.lost <= 50, "a second has room for 50 time-outs"


def test_a_port_that_refuses_is_3(cli: Cli) -> None:
    asked = ("--arrivals", "ping-pong", "--for", "300ms", "--warmup", "0", "--json", "-")
    done = cli("load", "ntp", f"127.0.0.1:{free_port()}", *asked)
    run = done.json
    assert (done.code, run["verdict"]) == (3, "target-lost")
    assert run["outcomes"]["refused"] == run["outcomes"]["sent"] > 10, "a refusal ends a turn"


def test_own_records_are_asked_one_at_a_time_too(echo_server: flatout.Server) -> None:
    template = {"format": "id:u4 seq:u4", "reply": "id:u4 seq:u4"}
    run = flatout.load("record", echo_server.address, arrivals="ping-pong", duration=0.2, warmup=0, options=template)
    assert run.outcomes.answered == run.outcomes.sent > 10, run.why


def test_a_run_is_done_again_as_it_was(cli: Cli, echo_server: flatout.Server) -> None:
    how = ("--transport", "udp", "--wait", "spin", "--busy-poll", "20us")
    asked = ("--arrivals", "ping-pong", "--warmup", "0", "--for", "200ms")
    # A busy machine may make either of them generator-limited; the scenario is the same.
    first = cli("load", "echo", echo_server.address, *how, *asked, "--json", "run.json", "--quiet")
    assert first.code in (0, 4), first.err
    again = cli("rerun", "run.json", "--json", "-", "--quiet")
    assert again.code in (0, 4), again.err
    scenario = again.json["scenario"]
    assert (scenario["arrivals"], scenario["wait"], scenario["busy_poll_us"]) == ("ping-pong", "spin", 20)
    assert again.json["outcomes"]["answered"] > 10
