"""Limits of servers: from text to what the engine takes, and how fast a quota may be used."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatout.errors import UsageError
from flatout.server.limits import Limits, admission, client_rate, max_rate, prefixes
from flatout.server.peaks import Peaks
from flatout.server.quota import Quota, lower

DAY = 86_400.0
NOVEMBER = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "rate"), [(None, 0), ("10", 10), (0.5, 0.5), ("5k", 5000), ("1/8s", 0.125), ("3 / 1m", 0.05), ("2/s", 2)]
)
def test_rates_of_clients(text: Any, rate: float) -> None:
    assert client_rate(text) == pytest.approx(rate)


@pytest.mark.parametrize(
    "limits",
    [
        *(Limits(client_rate=text) for text in ("", "0", "1/0s", "x/8s", "./8s", "1.1.1/8s", "-1", "1/x")),
        *(Limits(client_prefix=text) for text in ("", "32", "33/64", "0/64", "32/65", "32/64/1")),
        *(Limits(max_rate=text) for text in ("", "0", "-1Mbps", "100 Mbytes", "fast")),
        Limits(deny=("10.0.0.0/33",)),
        Limits(deny=("no-such-file",)),
        Limits(clients="many", client_rate=1),
        Limits(client_burst=-1),
    ],
)
def test_bad_limits(limits: Limits) -> None:
    with pytest.raises(UsageError):
        admission(limits, kisses=True)


@pytest.mark.parametrize("text", ["", "4TB", "4TB/year", "0TB/month", "/month", "x/day"])
def test_bad_quotas(text: str) -> None:
    with pytest.raises(UsageError):
        Quota.parse(text)


def test_kisses_are_for_protocols_that_have_them() -> None:
    with pytest.raises(UsageError, match="no kiss"):
        admission(Limits(client_rate=1, kod=True), kisses=False)
    assert admission(Limits(client_rate=1, kod=True), kisses=True).kiss


def test_without_limits_no_client_is_remembered() -> None:
    assert admission(Limits(), kisses=False).clients == 0
    assert admission(Limits(client_rate=1), kisses=False).clients == 256_000


def test_bandwidth() -> None:
    assert max_rate(Limits(max_rate="100Mbps")) == 12.5e6
    assert admission(Limits(max_rate="1.5 Gbit/s"), kisses=False).bytes_per_s == 187_500_000
    assert max_rate(Limits(max_rate=8000)) == 1000


def test_lists_of_prefixes(tmp_path: Path) -> None:
    file = tmp_path / "denied"
    file.write_text("# ours\n192.0.2.7/24   # host bits are no matter\n\n2001:db8::/32\n", encoding="utf-8")
    found = list(prefixes("deny", (f"10.0.0.1,{file}", "::1")))
    v4, v6 = ipaddress.ip_address, ipaddress.ip_address
    assert found == [
        (v4("10.0.0.1"), 32, "deny"),
        (v4("192.0.2.0"), 24, "deny"),
        (v6("2001:db8::"), 32, "deny"),
        (v6("::1"), 128, "deny"),
    ]
    file.write_text("10.0.0.0/8\n10.0.0.0/99\n", encoding="utf-8")
    with pytest.raises(UsageError, match="line 2"):
        list(prefixes("deny", (str(file),)))


def test_a_quota_ends_with_its_calendar_month() -> None:
    quota = Quota.parse("4TB/month")
    assert quota == (4 * 10**12, "month")
    assert quota.period(NOVEMBER + 5) == (NOVEMBER, NOVEMBER + 30 * DAY)
    assert quota.period(NOVEMBER + 30 * DAY) == (NOVEMBER + 30 * DAY, NOVEMBER + 61 * DAY), "December has 31"
    assert Quota.parse("1GB/day").period(NOVEMBER + DAY + 1) == (NOVEMBER + DAY, NOVEMBER + 2 * DAY)


def used_up(quota: Quota, demand: float, step_s: float = 600.0) -> tuple[int, list[float]]:
    """What a month uses where so many bytes per s could be sent, and the rate of each step."""
    used, now, rates = 0, NOVEMBER, []
    end = quota.period(NOVEMBER).end
    while now < end:
        rates.append(min(demand, quota.allowed(now, used)))
        used += round(rates[-1] * step_s)
        now += step_s
    return used, rates


@settings(deadline=None, max_examples=25)
@given(st.floats(0.01, 100))
def test_a_quota_is_never_exceeded_and_used_where_there_is_demand(times_even: float) -> None:
    quota = Quota.parse("4TB/month")
    even = quota.bytes / (30 * DAY)
    used, rates = used_up(quota, even * times_even)
    assert used <= quota.bytes * 1.001
    assert used >= 0.97 * min(quota.bytes, even * times_even * 30 * DAY)
    assert min(rates) >= 0.7 * even * min(times_even, 1), "no hour without answers"


def test_a_peak_may_use_what_was_saved() -> None:
    quota = Quota.parse("4TB/month")
    even = quota.bytes / (30 * DAY)
    assert quota.allowed(NOVEMBER + 10 * DAY, round(9 * DAY * even)) > 30 * even
    assert quota.allowed(NOVEMBER + 10 * DAY, round(10.3 * DAY * even)) < even
    assert quota.allowed(NOVEMBER + 10 * DAY, quota.bytes) == 0


def test_the_lower_bandwidth_counts() -> None:
    assert (lower(None, None), lower(1.0, None), lower(None, 2.0), lower(1.0, 2.0)) == (None, 1.0, 2.0, 1.0)


def test_peaks_are_kept_for_a_day() -> None:
    peaks = Peaks()
    count = 0
    for second in range(3 * 86_400 // 60 * 60):
        count += 1000 if second == 90_000 else 10
        peaks.note(float(second), {"received": count})
        if second == 90_000 + 86_000:
            assert peaks.highest(float(second)) == {"received": 1000.0}
    assert peaks.highest(3 * 86_400.0) == {"received": 10.0}, "two days later it is over"
