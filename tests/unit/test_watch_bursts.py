"""Spikes: which bins, how long, how high; what is usual is none."""

from __future__ import annotations

import random

from watched import even

from flatout.watch.bursts import Burst, BurstFinder
from flatout.watch.source import BINS


def after(seconds: int, bins: list[int]) -> tuple[BurstFinder, int]:
    """A finder that has seen so many seconds alike, and the number of the next one."""
    finder = BurstFinder()
    for number in range(100, 100 + seconds):
        assert finder.second(number, bins) == []
    return finder, 100 + seconds


def test_a_burst_is_found_in_its_bins() -> None:
    finder, number = after(10, even(6400))
    bins = even(6400)
    bins[20:23] = [900, 5000, 800]
    [burst] = finder.second(number, bins)
    assert (burst.first, burst.last) == (number * BINS + 20, number * BINS + 22)
    assert (burst.packets, burst.peak, burst.usual) == (6700, 5000, 100)
    assert burst.seconds == 3 / BINS


def test_bursts_apart_are_two_and_a_pause_of_one_bin_is_none() -> None:
    finder, number = after(10, even(6400))
    bins = even(6400)
    bins[3] = bins[5] = bins[40] = 4000
    first, second = finder.second(number, bins)
    assert (first.first % BINS, first.last % BINS, first.packets) == (3, 5, 8100)
    assert (second.first % BINS, second.last % BINS) == (40, 40)


def test_a_burst_over_the_end_of_a_second_is_one() -> None:
    finder, number = after(10, even(640))
    one, other = even(640), even(640)
    one[62:] = [700, 800]
    other[:2] = [900, 600]
    [begun] = finder.second(number, one)
    [whole] = finder.second(number + 1, other)
    assert not begun.goes_on
    assert whole == Burst(number * BINS + 62, (number + 1) * BINS + 1, 3000, 900, 10, goes_on=True)
    assert finder.second(number + 2, even(640)) == []


def test_a_second_with_twice_the_packets_is_a_spike_without_a_burst_in_it() -> None:
    finder, number = after(10, even(64_000))
    [burst] = finder.second(number, even(150_000))
    assert (burst.first, burst.last, burst.packets) == (number * BINS, number * BINS + 63, 150_000)


def test_chance_is_no_spike() -> None:
    chance = random.Random(7)
    for rate in (5, 300, 20_000):
        finder = BurstFinder()
        for number in range(300):
            bins = [0] * BINS
            if rate < 1000:
                for _ in range(rate):
                    bins[chance.randrange(BINS)] += 1
            else:
                bins = [max(round(chance.gauss(rate / BINS, (rate / BINS) ** 0.5)), 0) for _ in bins]
            assert finder.second(number, bins) == [], (rate, number, bins)


def test_nothing_is_told_before_there_is_something_usual() -> None:
    finder = BurstFinder()
    assert finder.second(0, even(100)) == []
    assert finder.second(1, even(500_000)) == []


def test_a_rate_that_stays_and_a_burst_that_comes_each_second_become_usual() -> None:
    finder, number = after(30, even(640))
    lasted = 0
    while finder.second(number + lasted, even(64_000)):
        lasted += 1
    assert lasted == 15, "seconds until most of the last 30 were like that"
    finder, number = after(30, even(640))
    each = even(640)
    each[0] = 1000
    found = [bool(finder.second(number + later, each)) for later in range(40)]
    assert found[0]
    assert found[10]
    assert not any(found[16:])
