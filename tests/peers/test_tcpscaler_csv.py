"""What people who come from tcpscaler have: its CSV, and its files of steps and slopes, which really change the rate.

The reader here knows tcpclient's format alone, as the scripts of its users do.
"""

from __future__ import annotations

import csv
import itertools
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import accounts
import flatout
from conftest import Cli, free_port, until_good

pytestmark = pytest.mark.peer

HEADER = "type,timestamp,connection_id,query_id,poisson_id,poisson_interval_us,rtt_us"


@pytest.fixture
def server(dns_server: flatout.Server) -> flatout.Server:
    return dns_server


class Asked(NamedTuple):
    """A query, by tcpclient's columns; times in ns."""

    sent: int
    connection: str
    query: str
    rtt_us: int | None
    answered: int | None


def ns(timestamp: str) -> int:
    """`s.ns`, exactly: a float has too few digits."""
    seconds, _, fraction = timestamp.partition(".")
    assert len(fraction) == 9, timestamp
    return int(seconds) * 10**9 + int(fraction)


def read(path: Path) -> list[Asked]:
    """Joins queries and answers as readers of tcpclient's output do: by connection and id, in the file's order."""
    text = path.read_text(encoding="ascii")
    assert text.splitlines()[0] == HEADER
    asked: list[Asked] = []
    open_ones: dict[tuple[str, str], int] = {}
    for row in csv.DictReader(text.splitlines()):
        key = (row["connection_id"], row["query_id"])
        assert 0 <= int(row["query_id"]) < 65536
        if row["type"] == "Q":
            assert (row["poisson_interval_us"], row["rtt_us"]) == ("", "")
            open_ones[key] = len(asked)
            asked.append(Asked(ns(row["timestamp"]), *key, None, None))
        else:
            assert row["type"] == "A"
            at = open_ones.pop(key)
            assert asked[at].answered is None
            asked[at] = asked[at]._replace(rtt_us=int(row["rtt_us"]), answered=ns(row["timestamp"]))
    return asked


def check_flights(asked: list[Asked]) -> None:
    """No id of a connection is used again while it is on its way."""
    flights: dict[tuple[str, str], list[Asked]] = {}
    for one in asked:
        flights.setdefault((one.connection, one.query), []).append(one)
    for ones in flights.values():
        ones.sort()
        for before, after in itertools.pairwise(ones):
            assert before.answered is not None, (before, after)
            assert before.answered <= after.sent, (before, after)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("threads", [1, 2])
def test_every_query_is_there_with_its_answer(
    server: flatout.Server, tmp_path: Path, transport: Any, threads: int
) -> None:
    log = tmp_path / "out.csv"
    how: Any = {"transport": transport, "connections": 8, "threads": threads}
    run = flatout.load(
        "dns", server.address, rate=1000, duration=0.5, warmup=0.1, log=str(log), log_format="tcpscaler", **how
    )
    accounts.check(run)
    assert not run.warnings
    asked = read(log)
    assert len(asked) == run.outcomes.sent > 0
    answered = [one for one in asked if one.answered is not None]
    assert len(answered) == run.outcomes.answered + run.outcomes.late + run.outcomes.invalid
    for one in answered:
        assert one.rtt_us == (one.answered - one.sent) // 1000
    check_flights(asked)
    assert len({one.connection for one in asked}) == 8


def test_timestamps_are_the_calendars(server: flatout.Server, tmp_path: Path) -> None:
    log = tmp_path / "out.csv"
    before = time.time_ns()
    flatout.load(
        "dns",
        server.address,
        transport="tcp",
        rate=300,
        duration=0.5,
        warmup=0.2,
        log=str(log),
        log_format="tcpscaler",
    )
    after = time.time_ns()
    asked = read(log)
    assert all(before < one.sent < after for one in asked)
    first, last = min(one.sent for one in asked), max(one.sent for one in asked)
    assert 0.3e9 < last - first < 0.7e9


