"""Numbers with units: what is taken, what is refused, and that the message repeats what was typed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout import units
from flatout.errors import ArgumentError, UsageError


@pytest.mark.parametrize(
    ("text", "per_s"),
    [
        ("1", 1.0),
        ("1000", 1e3),
        ("100k", 1e5),
        ("100K", 1e5),
        ("1.5M", 1.5e6),
        ("0.5", 0.5),
        (".5k", 500.0),
        ("1e5", 1e5),
        ("200k/s", 2e5),
        (" 10k ", 1e4),
        ("200M", 200e6),
    ],
)
def test_rates(text: str, per_s: float) -> None:
    assert units.rate(text) == per_s


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "1e99", "nan", "inf", "k", "10kk", "10 G", "201M", "1,000", "0x10", "١٠", "1 000"]
)
def test_rates_that_mean_nothing(text: str) -> None:
    with pytest.raises(UsageError) as error:
        units.rate(text)
    assert f"'{text}'" in str(error.value)


@pytest.mark.parametrize("text", ["1m", "1.5m", ".5 m", "1m/s", "200mqps", "1e3m"])
def test_a_small_m_has_two_readings(text: str) -> None:
    with pytest.raises(UsageError, match=rf"rate '{text}': m could mean a million or a thousandth: write [\d.e]+M"):
        units.rate(text)
    if text.endswith("m"):
        with pytest.raises(UsageError, match=rf"number '{text}': m could mean a million or minutes: write [\d.e]+M"):
            units.count(text)


def test_no_rate_at_all_where_that_may_be() -> None:
    assert [units.rate_or_none(text) for text in ("0", "0.0", " 0 ", "1k")] == [0.0, 0.0, 0.0, 1000.0]
    for text in ("", "-0", "1m", "0k"):
        with pytest.raises(UsageError):
            units.rate_or_none(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10", 10.0),
        ("0.25", 0.25),
        ("10s", 10.0),
        ("500ms", 0.5),
        ("20us", 20e-6),
        ("20µs", 20e-6),
        ("7ns", 7e-9),
        ("1h30m", 5400.0),
        ("1m 30s", 90.0),
        ("1.5s", 1.5),
        ("1d", 86400.0),
        ("0s", 0.0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert units.duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "-1", "-1s", "s", "10 parsecs", "1e99", "500d", "1h30", "nan", "inf", "10ss"])
def test_durations_that_mean_nothing(text: str) -> None:
    with pytest.raises(UsageError) as error:
        units.duration(text)
    assert f"'{text}'" in str(error.value)


@pytest.mark.parametrize(
    ("text", "size"),
    [("512", 512), ("512B", 512), ("4KiB", 4096), ("1MB", 10**6), ("1.5MiB", 1_572_864), ("1GiB", 2**30)],
)
def test_sizes(text: str, size: int) -> None:
    assert units.size(text) == size


@pytest.mark.parametrize("text", ["", "-1", "4Kib", "KiB", "4TiB x"])
def test_sizes_that_mean_nothing(text: str) -> None:
    with pytest.raises(UsageError, match="size"):
        units.size(text)


@pytest.mark.parametrize(
    ("text", "share"), [("0.1%", 0.001), ("0.001", 0.001), ("0", 0.0), ("0%", 0.0), ("99.9%", 0.999)]
)
def test_shares(text: str, share: float) -> None:
    assert units.share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "%", "-0.1%", "100%", "1", "2", "nan", "inf", "a few"])
def test_shares_that_mean_nothing(text: str) -> None:
    with pytest.raises(UsageError, match="share"):
        units.share(text)


def test_a_share_that_may_be_all_says_so() -> None:
    assert [units.share(text, may_be_all=True) for text in ("100%", "1", " 100.0% ", "0%")] == [1, 1, 1, 0]
    with pytest.raises(UsageError, match=r"'101%': .*, from 0 to 100 %$"):
        units.share("101%", may_be_all=True)
    with pytest.raises(UsageError, match=r"from 0 to below 100 %$"):
        units.share("100%")


@pytest.mark.parametrize(("text", "cpus"), [("0", (0,)), ("0,2", (0, 2)), ("0-3,6", (0, 1, 2, 3, 6)), ("1,1", (1,))])
def test_cpu_lists(text: str, cpus: tuple[int, ...]) -> None:
    assert units.cpu_list(text) == cpus


@pytest.mark.parametrize("text", ["", " ", ",", "0,", "0,,1", "3-1", "a", "-1", "0-", "0;1"])
def test_cpu_lists_that_mean_nothing(text: str) -> None:
    with pytest.raises(UsageError, match="CPUs"):
        units.cpu_list(text)


@given(st.text(max_size=20))
def test_any_text_is_a_number_or_a_usage_error(text: str) -> None:
    for parse in (units.rate, units.duration, units.size, units.share, units.cpu_list):
        try:
            value = parse(text)
        except UsageError:
            continue
        assert value == value, f"{parse.__name__}({text!r}) is not a number"  # noqa: PLR0124


@given(st.floats(min_value=1e-3, max_value=200e6))
def test_a_rate_survives_being_written(per_s: float) -> None:
    assert units.rate(repr(per_s)) == per_s


def test_settings_are_numbers_or_text_that_means_one() -> None:
    assert [units.whole("n", value, 2000) for value in (7, "7", "2k", True + 1)] == [7, 7, 2000, 2]
    assert units.whole("n", "1KiB", 2000, units.size) == 1024
    assert [units.seconds("t", value) for value in (0, 1.5, "500ms")] == [0.0, 1.5, 0.5]
    assert units.seconds("t", -1, least=-2) == -1


@pytest.mark.parametrize("value", [0, -1, 2001, "2001", None, 1.0, True, [1], b"1"])
def test_settings_that_are_no_whole_number(value: object) -> None:
    with pytest.raises(UsageError, match=r"^n=.*: give a whole number from 1 to 2,000$"):
        units.whole("n", value, 2000)


@pytest.mark.parametrize("value", ["", " ", "a", "1m"])
def test_settings_that_are_no_number_have_their_name_in_the_error(value: str) -> None:
    for parse in (units.seconds, lambda name, value: units.whole(name, value, 10)):
        if (parse, value) != (units.seconds, "1m"):
            with pytest.raises(ArgumentError, match=rf"^some: .*'{value}'"):
                parse("some", value)


@pytest.mark.parametrize("value", [None, True, [1], float("nan"), b"1s", b"1", object()])
def test_settings_that_are_no_time(value: object) -> None:
    with pytest.raises(UsageError, match=r"^t=.*: give a number of seconds"):
        units.seconds("t", value)


@pytest.mark.parametrize("value", [-0.1, "61s", 1e9, float("inf"), 10**400])
def test_settings_that_are_too_long_or_too_short_a_time(value: object) -> None:
    with pytest.raises(UsageError, match=r"^t=.*: give 0 to 60 s$"):
        units.seconds("t", value, most=60)
