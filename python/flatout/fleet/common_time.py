"""Results of hosts with clocks of their own, in the time of the scheduler's host. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Mapping

import msgspec

from flatout.fleet.clocks import ClockOffset
from flatout.result.model import LoadResult


def moved(
    results: Mapping[str, LoadResult], offsets: Mapping[str, ClockOffset], start_ns: int | None
) -> dict[str, LoadResult]:
    """The results by address, with the scheduler's time of their start; what planned nothing began with the rest.

    `offsets`: how far each host's clock is ahead. `start_ns`: what was told to all as the start, Unix time in ns.
    """
    if start_ns is None:
        began = min(map(unix_ns, results.values()))
    else:
        began = start_ns + round(next(iter(results.values())).scenario.warmup_s * 1e9)
    starts = {
        address: unix_ns(result) - offsets[address].offset_ns
        if result.outcomes.planned and address in offsets
        else began
        for address, result in results.items()
    }
    return {
        address: msgspec.structs.replace(result, started_at=_rfc3339(starts[address]))
        for address, result in results.items()
    }


def unix_ns(result: LoadResult) -> int:
    """When it began, Unix time in ns, as exact as it is written: to the microsecond."""
    return round(datetime.datetime.fromisoformat(result.started_at).timestamp() * 1e6) * 1000


def _rfc3339(unix_ns: int) -> str:
    moment = datetime.datetime.fromtimestamp(0, datetime.UTC) + datetime.timedelta(microseconds=unix_ns // 1000)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