def test_ids_come_again_only_after_their_answer(server: flatout.Server, tmp_path: Path) -> None:
    """Ids are 16 bits: over one connection they wrap after 65,536 queries."""
    log = tmp_path / "out.csv"

    def attempt() -> flatout.LoadResult:
        return flatout.load(
            "dns",
            server.address,
            transport="tcp",
            connections=1,
            rate=25_000,
            duration=4,
            warmup=0,
            log=str(log),
            log_format="tcpscaler",
        )

    run = until_good(attempt, lambda run: run.outcomes.sent > 70_000)
    accounts.check(run)
    assert run.outcomes.sent > 70_000
    asked = read(log)
    assert len(asked) == run.outcomes.sent
    assert max(Counter(one.query for one in asked).values()) >= 2, "ids have wrapped"
    check_flights(asked)


def test_what_got_no_answer_has_no_row_for_one(tmp_path: Path) -> None:
    """A port where nobody answers: refused over UDP, so there is no A."""
    log = tmp_path / "out.csv"
    how: Any = {"log": str(log), "log_format": "tcpscaler", "timeout": 0.2}
    run = flatout.load("dns", f"127.0.0.1:{free_port()}", rate=100, duration=0.3, warmup=0, **how)
    assert run.outcomes.answered == 0
    asked = read(log)
    assert len(asked) == run.outcomes.sent > 0
    assert all(one.answered is None for one in asked)


# --- Steps and slopes ---


def sent_between(asked: list[Asked], seconds: list[float]) -> list[int]:
    """Queries in each stretch, counted from the first one."""
    first = min(one.sent for one in asked)
    counts = []
    for begin, end in itertools.pairwise(seconds):
        counts.append(sum(begin * 1e9 <= one.sent - first < end * 1e9 for one in asked))
    return counts


def profiled(cli: Cli, server: flatout.Server, name: str, text: str, *flags: str) -> tuple[Any, list[Asked]]:
    """A run after a file of tcpclient's form, and its CSV."""
    (cli.folder / name).write_text(text, encoding="ascii")
    log = cli.folder / "out.csv"
    how = ("--transport", "tcp", "--connections", "5", "--warmup", "0", "--json", "-", "--quiet")
    logged = ("--log", str(log), "--log-format", "tcpscaler")
    done = cli("load", "dns", server.address, "--profile", name, *flags, *how, *logged)
    assert done.code in {0, 4}, done.err
    return done.json, read(log)


def test_a_file_of_steps_changes_the_rate(cli: Cli, server: flatout.Server) -> None:
    """tcpclient --stdin: number of commands, then milliseconds and rate."""
    steps = "3\n1000 200\n1000 800\n1000 100\n"
    run, asked = profiled(cli, server, "steps", steps, "--profile-format", "tcpscaler-steps")
    assert run["outcomes"]["planned"] == 1100
    seconds = [interval["planned"] for interval in run["intervals"][:3]]
    assert seconds == [200, 800, 100]
    # The file has what has left; what a busy machine kept back is counted as unsent.
    unsent = run["outcomes"]["unsent"]
    for count, wanted in zip(sent_between(asked, [0, 1, 2, 3.1]), (200, 800, 100), strict=True):
        assert wanted - unsent - 5 <= count <= wanted + 5


def test_a_file_of_slopes_changes_the_rate(cli: Cli, server: flatout.Server) -> None:
    """tcpclient -r 100 --stdin-rateslope: up by 400/s each second, then down by 200/s."""
    slopes = "2\n2000 400\n1000 -200\n"
    run, asked = profiled(cli, server, "slopes", slopes, "--rate", "100", "--profile-format", "tcpscaler-slopes")
    # 100 to 900 in two seconds, to 700 in the third.
    assert run["outcomes"]["planned"] == pytest.approx(1000 + 800, abs=2)
    seconds = [interval["planned"] for interval in run["intervals"][:3]]
    assert seconds == [pytest.approx(wanted, abs=2) for wanted in (300, 700, 800)]
    unsent = run["outcomes"]["unsent"]
    for count, wanted in zip(sent_between(asked, [0, 1, 2, 3.1]), (300, 700, 800), strict=True):
        assert wanted - unsent - 8 <= count <= wanted + 8
