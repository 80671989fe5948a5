"""What is used of a quota is kept over restarts, whatever happens to file, folder and clock."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flatout.errors import UsageError
from flatout.server.usage import Usage


def test_it_is_read_again(tmp_path: Path) -> None:
    path = str(tmp_path / "usage")
    Usage(path).write({float(begin): begin * 10 for begin in range(6)})
    kept = Usage(path)
    assert kept.read() == {2.0: 20, 3.0: 30, 4.0: 40, 5.0: 50}, "the last four periods"
    assert kept.notes == []
    assert os.listdir(tmp_path) == ["usage"]


def test_no_file_holds_nothing(tmp_path: Path) -> None:
    for usage in (Usage(None), Usage(str(tmp_path / "usage"))):
        assert usage.read() == {}
        assert usage.notes == []
    Usage(None).write({1.0: 1})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "7",
        '{"periods": 7}',
        '{"periods": {"x": 1}}',
        '{"periods": {"1": 1e999}}',
        '{"periods": {"nan": 1}}',
        '{"periods": {"1": -1}}',
        "[" * 100_000,
    ],
)
def test_a_torn_file_is_noted_and_replaced(tmp_path: Path, text: str) -> None:
    path = tmp_path / "usage"
    path.write_text(text, encoding="ascii")
    usage = Usage(str(path))
    assert usage.read() == {}
    assert len(usage.notes) == 1
    assert "cannot be read" in usage.notes[0]
    usage.write({1.0: 5})
    assert usage.notes == []
    assert Usage(str(path)).read() == {1.0: 5}


def test_a_full_disk_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "usage"
    (tmp_path / "usage.new").symlink_to("/dev/full")
    usage = Usage(str(path))
    usage.write({1.0: 5})
    assert "cannot be written: No space left" in usage.notes[0]
    (tmp_path / "usage.new").unlink()
    usage.write({1.0: 5})
    assert usage.notes == []


def test_a_folder_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="no folder /nowhere"):
        Usage("/nowhere/usage")


def test_its_name_in_another_root(tmp_path: Path) -> None:
    (tmp_path / "root" / "var").mkdir(parents=True)
    inside = Usage(str(tmp_path / "root" / "var" / "usage"))
    inside.enter(str(tmp_path / "root"))
    assert inside._path == "/var/usage"
    with pytest.raises(UsageError, match="not inside the new root"):
        Usage(str(tmp_path / "usage")).enter(str(tmp_path / "root"))
