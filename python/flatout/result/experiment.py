"""The types of an experiment's result: its runs, its points with the spread over repetitions, and ratios. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

from flatout.result.model import SCHEMA, Host


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """The median of some runs, with the least and the greatest value."""

    median: float
    least: float
    greatest: float


class ExperimentRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run of an experiment.

    `status`: "failed" where there is no result, such as for a server that does not start; `why` then says it, and
    `log_tail` has the last lines of its log. `verdict`, `valid`, `value` (in `unit`), `loss`, `p50_ns` and `p99_ns` are
    those of the result, which is in the file `result` of `folder`, and in the store as run `kept`. `exit_code` is what
    `flatout load` or `limit` would have ended with. `server_exit`: the code of a server that ended by itself.
    `host_logs`: the files with CPUs, devices, memory and descriptors each 100 ms, one a host.
    """

    point: int
    repetition: int
    status: Literal["done", "failed"]
    why: str
    exit_code: int
    started_at: str
    duration_s: float
    folder: str
    server_version: str = ""
    server_exit: int | None = None
    log_tail: list[str] = []
    result: str | None = None
    host_logs: list[str] = []
    kept: int | None = None
    verdict: str = ""
    valid: bool = False
    value: float | None = None
    unit: str = ""
    loss: float | None = None
    p50_ns: int | None = None
    p99_ns: int | None = None
    notes: list[str] = []


class ExperimentPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One point of the grid: its settings, the server's sizes there, and its runs.

    `runs` were planned, `done` ended with a result and `valid` of them say something of the server: the spreads are
    those of the valid ones, null without any. `at_least`: the most that held in a search that is not valid, which the
    generator or the budget ended: the limit is that or more.
    """

    number: int
    label: str
    settings: dict[str, Any]
    sizes: dict[str, int]
    runs: int
    done: int
    failed: int
    valid: int
    unit: str = ""
    value: Spread | None = None
    at_least: float | None = None
    loss: Spread | None = None
    p50_ns: Spread | None = None
    p99_ns: Spread | None = None


class Ratio(msgspec.Struct, frozen=True, kw_only=True):
    """The value at a point as a ratio to that of another, which differs in `key` only; run by run of a repetition."""

    point: int
    to_point: int
    key: str
    setting: Any
    to_setting: Any
    others: dict[str, Any]
    ratio: Spread


class ExperimentResult(msgspec.Struct, frozen=True, kw_only=True):
    """One experiment. `complete`: every run has ended, with a result or as failed.

    `id` is the same for all runs of it, however often it was gone on with. `host` drove it; `folder` has its files.
    """

    schema: str = SCHEMA
    kind: Literal["experiment"] = "experiment"
    name: str
    id: str
    mode: Literal["load", "limit"]
    protocol: str
    host: Host
    started_at: str
    folder: str
    complete: bool
    points: list[ExperimentPoint]
    runs: list[ExperimentRun]
    ratios: list[Ratio]


def spread(values: Iterable[float | None]) -> Spread | None:
    """The spread of the values that are known; None without any."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    return Spread(median=statistics.median(known), least=known[0], greatest=known[-1])


def ratios(points: Sequence[ExperimentPoint], runs: Iterable[ExperimentRun], key: str | None) -> list[Ratio]:
    """Each point against the one with the first value of `key` and the same settings otherwise."""
    if key is None:
        return []
    values = {(run.point, run.repetition): run.value for run in runs if run.valid and run.value}
    first = points[0].settings.get(key) if points else None
    bases = {_others(point, key): point for point in points if point.settings.get(key) == first}
    found = []
    for point in points:
        base = bases.get(_others(point, key))
        if base is None or base.number == point.number:
            continue
        pairs = [
            value / other
            for (number, repetition), value in values.items()
            if number == point.number and value and (other := values.get((base.number, repetition)))
        ]
        ratio = spread(pairs)
        if ratio is not None:
            others = {name: value for name, value in point.settings.items() if name != key}
            found.append(
                Ratio(
                    point=point.number,
                    to_point=base.number,
                    key=key,
                    setting=point.settings[key],
                    to_setting=first,
                    others=others,
                    ratio=ratio,
                )
            )
    return found


def _others(point: ExperimentPoint, key: str) -> str:
    return repr([(name, value) for name, value in point.settings.items() if name != key])
