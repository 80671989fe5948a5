"""A stored scenario once more, and the option whose fallback has to be said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import flatout
from conftest import Cli
from flatout.runner import run as running

SHORT = ("--rate", "2k", "--for", "300ms", "--warmup", "0s", "--timeout", "200ms")


def test_a_stored_scenario_runs_again_with_all_its_settings(cli: Cli, tmp_path: Path) -> None:
    stored = tmp_path / "before.json"
    with flatout.serve("ntp", "127.0.0.1:0") as server, flatout.serve("ntp", "127.0.0.1:0") as other:
        cli("load", "ntp", server.address, *SHORT, "--seed", "7", "--json", str(stored), "--quiet")
        before = json.loads(stored.read_text())
        again = json.loads(cli("rerun", str(stored), "--json", "-", "--quiet").out)
        assert again["scenario"] == before["scenario"]
        assert again["outcomes"]["planned"] == before["outcomes"]["planned"] == 600
        asked = other.stats()["received"]
        moved = json.loads(cli("rerun", str(stored), "--target", other.address, "--json", "-", "--quiet").out)
        assert moved["scenario"] == {**before["scenario"], "target": other.address}
        assert other.stats()["received"] > asked


def test_what_could_be_asked_for_once_still_runs_again(cli: Cli, tmp_path: Path) -> None:
    stored = tmp_path / "before.json"
    with flatout.serve("ntp", "127.0.0.1:0") as server:
        done = cli("load", "ntp", server.address, *SHORT, "--json", str(stored), "--quiet")
        before = json.loads(stored.read_text())
        assert done.code in (0, 4)
        # '100 100ms, 200 100ms, -100 100ms' was slopes from 0 on.
        rates = [(0.0, 1000.0), (1000.0, 3000.0), (3000.0, 2000.0)]
        before["scenario"]["profile"] = [{"seconds": 0.1, "from_per_s": a, "to_per_s": b} for a, b in rates]
        stored.write_text(json.dumps(before), encoding="utf-8-sig")
        again = cli("rerun", str(stored), "--json", "-", "--quiet").json
    assert again["scenario"] == before["scenario"]
    assert again["outcomes"]["planned"] == 500


def test_segmented_requests_arrive_one_by_one(cli: Cli) -> None:
    with flatout.serve("ntp", "127.0.0.1:0") as server:
        options = ("--rate", "200k", "--for", "300ms", "--warmup", "0s", "--gso", "--json", "-", "--quiet")
        found = json.loads(cli("load", "ntp", server.address, *options).out)
        server.stop()
    assert found["scenario"]["gso"] is True
    assert found["outcomes"]["answered"] > 0
    assert found["outcomes"]["invalid"] == found["outcomes"]["unmatched"] == 0
    stats = server.stats()
    assert stats["received"] + stats["kernel_drops"] == found["outcomes"]["sent"]
    assert sum(stats["dropped"].values()) == 0


def test_a_kernel_that_cannot_segment_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "kernel", lambda: {"segmentation": False, "stamps": True})
    with pytest.raises(flatout.UsageError, match="--gso"):
        flatout.load("ntp", "127.0.0.1:9", rate="1k", duration=0.1, gso=True)
