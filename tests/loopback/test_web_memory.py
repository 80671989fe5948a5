"""Memory of the page to watch at 1,000 updates a second: bench/web.py in short."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import pytest

from conftest import ROOT

pytest.importorskip("tornado")
pytest.importorskip("uvicorn")


@pytest.mark.slow
def test_many_updates_leave_memory_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT / "bench")])
    rows: list[dict[str, Any]] = list(importlib.import_module("web").watched(30, 3, 1000))
    # What is loaded late and compiled is there by then; a leak of a little for each event would show.
    late = [row for row in rows if row["t_s"] > 9]

    def growth(name: str) -> float:
        values = [row[name] for row in late]
        return max(values) - min(values)

    # On a busy machine they are fewer.
    assert max(row["updates_per_s"] for row in late) > 300
    assert max(row["behind_s"] for row in late) < 3
    # A word that comes and goes is some nodes; one left for each update would be thousands.
    assert growth("nodes") < 100
    assert growth("listeners") < 20
    assert growth("heap_mib") < 2
    assert growth("server_mib") < 4
    assert growth("renderer_mib") < 16
