"""Rate profiles: steps, ramps, slopes, files; and what makes no sense."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

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


# --- Forms of other programs ---

STEPS = "2\n1500 1000\n2000 500\n"
SLOPES = "2\n2000 500\n1000 -1000\n"


def test_tcpscalers_steps_are_milliseconds_and_rates() -> None:
    assert profile.parse(STEPS, "tcpscaler-steps") == (Segment(1.5, 1000, 1000), Segment(2.0, 500, 500))


def test_tcpscalers_slopes_begin_at_the_rate() -> None:
    assert profile.parse(SLOPES, "tcpscaler-slopes", 250.0) == (Segment(2.0, 250, 1250), Segment(1.0, 1250, 250))
    assert profile.parse(SLOPES) == (Segment(2.0, 0, 1000), Segment(1.0, 1000, 0)), "a falling line can be nothing else"


def test_slopes_alone() -> None:
    assert profile.parse("700 8000ms, -400 5s") == (Segment(8.0, 0, 5600), Segment(5.0, 5600, 3600))
    assert profile.parse("700 8s", "slopes", 100.0) == (Segment(8.0, 100, 5700),)
    assert profile.parse("1k/s 500ms, 0 1m", "slopes") == (Segment(0.5, 0, 500), Segment(60.0, 500, 500))


def test_what_could_be_either_has_to_be_named() -> None:
    with pytest.raises(UsageError, match="--profile-format tcpscaler-steps or tcpscaler-slopes"):
        profile.parse(STEPS)


def test_long_files_and_long_times_are_fine() -> None:
    lines = 5000
    made = profile.parse(f"{lines}\n" + "4300000 1000\n" * lines, "tcpscaler-steps")
    assert (len(made), made[-1].seconds) == (lines, 4300.0)
    assert profile.parse("1\n4300000 30000\n", "tcpscaler-slopes")[0].to_per_s == 129e6


def test_a_profile_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("1000 8s"))
    assert profile.parse("-") == (Segment(8.0, 1000, 1000),)


@pytest.mark.parametrize(
    ("text", "form", "start_per_s", "why"),
    [
        ("3\n1000 1\n2000 2\n", "tcpscaler-steps", None, "number of those that follow"),
        ("many\n1000 1\n", "tcpscaler-steps", None, "number of those that follow"),
        ("2\n1000 1\n1s 2\n", "tcpscaler-steps", None, "line 3"),
        ("1\n1000 -1\n", "tcpscaler-steps", None, "below 0"),
        ("1\n1000 -1\n", "tcpscaler-slopes", None, "below 0"),
        ("1\n1000000 900000\n", "tcpscaler-slopes", None, "would rise"),
        ("1\n0 5\n", "tcpscaler-steps", None, "longer than 0"),
        ("0\n# none", "tcpscaler-steps", None, "empty"),
        ("700 8", "slopes", None, "time with its unit"),
        ("1000 8s", "rates", 5.0, "not both"),
        (STEPS, "tcpscaler-steps", 5.0, "not both"),
        ("1000 8s", "smoke", None, "profile format"),
    ],
)
def test_foreign_forms_that_make_no_sense(text: str, form: Any, start_per_s: float | None, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        profile.parse(text, form, start_per_s)
