"""Numbers with their units: rounding at the seams, and what must never be rounded away."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.view import format as fmt


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (None, "–"),
        (0, "0 ns"),
        (850, "850 ns"),
        (999.7, "1.00 µs"),
        (1_000, "1.00 µs"),
        (12_345, "12.3 µs"),
        (999_960, "1.00 ms"),
        (1_234_567, "1.23 ms"),
        (123_456_789, "123 ms"),
        (2_500_000_000, "2.50 s"),
        (4_000_000_000_000, "4,000 s"),
    ],
)
def test_duration(ns, text):
    assert fmt.duration(ns) == text


@pytest.mark.parametrize(
    ("per_s", "text", "short"),
    [
        (None, "–", "–"),
        (0, "0/s", "0 /s"),
        (12.5, "12.5/s", "12.5 /s"),
        (999.9, "1,000/s", "1.00 k/s"),
        (204_000.4, "204,000/s", "204 k/s"),
        (1_999_999, "1,999,999/s", "2.00 M/s"),
    ],
)
def test_rate(per_s, text, short):
    assert fmt.rate(per_s) == text
    assert fmt.rate_short(per_s) == short


@pytest.mark.parametrize(
    ("share", "text"),
    [(None, "–"), (0.0, "0 %"), (1.0, "100 %"), (0.0052, "0.52 %"), (0.00002, "0.002 %"), (1e-9, "< 0.0001 %")],
)
def test_percent(share, text):
    assert fmt.percent(share) == text


@given(st.floats(min_value=1e-12, max_value=1 - 1e-12))
def test_a_part_never_reads_as_nothing_or_all(share):
    assert fmt.percent(share) not in ("0 %", "100 %", "0.00 %", "100.00 %")


@pytest.mark.parametrize(("value", "text"), [(4.0, "4 s"), (5.25, "5.2 s"), (59.97, "1 min 00 s"), (125, "2 min 05 s")])
def test_seconds(value, text):
    assert fmt.seconds(value) == text


@given(st.text())
def test_plain_text_has_nothing_a_terminal_obeys(text):
    assert fmt.plain(text).isprintable()


def test_memory():
    assert [fmt.memory(size) for size in (None, 512, 4096, 48_300_032)] == ["–", "512 B", "4.00 KiB", "46.1 MiB"]


def test_offsets_have_a_sign() -> None:
    assert [fmt.offset(ns) for ns in (-1234.5, 0, 7, 2.5e9)] == ["-1.23 µs", "+0 ns", "+7 ns", "+2.50 s"]
