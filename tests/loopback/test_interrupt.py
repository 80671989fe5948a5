"""Ctrl-C in every phase: the command ends at once with 130, and what was measured until then is written."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

import flatout
from conftest import Cli, Running, wait_until
from flatout.testing import Faults, FaultyServer


def interrupted(running: Running, seconds: float = 10.0) -> Any:
    """Ctrl-C, then the code, which must be 130, and the JSON file that must be there."""
    running.interrupt()
    done = running.end(seconds)
    assert done.code == 130, done.err
    assert "Traceback" not in done.err
    return json.loads(running.out.with_name("r.json").read_text())


_SLOW = """\
import time
print("importing", flush=True)
until = time.monotonic() + 60
while time.monotonic() < until:
    pass
"""


@pytest.mark.parametrize("verb", ["load", "limit", "serve", "report"])
def test_while_it_starts(cli: Cli, verb: str) -> None:
    """A library that takes its time stands for those that are imported before anything begins."""
    # It works and does not sleep: Python begins to sleep in spite of a signal that came just before.
    (cli.folder / "cyclopts.py").write_text(_SLOW)
    starting = cli.start(verb, "ntp", "127.0.0.1:5")
    wait_until(lambda: "importing" in starting.out.read_text(), message="importing")
    starting.interrupt()
    done = starting.end(10)
    assert (done.code, done.err) == (130, "flatout: interrupted\n")


def test_in_warm_up(cli: Cli) -> None:
    with flatout.serve("ntp", "127.0.0.1:0") as server:
        load = cli.start(
            "load", "ntp", server.address, "--rate", "2k", "--for", "9s", "--warmup", "60s", "--json", "r.json"
        )
        wait_until(lambda: server.stats()["received"] > 100, message="warming up")
        run = interrupted(load)
    assert run["verdict"] == "interrupted"
    assert set(run["outcomes"].values()) - {None} == {0}
    assert run["loss"] is None
    assert run["latency_ns"] == {"from_due": None, "from_sent": None}


def test_while_running(cli: Cli) -> None:
    with flatout.serve("ntp", "127.0.0.1:0") as server:
        load = cli.start(
            *("load", "ntp", server.address, "--rate", "2k", "--for", "60s", "--warmup", "0"),
            *("--json", "r.json", "--html", "r.html", "--require", "rate>1M"),
        )
        wait_until(lambda: server.stats()["received"] > 1000, message="running")
        run = interrupted(load)
    assert run["verdict"] == "interrupted"
    outcomes = run["outcomes"]
    assert outcomes["sent"] >= 900
    assert outcomes["planned"] == outcomes["sent"] + outcomes["unsent"]
    assert outcomes["answered"] > 0.5 * outcomes["sent"]
    assert 0.2 < run["duration_s"] < 30
    assert run["rate_per_s"]["planned"] == pytest.approx(2000, rel=0.3)
    assert run["requirements"][0]["met"] is False, "130 comes before 1"
    assert (cli.folder / "r.html").stat().st_size > 10_000


def test_while_draining(cli: Cli) -> None:
    with FaultyServer("ntp", Faults(drop=0.5)) as server:
        load = cli.start(
            *("load", "ntp", server.address, "--rate", "1k", "--for", "500ms", "--warmup", "0", "--timeout", "50s"),
            *("--json", "r.json"),
        )
        wait_until(lambda: server.done()["received"] >= 50 and at_rest(server), message="draining")
        run = interrupted(load)
        done = server.stop()
    assert run["verdict"] == "interrupted"
    assert run["outcomes"]["sent"] == done["received"]
    assert run["outcomes"]["lost"] == done["dropped"]
    assert run["duration_s"] == 0.5


def at_rest(server: FaultyServer) -> bool:
    """Whether nothing came for a while in which hundreds of requests would have been due."""
    before = server.done()["received"]
    time.sleep(0.3)
    return server.done()["received"] == before


def test_in_the_bracket_of_a_search(cli: Cli) -> None:
    with flatout.serve("ntp", "127.0.0.1:0") as server:
        search = cli.start(
            *("limit", "ntp", server.address, "--max", "5k", "--loss", "50%", "--budget", "60s"),
            *("--json", "r.json", "--html", "r.html"),
        )
        wait_until(lambda: server.stats()["received"] > 1500, message="measuring")
        found = interrupted(search)
    assert found["limit"]["stopped_by"] == "interrupted"
    assert found["trials"], "the trial under way is kept"
    assert found["trials"][-1]["run_verdict"] == "interrupted"
    assert found["sentence"].startswith("Interrupted.")
    assert (cli.folder / "r.html").exists()


def test_a_second_ctrl_c_loses_nothing(cli: Cli) -> None:
    with flatout.serve("ntp", "127.0.0.1:0") as server:
        load = cli.start(
            "load",
            "ntp",
            server.address,
            "--rate",
            "2k",
            "--for",
            "60s",
            "--warmup",
            "0",
            "--json",
            "r.json",
            "--quiet",
        )
        wait_until(lambda: server.stats()["received"] > 500, message="running")
        load.interrupt()
        run = interrupted(load)
    assert run["verdict"] == "interrupted"


@pytest.mark.parametrize("ending", ["interrupt", "terminate"])
def test_a_server_ends_with_its_totals(cli: Cli, ending: str) -> None:
    serving = cli.start("serve", "ntp", "--listen", "127.0.0.1:0", "--json", "-")
    address = wait_until(lambda: _told_address(serving), message="serving")
    run = flatout.load("ntp", address, rate=2000, duration=0.3, warmup=0)
    serving.interrupt() if ending == "interrupt" else serving.process.terminate()
    done = serving.end(10)
    assert done.code == 0
    totals = json.loads(done.out.splitlines()[-1])
    assert totals["received"] == totals["answered"] == run.outcomes.sent


def _told_address(serving: Running) -> str | None:
    words = serving.err.read_text().split()
    return next((word.rstrip(",") for word in words if word.startswith("127.0.0.1:")), None)
