"""`flatout compare --again`: the new server is loaded once more before a verdict, and the run is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

import flatout
from conftest import Cli

ASKED = ("--rate", "500", "--for", "0.3s", "--warmup", "0", "--quiet")


@pytest.fixture
def kept(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("FLATOUT_STORE", str(tmp_path / "runs.db"))
    return cli


def test_one_run_a_side_is_run_again_in_turn(kept: Cli, ntp_server: flatout.Server) -> None:
    with flatout.serve("ntp", "127.0.0.1:0") as other:
        for label, server in (("before", ntp_server), ("after", other)):
            assert kept("load", "ntp", server.address, *ASKED, "--label", label).code in (0, 4)
        ran = kept("compare", "before", "after", "--again", "1", "--tolerance", "90%", "--json", "-")
    (retry,) = ran.json["retries"]
    assert (retry["outcome"], retry["a"], retry["b"]) == ("invalid", 3, 4)
    assert "A 3, B 4" in ran.err
    listed = kept("runs", "list", "--json", "-").json["runs"]
    assert [run["label"] for run in listed] == ["after", "before", "after", "before"]
    assert [run["target"] for run in listed] == [other.address, ntp_server.address] * 2


def test_a_target_that_is_gone_ends_it(kept: Cli, ntp_server: flatout.Server) -> None:
    assert kept("load", "ntp", ntp_server.address, *ASKED, "--label", "before").code in (0, 4)
    with flatout.serve("ntp", "127.0.0.1:0") as other:
        assert kept("load", "ntp", other.address, *ASKED, "--label", "after").code in (0, 4)
        gone = other.address
    ran = kept("compare", "after", "before", "--again", "1", "--tolerance", "90%")
    assert "after is not run again" in ran.err
    listed = kept("runs", "list", "--label", "after", "--json", "-").json["runs"]
    assert [run["target"] for run in listed] == [gone]
