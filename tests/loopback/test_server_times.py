"""What answers say of the server's time, and a ladder of rates that prints it, on the command line."""

from __future__ import annotations

import json

import pytest

import flatout
from conftest import Cli, until_good

SHORT = ("--rate", "500", "--for", "400ms", "--warmup", "0", "--timeout", "200ms")


@pytest.fixture
def server(ntp_server: flatout.Server) -> flatout.Server:
    """Any server."""
    return ntp_server


def test_offsets_are_measured_where_asked_for(cli: Cli, server: flatout.Server) -> None:
    plain = cli("load", "ntp", server.address, *SHORT, "--json", "-", "--quiet").json
    assert plain["offset_ns"] is None
    assert plain["response_ns"]["count"] == plain["outcomes"]["answered"] > 0
    shifted = cli("load", "ntp", server.address, *SHORT, "--offset", "--offset-correction", "-2s", "--json", "run.json")
    assert "\noffset " in shifted.out, shifted.out
    offset = json.loads((cli.folder / "run.json").read_text())["offset_ns"]
    # Both ends read one clock; what is asked to be subtracted is all that there is.
    assert 1.9e9 < offset["min"] <= offset["p50"] <= offset["max"] < 2.1e9
    assert abs(offset["mean"] - 2e9) < 0.05e9
    assert offset["count"] == json.loads((cli.folder / "run.json").read_text())["outcomes"]["answered"]


def test_a_sweep_prints_a_line_a_rate(cli: Cli, server: flatout.Server) -> None:
    ladder = ("--sweep", "500..2k", "--step", "2", "--for", "200ms", "--warmup", "0", "--timeout", "200ms")
    done = until_good(
        lambda: cli("limit", "ntp", server.address, *ladder, "--json", "sweep.json"), lambda done: done.code == 0
    )
    result = json.loads((cli.folder / "sweep.json").read_text())
    assert (result["kind"], result["stopped_by"], [row["rate_per_s"] for row in result["rows"]]) == (
        *("sweep", "end"),
        [500, 1000, 2000],
    )
    assert all(row["tallies"]["basic"] == 1 and row["response_by"] == "server" for row in result["rows"])
    lines = done.out.splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["500", "1000", "2000"]
    assert "100.00%" in lines[2]


def test_flags_of_a_search_and_of_a_sweep_do_not_mix(cli: Cli, server: flatout.Server) -> None:
    for wrong in (("--step", "2"), ("--sweep", "1k..2k", "--p99", "5ms"), ("--sweep", "2k..1k"), ("--sweep", "1k")):
        assert cli("limit", "ntp", server.address, *wrong).code == 2, wrong
