"""Hosts whose clocks are minutes apart: moved to one time, their results are those of one process."""

from __future__ import annotations

import datetime

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from test_merge import NODES, of_samples, second

from flatout.fleet.clocks import ClockOffset
from flatout.fleet.common_time import moved, unix_ns
from flatout.result.merge import merge
from flatout.result.model import LoadResult

_TEN_MINUTES_US = 600 * 10**6
_START_NS = 1_773_500_966 * 10**9
_ERRORS = st.integers(-500, 500)
_CLOCKS = st.tuples(st.integers(-_TEN_MINUTES_US, _TEN_MINUTES_US), _ERRORS)


def at(unix_ns: int) -> str:
    return datetime.datetime.fromtimestamp(unix_ns / 1e9, datetime.UTC).isoformat(timespec="microseconds")


@given(
    samples=st.lists(st.tuples(st.integers(1, 10**10), st.integers(1, NODES)), max_size=100),
    clocks=st.lists(_CLOCKS, min_size=NODES, max_size=NODES),
)
def test_the_percentiles_and_seconds_of_one_process(
    samples: list[tuple[int, int]], clocks: list[tuple[int, int]]
) -> None:
    results: dict[str, LoadResult] = {}
    for n, (ahead_us, _) in enumerate(clocks, 1):
        mine = [ns for ns, to in samples if to == n]
        seconds = [second(1.0, len(mine)), second(2.0, n)]
        result = of_samples(mine, (n, NODES), started_at=at(_START_NS + ahead_us * 1000), intervals=seconds)
        results[str(n)] = msgspec.structs.replace(result, duration_s=2.0)
    # Each clock is known to half a millisecond.
    offsets = {
        str(n): ClockOffset(offset_ns=(ahead_us + error_us) * 1000, error_ns=500_000)
        for n, (ahead_us, error_us) in enumerate(clocks, 1)
    }
    together, whole = merge(list(moved(results, offsets, None).values())), of_samples([ns for ns, _ in samples], None)
    assert together.latency_ns == whole.latency_ns
    assert together.lateness_ns == whole.lateness_ns
    assert [(one.t_s, one.answered) for one in together.intervals] == [(1.0, len(samples)), (2.0, 1 + 2 + 3)]
    assert (together.duration_s, together.warnings, together.notes) == (2.0, [], [])
    assert abs(unix_ns(together) - _START_NS) <= 501_000


def test_a_host_that_planned_nothing_began_with_the_rest() -> None:
    results = {str(n): of_samples([1000], (n, NODES), started_at=at(_START_NS)) for n in range(1, NODES + 1)}
    nothing = msgspec.structs.replace(results["2"].outcomes, planned=0, sent=0, unsent=0, answered=0, lost=0)
    results["2"] = msgspec.structs.replace(results["2"], outcomes=nothing, started_at=at(10**9))
    offsets = {name: ClockOffset(offset_ns=0, error_ns=1) for name in results}
    found = moved(results, offsets, _START_NS - 10**9)
    assert unix_ns(found["2"]) == _START_NS - 10**9 + round(results["1"].scenario.warmup_s * 1e9)
    assert unix_ns(found["1"]) == _START_NS
