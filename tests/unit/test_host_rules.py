"""Rules of settings: what is wanted is reached, and nothing is ever lowered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.host.tuning.rules import AtLeast, CpuMask, OneOf, Spanning, same

NUMBERS = st.lists(st.tuples(st.integers(0, 2**31), st.integers(0, 2**31)), min_size=1, max_size=3)


@given(NUMBERS)
def test_limits_are_never_lowered(pairs: list[tuple[int, int]]) -> None:
    rule = AtLeast(tuple(least for _, least in pairs))
    reached = [int(word) for word in rule.reached(" ".join(str(now) for now, _ in pairs)).split()]
    assert all(value == max(pair) for value, pair in zip(reached, pairs, strict=True))


@given(st.integers(1, 65_535), st.integers(1, 65_535), st.none() | st.integers(0, 80_000))
def test_a_range_is_never_narrowed(one: int, other: int, enough: int | None) -> None:
    now = sorted((one, other))
    low, high = map(int, Spanning(1024, 65_535, enough).reached(f"{now[0]}\t{now[1]}").split())
    assert low <= now[0]
    assert high >= now[1]
    assert (low <= 1024 and high == 65_535) or high - low + 1 >= (enough or 0)


@pytest.mark.parametrize(
    ("now", "cpus", "reached"),
    [
        ("0", (0, 1), "3"),
        ("00000000,00000000", (0, 33), "2,00000001"),
        ("2", (0, 1), "2"),
        ("00000001,00000000", (0, 1), "00000001,00000000"),
    ],
)
def test_a_mask_is_set_where_there_is_none(now: str, cpus: tuple[int, ...], reached: str) -> None:
    assert CpuMask(cpus).reached(now) == reached


def test_a_mode_is_kept_where_it_will_do() -> None:
    assert OneOf(("1", "2")).reached("2") == "2"
    assert OneOf(("1", "2")).reached("0") == "1"


@pytest.mark.parametrize("text", ["", "none", "1 2"])
def test_a_text_of_no_sense_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"zip|invalid literal"):
        AtLeast((1, 2, 3)).reached(text)


def test_values_are_compared_as_the_kernel_means_them() -> None:
    assert same("/proc/sys/net/ipv4/udp_mem", "1\t2\t3", "1 2 3")
    assert not same("/proc/sys/net/core/rmem_max", "10", "010")
    assert same("/sys/class/net/eth0/queues/rx-0/rps_cpus", "00000000,00000003", "3")
    assert not same("/sys/class/net/eth0/queues/rx-0/rps_cpus", "", "3")
