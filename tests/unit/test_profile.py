"""Rate profiles: steps, ramps, slopes, files; and what makes no sense."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.errors import UsageError
from flatout.scenario import profile
from flatout.scenario.model import Segment


def test_steps_follow_each_other() -> None:
    assert profile.parse("1000 8s, 2000 5s") == (Segment(8.0, 1000.0, 1000.0), Segment(5.0, 2000.0, 2000.0))


def test_a_ramp_goes_from_one_rate_to_another() -> None:
    assert profile.parse("10k..200k 30s") == (Segment(30.0, 1e4, 2e5),)
    assert profile.ramp("200k..10k", 30.0) == (Segment(30.0, 2e5, 1e4),)


def test_a_slope_begins_where_the_segment_before_ended() -> None:
    up, down = profile.parse("1000 8s, +500/s 10s, -200/s 5s")[1:]
    assert up == Segment(10.0, 1000.0, 6000.0)
    assert down == Segment(5.0, 6000.0, 5000.0)


def test_a_slope_may_come_first_and_begins_at_nothing() -> None:
    assert profile.parse("+1k/s 2s") == (Segment(2.0, 0.0, 2000.0),)


def test_a_rest_between_steps() -> None:
    assert profile.parse("1k 1s, 0 1s, 1k 1s")[1] == Segment(1.0, 0.0, 0.0)


def test_steady() -> None:
    assert profile.steady(5.0, 2.0) == (Segment(2.0, 5.0, 5.0),)


def test_a_file_has_one_segment_a_line_and_comments(tmp_path: Path) -> None:
    file = tmp_path / "morning.txt"
    file.write_text("# a morning\n1000 8s\n\n2000 5s, 3000 1s  # more\n", encoding="utf-8")
    assert profile.parse(str(file)) == profile.parse("1000 8s, 2000 5s, 3000 1s")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        ",",
        "1000",
        "/nowhere/at/all",
        "1000 8s 9s",
        "fast 8s",
        "1000 long",
        "1000 0s",
        "-5 8s",
        "1..2..3 8s",
        "0 8s",
        "1k 1s, -2k/s 1s",
        "+500/s",
        "1e99 1s",
        "0..0 1s",
    ],
)
def test_profiles_that_mean_nothing(text: str) -> None:
    with pytest.raises(UsageError):
        profile.parse(text)


@pytest.mark.parametrize("text", ["", "10k", "10k..", "..10k", "0..10k", "10k..20k 5s", "-1..5"])
def test_ramps_that_mean_nothing(text: str) -> None:
    with pytest.raises(UsageError):
        profile.ramp(text, 1.0)


def test_a_ramp_needs_time() -> None:
    with pytest.raises(UsageError):
        profile.ramp("1k..2k", 0.0)


def test_a_folder_is_no_profile(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither a file"):
        profile.parse(str(tmp_path))


segments = st.lists(
    st.tuples(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(1, 1000)), min_size=1, max_size=8
)


@given(segments)
def test_written_ramps_are_read_as_they_were_meant(parts: list[tuple[int, int, int]]) -> None:
    text = ", ".join(f"{a}..{b} {s}s" for a, b, s in parts)
    assert profile.parse(text) == tuple(Segment(float(s), float(a), float(b)) for a, b, s in parts)
