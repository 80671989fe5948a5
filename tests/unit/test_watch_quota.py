"""A month's traffic against a quota: used, projected, what would fit; the file over restarts."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest
from watched import SIZE, Watched, even

from flatout.server.quota import Quota
from flatout.server.usage import Usage
from flatout.watch.quota import CountedWay, QuotaMeter, Use, project

DAY = 86_400.0
# 30 days; ten of them are over.
NOVEMBER = datetime.datetime(2025, 11, 1, tzinfo=datetime.UTC).timestamp()
NOW = NOVEMBER + 10 * DAY


def test_projection() -> None:
    found = project(Quota.parse("4TB/month"), Use("out", 10**12, 1e6, 76.0), NOW)
    assert (found.bytes, found.used, found.per, found.counted) == (4 * 10**12, 10**12, "month", "out")
    assert found.projected == 10**12 + 20 * 86_400 * 10**6
    assert found.fits_bytes_per_s == pytest.approx(3e12 / (20 * DAY))
    assert found.fits_packets_per_s == pytest.approx(3e12 / (20 * DAY) / 76)
    assert found.ends_unix_s == NOVEMBER + 30 * DAY


def test_nothing_fits_where_all_is_used() -> None:
    found = project(Quota.parse("1GB/day"), Use("out", 2 * 10**9, 0.0, None), NOW)
    assert (found.fits_bytes_per_s, found.fits_packets_per_s, found.projected) == (0, None, 2 * 10**9)


def test_the_rate_is_that_of_the_last_hour() -> None:
    meter = QuotaMeter(Quota.parse("1TB/month"), "out", Usage(None))
    for second in range(1, 3601):
        found = meter.add(1000, 1, NOW + second, 100.0 + second)
    assert found.bytes_per_s == pytest.approx(1000)
    for second in range(3601, 3601 + 3600):
        found = meter.add(50, 1, NOW + second, 100.0 + second)
    assert found.bytes_per_s == pytest.approx(50, rel=0.35), "of the first hour a minute at most is left"
    assert found.used == 3600 * 1050


def test_the_file_goes_on_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "usage.json"
    first = QuotaMeter(Quota.parse("1TB/month"), "out", Usage(str(path)))
    first.add(700, 7, NOW, 1.0)
    first.keep()
    second = QuotaMeter(Quota.parse("1TB/month"), "out", Usage(str(path)))
    assert second.add(300, 3, NOW + 60, 1.0).used == 1000
    assert second.add(300, 3, NOW + 60, 2.0).bytes_per_s < 700, "the rate is of this start only"


def test_it_is_kept_each_minute(tmp_path: Path) -> None:
    path = tmp_path / "usage.json"
    meter = QuotaMeter(Quota.parse("1TB/month"), "out", Usage(str(path)))
    for second in range(61):
        assert not path.exists()
        meter.add(10, 1, NOW + second, 5.0 + second)
    assert list(json.loads(path.read_text())["periods"].values()) == [610]


def test_another_month_begins_at_nothing() -> None:
    meter = QuotaMeter(Quota.parse("1TB/month"), "out", Usage(None))
    meter.add(500, 5, NOVEMBER + 30 * DAY - 1, 1.0)
    assert meter.add(40, 1, NOVEMBER + 30 * DAY + 1, 3.0).used == 40


def test_a_file_that_is_none_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "usage.json"
    path.write_text("{")
    meter = QuotaMeter(Quota.parse("1TB/month"), "out", Usage(str(path)))
    assert "cannot be read" in meter.notes[0]


@pytest.mark.parametrize(("way", "used"), [("out", 250), ("in", 1000), ("both", 1250)])
def test_what_counts(way: CountedWay, used: int) -> None:
    meter = QuotaMeter(Quota.parse("1TB/month"), way, Usage(None))
    watched = Watched(quota=meter)
    line = watched.second(reading=watched.traffic.reading([1000] + [0] * 63, answered=0.25))
    assert line.quota is not None
    assert line.quota.used == used * SIZE
    assert watched.monitor.total(NOW).quota == line.quota
    assert watched.second(even(0)).quota.used == used * SIZE  # type: ignore[union-attr]
