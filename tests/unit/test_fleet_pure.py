"""What of a fleet is pure: offsets of clocks, and the sum of progress."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatout.fleet.clocks import ClockOffset, Exchange, clock_offset, drifted
from flatout.fleet.progress import added
from flatout.runner.progress import RunProgress

_MINUTE = 60 * 10**9


@given(
    offset=st.integers(-10 * _MINUTE, 10 * _MINUTE),
    delays=st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**7), st.integers(0, 10**6)), min_size=1),
)
def test_the_true_offset_is_within_the_error(offset: int, delays: list[tuple[int, int, int]]) -> None:
    made, now = [], 10**18
    for there, inside, back in delays:
        made.append(Exchange(now + offset, now + there, now + there + inside, now + there + inside + back + offset))
        now += 10**9
    found = clock_offset(made)
    assert abs(found.offset_ns - offset) <= found.error_ns
    assert found.error_ns <= min(there + back for there, _, back in delays) // 2 + 1


def test_without_an_exchange_nothing_is_known() -> None:
    with pytest.raises(ValueError, match="empty"):
        clock_offset([])


def test_a_drift_counts_beyond_what_is_uncertain() -> None:
    def known(offset: int, error: int) -> ClockOffset:
        return ClockOffset(offset_ns=offset, error_ns=error)

    assert drifted(known(0, 100), known(150, 100)) == 0
    assert drifted(known(0, 100), known(-1200, 100)) == 1000


def part(**changes: Any) -> RunProgress:
    usual: dict[str, Any] = dict.fromkeys(
        ("planned", "sent", "unsent", "answered", "late", "refused", "invalid", "duplicate"), 1
    )
    usual |= {"phase": "running", "t_s": 1, "total_s": 10, "rate_per_s": 200.0, "latest": None}
    return RunProgress(**usual | changes)


def test_progress_adds_up_and_says_the_earliest_phase() -> None:
    parts = [part(sent=5, connections=3, connections_asked=4), part(sent=7, phase="warm-up", connections=1)]
    found = added(parts, 2)
    assert (found.sent, found.answered, found.phase) == (12, 2, "warm-up")
    assert (found.connections, found.connections_asked) == (4, 4)
    assert added(parts, 3).phase == "connecting", "one host has reported nothing yet"
    assert added([part(), part()], 3).phase == "waiting"
    assert added([part(), part()], 2).connections is None
