"""The code map of ARCHITECTURE.md is current, and each file says its purpose in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

import code_map


def test_the_code_map_is_current() -> None:
    _, section, _ = code_map.split(code_map.PAGE.read_text(encoding="utf-8"))
    assert section == code_map.render(), "run `make code-map`"


def test_a_purpose_is_one_short_sentence() -> None:
    files = [*(code_map.ROOT / "crates").glob("*/src/**/*.rs"), *(code_map.ROOT / "python").rglob("*.py")]
    assert len(files) > 200, "the search for files finds them"
    long = {str(path.relative_to(code_map.ROOT)): len(code_map.purpose(path)) for path in files if path.stat().st_size}
    assert {name: length for name, length in long.items() if length > 118} == {}


def test_a_file_without_a_purpose_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(code_map, "ROOT", tmp_path)
    bare = tmp_path / "bare.rs"
    bare.write_text("fn main() {}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"bare\.rs"):
        code_map.purpose(bare)
