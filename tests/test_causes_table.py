"""The table of causes in docs/findings.md is current, and every cause has a test that provokes it or a reason."""

from __future__ import annotations

import causes_table
from flatout.analysis import causes


def test_the_table_is_current() -> None:
    _, table, _ = causes_table.split(causes_table.PAGE.read_text(encoding="utf-8"))
    assert table == causes_table.render(), "make causes-table"


def test_every_cause_is_provoked_or_says_why_not() -> None:
    recorded = causes_table.recorded()
    provoked = set(causes_table.provoking())
    assert provoked | set(causes_table.NOT_PROVOKED) == set(recorded.CASES)
    assert provoked & set(causes_table.NOT_PROVOKED) == set()
    assert len(provoked) >= 16


def test_every_file_of_a_cause_is_asked() -> None:
    folder = causes_table.ROOT / "python/flatout/analysis/causes"
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert {find.__module__.rpartition(".")[2] for find in causes.CAUSES} == files
