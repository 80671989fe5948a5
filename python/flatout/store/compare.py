"""Whether one side's runs are better or worse than another's: the change, its interval, and a verdict. Pure.

Method: each number is compared by the ratio of both sides' geometric means. How much runs differ that ask alike of one
target (A against A) is estimated from all kept groups of such runs, both sides among them, as the pooled standard
deviation of the logarithms; the interval of the change is Student's, with the degrees of freedom of that estimate.
Without any repeated run the noise is unknown, and so is whether a change is one: that is "invalid", never "same".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from flatout.result.model import SCHEMA
from flatout.store.rows import StoredRun

Outcome = Literal["better", "same", "worse", "invalid"]
# Two-sided 95 % quantiles of Student's t for 1, 2, … degrees of freedom; beyond the table that of 30, which is wider.
_T95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131),
    *(2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One number of runs that is compared: a column, its words, and whether more of it is better."""

    column: str
    name: str
    more_is_better: bool


_VALUE = Metric(column="value", name="rate", more_is_better=True)
_P50 = Metric(column="p50_ns", name="latency p50", more_is_better=False)
_P99 = Metric(column="p99_ns", name="latency p99", more_is_better=False)
# The latencies of a search are those near its limit: they say how near.
METRICS = {"load": (_VALUE, _P50, _P99), "limit": (_VALUE,)}


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One number of both sides.

    `change` is b/a - 1, with its 95 % `interval`; `noise` is the standard deviation of one run, as a share, known from
    so many `degrees` of freedom. All are null where they are unknown.
    """

    name: str
    a: float | None
    b: float | None
    change: float | None
    interval: list[float] | None
    noise: float | None
    degrees: int
    outcome: Outcome
    why: str


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """What was compared: the runs, and those of them that were left out as not valid."""

    name: str
    runs: list[int]
    left_out: list[int]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A setting, or a fact of the host, in which both sides differ."""

    what: str
    a: str
    b: str


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """Further runs before a verdict: the outcome before them, and their numbers; null where a side was not repeated."""

    outcome: Outcome
    a: int | None
    b: int | None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Both sides compared. `outcome` is the worst of `changes`; `tolerance` the share that does not count.

    `retries` were run before it, in order; `interrupted`: Ctrl-C ended the last one, which is not in the comparison.
    """

    schema: str = SCHEMA
    kind: Literal["comparison"] = "comparison"
    a: Side
    b: Side
    unit: str
    tolerance: float
    changes: list[Change]
    outcome: Outcome
    why: str
    differences: list[Difference] = []
    retries: list[Retry] = []
    interrupted: bool = False


def compared(
    a: tuple[str, Sequence[StoredRun]],
    b: tuple[str, Sequence[StoredRun]],
    earlier: Iterable[StoredRun] = (),
    tolerance: float = 0.05,
) -> Comparison:
    """Compares two named groups of runs, each of one kind; `earlier` are other runs, which say how noisy runs are.

    `tolerance`: the share by which a number may be worse, default 0.05.
    """
    sides = [Side(name=name, runs=[run.id for run in runs], left_out=_invalid(runs)) for name, runs in (a, b)]
    good_a, good_b = ([run for run in runs if run.valid] for _, runs in (a, b))
    if not good_a or not good_b:
        lacking = sides[0] if not good_a else sides[1]
        why = f"no run of {lacking.name} is valid: the generator could not drive it, or it ended early"
        return Comparison(a=sides[0], b=sides[1], unit="", tolerance=tolerance, changes=[], outcome="invalid", why=why)
    groups = _groups([*good_a, *good_b, *earlier])
    metrics = METRICS[good_a[0].kind]
    changes = [_change(metric, good_a, good_b, groups, tolerance) for metric in metrics]
    worst = max(changes, key=lambda change: _GRAVITY.index(change.outcome))
    return Comparison(
        a=sides[0],
        b=sides[1],
        unit=good_a[0].unit,
        tolerance=tolerance,
        changes=changes,
        outcome=worst.outcome,
        why=f"{worst.name}: {worst.why}",
    )


# From the outcome that says least against b to the one that says most.
_GRAVITY: tuple[Outcome, ...] = ("better", "same", "invalid", "worse")


def _invalid(runs: Sequence[StoredRun]) -> list[int]:
    return [run.id for run in runs if not run.valid]


def _groups(runs: Iterable[StoredRun]) -> list[list[StoredRun]]:
    """Runs that ought to be equal: alike, of one host against one target of one label."""
    groups: dict[tuple[str, ...], dict[int, StoredRun]] = {}
    for run in runs:
        if run.valid:
            key = (run.exchange, run.hostname, run.target, run.label)
            groups.setdefault(key, {})[run.id] = run
    return [list(group.values()) for group in groups.values()]


def noise(metric: Metric, groups: Iterable[Sequence[StoredRun]]) -> tuple[float | None, int]:
    """The pooled standard deviation of a number's logarithm in one run, and its degrees of freedom; None: unknown."""
    squares, degrees = 0.0, 0
    for group in groups:
        logs = _logs(metric, group)
        if len(logs) > 1:
            mean = math.fsum(logs) / len(logs)
            squares += math.fsum((log - mean) ** 2 for log in logs)
            degrees += len(logs) - 1
    return (math.sqrt(squares / degrees), degrees) if degrees else (None, 0)


