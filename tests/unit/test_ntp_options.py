"""NTP's options: what the engine is told, and what is refused before anything is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flatout.errors import UsageError
from flatout.protocols import protocol
from flatout.protocols.ntp.requests import extension_fields, key_of


def numbers(**given: Any) -> list[tuple[str, int]]:
    known = protocol("ntp")
    return known.for_engine(known.filled(given))


def test_the_engine_gets_whole_numbers() -> None:
    assert numbers() == [("version", 4), ("mode", 3), ("interleaved", 0), ("offset", 0), ("correction_ns", 0)]
    assert ("mode", 1) in numbers(mode=1, version=3)
    assert ("interleaved", 1) in numbers(interleaved=True)
    measured = numbers(offset=True, offset_correction="-1.5us")
    assert ("correction_ns", -1500) in measured
    assert ("correction_ns", 300) in numbers(offset=True, offset_correction="300ns")
    fields = numbers(extension_field="0104:16,0xf323:28")
    assert [value for name, value in fields if name == "field"] == [0x0104_0010, 0xF323_001C]


@pytest.mark.parametrize(
    "given",
    [
        {"interleaved": True, "version": 3},
        {"interleaved": True, "mode": 1},
        {"offset_correction": "1us"},
        {"offset": True, "offset_correction": "soon"},
        {"extension_field": "F323:28", "version": 3},
        {"extension_field": "F323:16"},
        {"extension_field": "F323:30"},
        {"extension_field": "F323:12"},
        {"extension_field": "F3231:28"},
        {"extension_field": "F323"},
        {"extension_field": ",".join(["F323:28"] * 9)},
        {"extension_field": "F323:1400"},
        {"key_id": 1},
        {"key_file": "/nowhere/keys"},
    ],
    ids=str,
)
def test_what_does_not_fit_is_bad_use(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        numbers(**given)


def test_a_short_last_field_is_no_mac_where_one_follows(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("1 M secret\n")
    assert ("field", 0xF323_0010) in numbers(extension_field="F323:16", key_file=str(keys))
    assert extension_fields("F323:28") == [(0xF323, 28)]


def test_key_files_of_chrony_and_ntpd(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(
        "# ntpd's\n1 M tulip\n2 SHA1 00112233445566778899aabbccddeeff00112233\n! chrony's\n\n"
        "3 AES128 HEX:000102030405060708090a0b0c0d0e0f\n4 SHA1 ASCII:00112233445566778899aabb\n5 two-columns # MD5\n"
    )
    path = str(keys)
    assert key_of(path, None) == key_of(path, 1) == (1, 1, b"tulip")
    assert key_of(path, 2) == (2, 2, bytes.fromhex("00112233445566778899aabbccddeeff00112233"))
    assert key_of(path, 3) == (3, 3, bytes(range(16)))
    assert key_of(path, 4) == (4, 2, b"00112233445566778899aabb")
    given = numbers(key_file=path, key_id=3)
    words = [value.to_bytes(8, signed=True) for name, value in given if name == "key"]
    assert (dict(given)["key_type"], b"".join(words)) == (3, bytes(range(16)))
    with pytest.raises(UsageError, match="no key 9"):
        key_of(path, 9)


@pytest.mark.parametrize(
    "line", ["1", "x MD5 y", "1 SHA256 abc", "1 AES128 HEX:0011", "1 MD5 HEX:0g", "0 MD5 abc", "1 MD5 HEX:"], ids=str
)
def test_broken_key_files_name_the_line(tmp_path: Path, line: str) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"# first\n{line}\n")
    with pytest.raises(UsageError, match="line 2"):
        key_of(str(keys), None)
