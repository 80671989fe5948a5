"""Text files of every kind: a byte order mark is skipped, other encodings are named, and so are bytes that are none."""

from __future__ import annotations

import codecs
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import results
from hypothesis import given
from hypothesis import strategies as st

import flatout
from flatout import text_files
from flatout.errors import UsageError
from flatout.protocols import layout_of
from flatout.protocols.dns import zone
from flatout.protocols.record import rows
from flatout.scenario import profile

ZONE = "$ORIGIN lab.test.\n@ 60 IN SOA ns hostmaster 1 2 3 4 5\n@ 60 IN NS ns\nns 60 IN A 192.0.2.1\n"
WIDE = ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]
MARKS = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE}
MARKS |= {"utf-32-le": codecs.BOM_UTF32_LE, "utf-32-be": codecs.BOM_UTF32_BE}
# What reads each kind of file, and a right text of it.
READERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "zone": (lambda path: sorted(zone.zone_entries(str(path))), ZONE),
    "zone with a remark": (lambda path: sorted(zone.zone_entries(str(path))), f"; remark\n{ZONE}"),
    "profile": (profile.parse, "1000 8s\n+5/s 5s\n"),
    "profile with a remark": (profile.parse, "# remark\n1000 8s\n"),
    "tcpscaler": (lambda path: profile.parse(path, "tcpscaler-steps"), "1\n1000 5\n"),
    "values": (lambda path: rows.lines(layout_of("id:u4 x:u4"), str(path)), "id,x\n1,2\n3,4\n"),
    "result of a load": (flatout.read, results.load().to_json().decode()),
    "result of a search": (flatout.read, results.limit().to_json().decode()),
}


@pytest.fixture(params=READERS)
def kind(request: pytest.FixtureRequest) -> tuple[Callable[[Path], Any], str]:
    """How a kind of file is read, and a text of it."""
    return READERS[request.param]


def test_a_mark_of_utf_8_is_skipped(kind: tuple[Callable[[Path], Any], str], tmp_path: Path) -> None:
    read, text = kind
    plain, marked = tmp_path / "plain", tmp_path / "marked"
    plain.write_text(text, encoding="utf-8")
    marked.write_text(text, encoding="utf-8-sig")
    assert read(marked) == read(plain)


@pytest.mark.parametrize("encoding", WIDE)
@pytest.mark.parametrize("with_mark", [True, False])
def test_other_encodings_are_named(
    kind: tuple[Callable[[Path], Any], str], encoding: str, with_mark: bool, tmp_path: Path
) -> None:
    read, text = kind
    file = tmp_path / "wide"
    file.write_bytes((MARKS[encoding] if with_mark else b"") + text.encode(encoding))
    name = encoding[:6].upper()
    with pytest.raises(UsageError, match=rf"wide.*: this is {name}, .*iconv -f {name} -t UTF-8") as refused:
        read(file)
    assert str(refused.value).count("this is UTF") == 1


def test_files_within_a_zone_are_read_alike(tmp_path: Path) -> None:
    whole, within = tmp_path / "whole", tmp_path / "within"
    whole.write_text(f"{ZONE}$INCLUDE within\n", encoding="utf-8-sig")
    within.write_text("www 60 IN A 192.0.2.9\n", encoding="utf-8-sig")
    assert any(b"\3www\3lab" in key for key, _ in zone.zone_entries(str(whole)))
    within.write_text("www 60 IN A 192.0.2.9\n", encoding="utf-16")
    with pytest.raises(UsageError, match="within: this is UTF-16"):
        zone.zone_entries(str(whole))


@pytest.mark.parametrize("which", ["zone", "profile", "values"])
def test_a_byte_that_is_no_utf_8_is_named_with_its_line(which: str, tmp_path: Path) -> None:
    read, text = READERS[which]
    file = tmp_path / "latin"
    file.write_bytes(text.encode() + "; # ä\n".encode("latin-1"))
    with pytest.raises(UsageError, match=rf"latin.*, line {text.count(chr(10)) + 1}: byte 0xe4 is no UTF-8"):
        read(file)


def test_standard_input_is_read_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    def given_(data: bytes) -> Any:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="ascii"))
        return profile.parse("-")

    assert given_("1000 8s # ä".encode("utf-8-sig")) == profile.parse("1000 8s")
    for data, why in (("1000 8s".encode("utf-16"), "UTF-16"), (b"1000 8s\n#\xe4", "line 2: byte 0xe4")):
        with pytest.raises(UsageError, match=f"standard input.*{why}"):
            given_(data)
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError, match="standard input is closed"):
        profile.parse("-")


def test_text_that_is_given_may_begin_with_a_mark() -> None:
    assert profile.parse("\ufeff1000 8s") == profile.parse("1000 8s")
    assert layout_of("\ufeffid:u4 seq:u4") == layout_of("id:u4 seq:u4")
    whole = results.load().to_json()
    assert flatout.from_json(f"\ufeff{whole.decode()}") == flatout.from_json(codecs.BOM_UTF8 + whole) == results.load()


def test_the_file_is_named_where_it_is_no_result(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    file.write_text("{}", encoding="utf-8")
    with pytest.raises(UsageError, match=r"r\.json': this is no result of flatout"):
        flatout.read(file)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), min_size=2))
def test_any_text_reads_back(text: str) -> None:
    assert text_files.decode(text.encode(), "it") == text_files.decode(text.encode("utf-8-sig"), "it") == text
    for encoding in ("utf-16", "utf-32"):
        with pytest.raises(UsageError, match=encoding.upper()):
            text_files.decode(text.encode(encoding), "it")


@given(st.binary(max_size=20))
def test_any_bytes_are_text_or_refused(data: bytes) -> None:
    refused = ""
    try:
        assert text_files.decode(data, "it").encode() == data.removeprefix(codecs.BOM_UTF8)
    except UsageError as error:
        refused = str(error)
    assert not refused or refused.startswith("it")
