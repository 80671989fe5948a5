"""When the runs of several nodes took place: how far they overlap, and which of their seconds are the same. Pure.

A run counts from `started_at` for `duration_s`, by its own host's clock; one that planned nothing is left out.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import NamedTuple

from flatout.errors import UsageError
from flatout.result.model import LoadResult

# Runs that begin within this time begin together: clocks differ as much.
_TOGETHER_S = 0.05
_ENOUGH = 0.9


class Overlap(NamedTuple):
    """The time in s that all runs have in common (0 or less: none), and the time from the first to the last of them."""

    common_s: float
    whole_s: float


def unix_s(started_at: str) -> float:
    """RFC 3339 as Unix time. Errors: UsageError."""
    try:
        return datetime.datetime.fromisoformat(started_at).timestamp()
    except ValueError as error:
        raise UsageError(f"a result says that it began at '{started_at}', which is not a time") from error


def overlap(runs: Sequence[LoadResult]) -> Overlap:
    """How far the runs overlap; those that began together cover the time of the longest."""
    counted = [run for run in runs if run.outcomes.planned] or list(runs)
    starts, ends = [unix_s(run.started_at) for run in counted], [_end_s(run) for run in counted]
    common_s, whole_s = min(ends) - max(starts), max(ends) - min(starts)
    if max(starts) - min(starts) <= _TOGETHER_S:
        whole_s = max(run.duration_s for run in counted)
    return Overlap(common_s, max(whole_s, 1e-3))


def check(runs: Sequence[LoadResult], names: Sequence[str]) -> list[str]:
    """Warnings where the runs overlap in part only. Errors: UsageError, by `names`, where two do not at all."""
    counted = [pair for pair in zip(runs, names, strict=True) if pair[0].outcomes.planned]
    if not counted:
        return []
    found = overlap(runs)
    if found.common_s <= 0:
        _, first = min(counted, key=lambda pair: _end_s(pair[0]))
        _, last = max(counted, key=lambda pair: _start_s(pair[0]))
        raise UsageError(
            f"{last} began {_text(abs(found.common_s))} after {first} had ended: they did not run together, so they "
            "are not one load (give all nodes one --start-at, and synchronise their clocks)"
        )
    if found.common_s >= _ENOUGH * found.whole_s:
        return []
    return [
        f"the nodes ran together for only {_text(found.common_s)} of {_text(found.whole_s)}: the rates are those over "
        "all that time, in part of which some nodes sent nothing"
    ]


def apart(runs: Sequence[LoadResult]) -> list[str]:
    """Notes on runs that did not begin together."""
    starts = [_start_s(run) for run in runs]
    apart_s = max(starts) - min(starts)
    if apart_s <= _TOGETHER_S:
        return []
    return [f"the nodes began {apart_s * 1e3:,.0f} ms apart: give them one --start-at, and synchronise their clocks"]


def seconds_late(runs: Sequence[LoadResult]) -> list[int]:
    """How many seconds after the first of all runs each began, to the nearest."""
    starts = [_start_s(run) for run in runs]
    first = min(starts, default=0.0)
    return [round(start - first) for start in starts]


def _start_s(run: LoadResult) -> float:
    return unix_s(run.started_at)


def _end_s(run: LoadResult) -> float:
    return _start_s(run) + run.duration_s


def _text(seconds: float) -> str:
    return f"{seconds:,.1f} s" if seconds >= 1 else f"{seconds * 1e3:.0f} ms"
