"""Namespaces as hosts of a fleet: one ledger of what all lost, and a search that goes on when one of them is killed."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from test_fleet_hosts import Laboratory, Start, fleet, load, result_of  # noqa: F401

from conftest import Cli, wait_until

pytestmark = pytest.mark.root


def rule(lab: Laboratory, text: str) -> None:
    """Before the server, after the counter of what comes."""
    lab.nft(f"add rule ip t i udp dport 1123 {text}")


def closes(ledger: dict[str, Any], outcomes: dict[str, Any]) -> None:
    """What was planned was sent or not, and what was lost is at a place or unexplained."""
    lines = {side: [line for line in ledger["lines"] if line["side"] == side] for side in ("unsent", "lost")}
    assert sum(line["count"] or 0 for line in lines["unsent"]) == outcomes["unsent"]
    assert sum(line["count"] or 0 for line in lines["lost"]) + ledger["unexplained"] == outcomes["lost"]
    assert ledger["sent"] == outcomes["sent"]
    parts = ("answered", "late", "lost", "refused", "invalid")
    assert ledger["sent"] == sum(outcomes[name] for name in parts)


def test_what_a_filter_drops_of_all_hosts_is_explained_once(fleet: Start, cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    lab, where = fleet(3)
    rule(lab, "numgen inc mod 10 0 drop")
    result = result_of(load(cli, lab, where, "2s"), tmp_path / "all.json")
    outcomes, ledger = result["outcomes"], result["ledger"]
    assert outcomes["lost"] == -(-outcomes["sent"] // 10), "the first of ten each time"
    closes(ledger, outcomes)
    at_filter = [line for line in ledger["lines"] if line["place"] == "firewall"]
    assert sum(line["count"] for line in at_filter) == outcomes["lost"]
    assert [line["counted"] for line in at_filter] == [None], "each host read the same counter"
    assert ledger["unexplained"] == 0
    # A busy machine may have something of its own to say.
    explained = {finding["name"]: finding["explains"] for finding in result["findings"]}
    assert explained["firewall"] == outcomes["lost"]


def test_a_search_goes_on_without_a_host_that_is_killed(fleet: Start, cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    lab, where = fleet(3)
    rule(lab, "limit rate over 3000/second burst 20 packets drop")
    options = ("--min", 500, "--max", "20k", "--loss", "1%", "--within", "40%", "--budget", "20s", "--flows", 12)
    running = cli.start(
        "limit", "ntp", "10.98.0.1:1123", "--fleet", where, *options, "--json", "all.json", inside=lab.center
    )
    wait_until(lambda: lab.sent_packets() > 600, 60, "searching")
    lab.processes[-1].send_signal(signal.SIGKILL)
    ran = running.end(90)
    found = json.loads((tmp_path / "all.json").read_text())
    lost = [trial for trial in found["trials"] if trial["lost_hosts"]]
    assert [trial["verdict"] for trial in lost] == ["invalid"], ran.err
    assert lost[0]["why"].startswith("lost during the run: ")
    assert "10.98.0.12" in lost[0]["lost_hosts"][0]
    after = found["trials"][found["trials"].index(lost[0]) + 1 :]
    assert after
    assert all(len(trial["nodes"]) == 2 for trial in after)
    # The rest may be as noisy as the machine is.
    assert found["limit"]["value"] is not None, found["sentence"]
    assert 500 <= found["limit"]["value"] <= 4500, found["sentence"]