def _logs(metric: Metric, runs: Iterable[StoredRun]) -> list[float]:
    values = (getattr(run, metric.column) for run in runs)
    return [math.log(value) for value in values if value]


def _mean(logs: Sequence[float]) -> float:
    """The geometric mean, without the last digits, which are not exact."""
    return float(f"{math.exp(math.fsum(logs) / len(logs)):.12g}")


def _change(
    metric: Metric,
    a: Sequence[StoredRun],
    b: Sequence[StoredRun],
    groups: list[list[StoredRun]],
    tolerance: float,
) -> Change:
    logs_a, logs_b = _logs(metric, a), _logs(metric, b)
    if not logs_a or not logs_b:
        return _without(metric, (a, logs_a), (b, logs_b))
    mean_a, mean_b = math.fsum(logs_a) / len(logs_a), math.fsum(logs_b) / len(logs_b)
    change, (deviation, degrees) = mean_b - mean_a, noise(metric, groups)
    low = high = None
    if deviation is not None:
        half = _T95[min(degrees, len(_T95)) - 1] * deviation * math.sqrt(1 / len(logs_a) + 1 / len(logs_b))
        low, high = change - half, change + half
    outcome, why = _judged(change, low, high, tolerance, metric)
    return Change(
        name=metric.name,
        a=_mean(logs_a),
        b=_mean(logs_b),
        change=math.expm1(change),
        interval=None if low is None or high is None else [math.expm1(low), math.expm1(high)],
        noise=deviation,
        degrees=degrees,
        outcome=outcome,
        why=why,
    )


def _without(
    metric: Metric, a: tuple[Sequence[StoredRun], Sequence[float]], b: tuple[Sequence[StoredRun], Sequence[float]]
) -> Change:
    """The change where a side has no value above 0."""
    known = [_plain(metric, *side) for side in (a, b)]
    outcome: Outcome = "invalid"
    if known in ([0.0, 0.0], [None, None]):
        outcome, why = "same", "both sides have none"
    elif metric.more_is_better and None not in known:
        outcome, why = ("worse", "B has none") if known[1] == 0 else ("better", "A has none")
    else:
        why = f"it is unknown of {'A' if known[0] is None else 'B'}"
    return Change(
        name=metric.name,
        a=known[0],
        b=known[1],
        change=None,
        interval=None,
        noise=None,
        degrees=0,
        outcome=outcome,
        why=why,
    )


def _plain(metric: Metric, runs: Iterable[StoredRun], logs: Sequence[float]) -> float | None:
    if logs:
        return _mean(logs)
    return 0.0 if any(getattr(run, metric.column) is not None for run in runs) else None


def _judged(
    change: float, low: float | None, high: float | None, tolerance: float, metric: Metric
) -> tuple[Outcome, str]:
    """The outcome of a change of a logarithm between bounds."""
    if low is None or high is None:
        return "invalid", "how much runs differ by chance is unknown: run one side twice or more, under one label"
    bad, good = math.log1p(-tolerance), -math.log1p(-tolerance)
    if not metric.more_is_better:
        change, low, high = -change, -high, -low
    word = "lower" if metric.more_is_better else "higher"
    if change < bad and high < 0:
        return "worse", f"{word} by more than the tolerance of {tolerance:.3g}, and not by chance"
    if low > 0 and change > good:
        return "better", "by more than the tolerance, and not by chance"
    if low > bad:
        return "same", "within the tolerance"
    return "invalid", "the runs differ too much by chance to say: more runs of each side would"
