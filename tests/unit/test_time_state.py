"""The time state: how it is packed, how a leap second is remembered, how stamps wrap; in virtual time."""

from __future__ import annotations

import calendar
import contextlib
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.errors import UsageError
from flatout.protocols.ntp import serving
from flatout.protocols.ntp.serving import ServeOptions, engine_options, static_state, upstream_of
from flatout.protocols.ntp.state import (
    WORDS,
    LeapSecond,
    LeapTracker,
    TimeState,
    measured_precision,
    ntp_stamp,
    short_ns,
    stamp_difference_ns,
)
from flatout.protocols.ntp.upstream import StaticSource, TimeSource, Unusable, Upstream

STATE = TimeState(1, 2, -20, bytes([192, 0, 2, 7]), 5 << 32, 10, 20, 15_000, -3, 4)
DAY = 86_400
NEW_YEAR = calendar.timegm((2027, 1, 1, 0, 0, 0))


def test_words_are_in_the_engines_order() -> None:
    words = STATE.words(60, LeapSecond(NEW_YEAR, -1))
    assert words[0].to_bytes(8, "little") == bytes([1, 1, 2, 0xEC, 192, 0, 2, 7])
    assert words[1:10] == [5 << 32, 10, 20, 15_000, 2**64 - 3, 4, 60, NEW_YEAR, 2**64 - 1]
    assert len(words) == WORDS
    assert words[10:] == [0, 0]


def test_a_leap_second_is_remembered_until_its_smear_has_ended() -> None:
    tracker = LeapTracker()
    expected = LeapSecond(NEW_YEAR, 1)
    assert tracker.note(0, NEW_YEAR - DAY) is None
    assert tracker.note(1, NEW_YEAR - DAY) == expected
    assert tracker.note(0, NEW_YEAR - DAY + 60) is None, "taken back before the smear began"
    assert tracker.note(1, NEW_YEAR - DAY + 120) == expected
    assert tracker.note(0, NEW_YEAR - 43_200) == expected, "a daemon that restarts in between"
    assert tracker.note(1, NEW_YEAR + 1) == expected, "a daemon that still announces it"
    assert tracker.note(0, NEW_YEAR + 43_200) == expected
    assert tracker.note(0, NEW_YEAR + 43_201) is None


@pytest.mark.parametrize(
    ("now", "end"),
    [
        ((2026, 6, 30, 1, 0, 0), (2026, 7, 1, 0, 0, 0)),
        ((2026, 12, 31, 23, 59, 59), (2027, 1, 1, 0, 0, 0)),
        ((2026, 12, 2, 0, 0, 0), (2027, 1, 1, 0, 0, 0)),
    ],
)
def test_leap_seconds_end_a_month(now: tuple[int, ...], end: tuple[int, ...]) -> None:
    assert LeapTracker().note(2, calendar.timegm(now)) == LeapSecond(calendar.timegm(end), -1)


@given(st.integers(0, 2**34), st.integers(-(2**30), 2**30))
def test_stamps_differ_as_times_do_over_the_end_of_an_era(seconds: int, apart_ns: int) -> None:
    unix_ns = seconds * 10**9 + 2**31
    difference = stamp_difference_ns(ntp_stamp(unix_ns + apart_ns), ntp_stamp(unix_ns))
    assert abs(difference - apart_ns) <= 2


