"""Rate profiles: steps, ramps, slopes, files; and what makes no sense."""

from __future__ import annotations

import io
import os
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


def test_a_slope_that_comes_first_begins_at_the_rate_beside_it() -> None:
    assert profile.parse("+1k/s 2s", None, 500.0) == (Segment(2.0, 500.0, 2500.0),)
    assert profile.parse("+1k/s 2s, 5 1s", "rates", 0.0) == (Segment(2.0, 0.0, 2000.0), Segment(1.0, 5.0, 5.0))


@pytest.mark.parametrize(
    ("text", "form", "ways"),
    [
        ("+1k/s 2s", None, ["--rate", "'0..2000 2s'"]),
        ("-1k/s 2s, 1k 1s", "rates", ["--rate", "'2000..0 2s'"]),
        ("700 8s", "slopes", ["--rate"]),
        ("1\n1000 5\n", "tcpscaler-slopes", ["--rate"]),
    ],
)
def test_nothing_begins_at_0_unasked(text: str, form: Any, ways: list[str]) -> None:
    with pytest.raises(UsageError, match="begins with a slope") as refused:
        profile.parse(text, form)
    assert all(way in str(refused.value) for way in ways)


@pytest.mark.parametrize("text", ["100 1s, 200 1s, -100 1s", "-100 1s", "1k 1s, +100 1s", "1k 1s\n-5 100ms # down"])
def test_an_entry_with_a_sign_has_two_readings(text: str) -> None:
    with pytest.raises(UsageError, match=r"write '[+-]\d+/s \d+m?s'; .* add --profile-format slopes"):
        profile.parse(text)


@given(st.lists(st.sampled_from(["100 1s", "10..20 2s", "+5/s 1s", "-1/s 1s", "1k 1"]), min_size=1, max_size=6))
def test_an_entry_means_the_same_beside_others(entries: list[str]) -> None:
    together = profile.parse(", ".join(["50 1s", *entries]))[1:]
    before = 50.0
    for entry, segment in zip(entries, together, strict=True):
        assert profile.parse(f"{before!r} 1s, {entry}")[1] == segment
        before = segment.to_per_s


@pytest.mark.parametrize("text", ["1k 5s, ", ", 1k 5s", "1k 5s,, 2k 5s", "1k 5s,\n2k 5s", "1k 5s, # 2k 5s"])
@pytest.mark.parametrize("form", [None, "slopes"])
def test_an_empty_entry_is_refused(text: str, form: Any) -> None:
    with pytest.raises(UsageError, match="empty entry"):
        profile.parse(text, form, None if form is None else 1.0)


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
    with pytest.raises(UsageError, match="Is a directory"):
        profile.parse(str(tmp_path))


def test_a_file_may_have_any_name_and_be_named_in_any_way(tmp_path: Path) -> None:
    steps = profile.parse("1000 8s, 2000 5s")
    for name in ("1k 5s", "a b.txt", "plain", "b\udcfc"):
        file = tmp_path / name
        file.write_text("1000 8s\n2000 5s\n", encoding="utf-8")
        for named in (str(file), file, os.fsencode(file)):
            assert profile.parse(named) == steps


def test_what_can_be_a_profile_is_no_files_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("1k 5s").write_text("1 1s", encoding="utf-8")
    assert profile.parse("1k 5s") == (Segment(5.0, 1000, 1000),)
    assert profile.parse(Path("1k 5s")) == profile.parse("./1k 5s") == (Segment(1.0, 1, 1),)


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
    assert profile.parse(SLOPES, "tcpscaler-slopes", 0.0) == (Segment(2.0, 0, 1000), Segment(1.0, 1000, 0))


def test_slopes_alone() -> None:
    assert profile.parse("700 8000ms, -400 5s", "slopes", 0.0) == (Segment(8.0, 0, 5600), Segment(5.0, 5600, 3600))
    assert profile.parse("700 8s", "slopes", 100.0) == (Segment(8.0, 100, 5700),)
    assert profile.parse("1k/s 500ms, 0 1m", "slopes", 0.0) == (Segment(0.5, 0, 500), Segment(60.0, 500, 500))


def test_what_could_be_either_has_to_be_named() -> None:
    for text in (STEPS, SLOPES, SLOPES.replace("\n", "\r\n")):
        with pytest.raises(UsageError, match=r"--profile-format tcpscaler-steps, or --profile-format tcpscaler-slopes"):
            profile.parse(text)
    with pytest.raises(UsageError, match="profile '1': write steps"):
        profile.parse("1,000 8s, 2,000 8s")


def test_long_files_and_long_times_are_fine() -> None:
    lines = 5000
    made = profile.parse(f"{lines}\n" + "4300000 1000\n" * lines, "tcpscaler-steps")
    assert (len(made), made[-1].seconds) == (lines, 4300.0)
    assert profile.parse("1\n4300000 30000\n", "tcpscaler-slopes", 0.0)[0].to_per_s == 129e6


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
        ("1\n1000 -1\n", "tcpscaler-slopes", 0.0, "below 0"),
        ("1\n1000000 900000\n", "tcpscaler-slopes", 0.0, "would rise"),
        ("1k 1s, +200M/s 1s", "rates", None, "would rise"),
        ("1\n0 5\n", "tcpscaler-steps", None, "longer than 0"),
        ("0\n# none", "tcpscaler-steps", None, "empty"),
        ("700 8", "slopes", 0.0, "time with its unit"),
        ("700m 8s", "slopes", 0.0, "a million or a thousandth"),
        ("1m 8s", None, None, "a million or a thousandth"),
        ("1k..1m 8s", None, None, "a million or a thousandth"),
        ("1k 1s, +1m/s 8s", None, None, "a million or a thousandth"),
        ("1000 8s, +5/s 1s", "rates", 5.0, "not both"),
        ("1000 8s", "rates", 5.0, "not both"),
        (STEPS, "tcpscaler-steps", 5.0, "not both"),
        ("1000 8s", "smoke", None, "profile format"),
    ],
)
def test_foreign_forms_that_make_no_sense(text: str, form: Any, start_per_s: float | None, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        profile.parse(text, form, start_per_s)
