"""Host logs of a fleet's other hosts in an experiment: begun and ended inside their workers, brought here."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("distributed")

from conftest import wait_until
from flatout.experiments import fleet_logs
from flatout.fleet.cluster import connected


def test_the_log_of_another_host_comes_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flatout.experiments.fleet_logs.platform.node", lambda: "this one")
    with connected("local:1") as fleet:
        assert len(fleet_logs.hosts(fleet)) == 1
        fleet_logs.begin(fleet, "run")
        ends_s = time.monotonic() + 0.3
        wait_until(lambda: time.monotonic() > ends_s)
        (text,) = fleet_logs.end(fleet, "run").values()
    heading, *rows = text.splitlines()
    assert "cpu" in heading
    assert len(rows) >= 1
    assert all(row.count(",") == heading.count(",") for row in rows)


def test_workers_of_this_host_have_its_log() -> None:
    with connected("local:1") as fleet:
        assert fleet_logs.hosts(fleet) == {}
        assert fleet_logs.end(fleet, "run") == {}