@given(st.integers(0, 2**32 - 1))
def test_short_times_come_back_as_they_were(units: int) -> None:
    assert -(-(short_ns(units) << 16) // 10**9) == units, "the engine rounds up"


def test_the_measured_precision_is_one_that_a_clock_can_have() -> None:
    assert -25 <= measured_precision() < 0


class Scripted(Upstream):
    """Tells what it is given, in order; raises what is an error."""

    name = "scripted"

    def __init__(self, *script: TimeState | Exception) -> None:
        self.script = list(script)

    def ask(self) -> TimeState:
        reported = self.script.pop(0)
        if isinstance(reported, Exception):
            raise reported
        return reported


def test_a_daemon_that_is_not_synchronised_tells_nothing_new() -> None:
    unsynchronised = TimeState(3, 0, -20, bytes(4), 0, 0, 0)
    source = TimeSource(Scripted(STATE, unsynchronised, STATE), 60, smear=False)
    assert source.poll() == STATE.words(60 * 10**9)
    with pytest.raises(Unusable):
        source.poll()
    assert source.describe()["leap"] == 3
    assert source.poll() == STATE.words(60 * 10**9)


@pytest.mark.parametrize("step_s", [0.2, 3600, -3600, 68 * 365 * 86_400])
def test_a_clock_that_others_set_is_no_time_until_the_daemon_has_set_it(step_s: float) -> None:
    steady, unix = 0, NEW_YEAR * 10**9

    def now_ns() -> tuple[int, int]:
        return steady, unix

    set_again = dataclasses.replace(STATE, reference=STATE.reference + (1 << 32))
    source = TimeSource(Scripted(STATE, STATE, STATE, STATE, set_again, set_again), 60, smear=False, now_ns=now_ns)
    # A step of 0.1 s is in the dispersion.
    for step, holds in ((0.0, True), (0.1, True), (step_s, False), (0.0, False), (0.0, True), (0.0, True)):
        steady, unix = steady + 10**9, unix + 10**9 + round(step * 1e9)
        with contextlib.nullcontext() if holds else pytest.raises(Unusable, match="set by others"):
            source.poll()
        assert source.describe()["synchronised"] == holds


def test_a_leap_second_is_told_to_a_server_that_smears_only() -> None:
    for smear, words in ((True, [NEW_YEAR, 1]), (False, [0, 0])):
        source = TimeSource(Scripted(STATE), 60, smear=smear, now_ns=lambda: (0, (NEW_YEAR - 1000) * 10**9))
        assert source.poll()[8:10] == words


def test_a_stated_state_never_grows_old() -> None:
    source = StaticSource(static_state("stratum=1,refid=GPS,dispersion=1ms,delay=2ms,precision=-19"))
    words = source.poll()
    assert words[0].to_bytes(8, "little") == bytes([1, 0, 1, 0xED]) + b"GPS\0"
    assert words[1:8] == [0, 2_000_000, 1_000_000, 0, 0, 0, 0]
    assert source.interval_s is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "stratum=1",
        "stratum=0,refid=GPS",
        "stratum=16,refid=GPS",
        "stratum=1,refid=LONGER",
        "stratum=1,refid=G,x=1",
        "stratum=1,refid=GPS,delay=x",
        "stratum=1,refid=GPS,precision=1",
        "stratum=1,stratum=1,refid=GPS",
        "stratum=1,refid=GPS,dispersion=16s",
    ],
)
def test_a_wrong_statement_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="static"):
        static_state(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("127.0.0.1:11123", "127.0.0.1:11123"),
        ("[::1]:11123", "::1:11123"),
        ("chrony", "chrony 127.0.0.1:323"),
        ("chrony:[::1]:324", "chrony ::1:324"),
        ("chrony:localhost", "chrony localhost:323"),
        ("chrony:/run/chrony/chronyd.sock", "chrony /run/chrony/chronyd.sock"),
        ("ntpd", "ntpd 127.0.0.1:123"),
        ("ntpd:127.0.0.1:124", "ntpd 127.0.0.1:124"),
    ],
)
def test_upstreams_have_names(text: str, name: str) -> None:
    assert upstream_of(text, None).name == name


@pytest.mark.parametrize("text", ["", "127.0.0.1", "kernel", "host:0", "host:99999", "[::1]", "a:b:c", "/x"])
def test_a_wrong_upstream_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="upstream"):
        upstream_of(text, None)


def test_options_that_contradict_are_refused() -> None:
    with pytest.raises(UsageError, match="static"):
        serving.state_source(ServeOptions(upstream="chrony", static="stratum=1,refid=GPS"))
    with pytest.raises(UsageError, match="max_age"):
        serving.state_source(ServeOptions(max_age="1s"))
    with pytest.raises(UsageError, match="leap"):
        engine_options(ServeOptions(leap="slew"))  # type: ignore[arg-type]
    assert serving.state_source(ServeOptions()) is None
    assert dict(engine_options(ServeOptions())) == {
        "stated": 0,
        "silent": 0,
        "symmetric": 1,
        "interleaved": 1,
        "authenticated": 0,
        "leap": 0,
    }
