"""A sweep: a ladder of fixed rates, climbed once. What it decides is pure; runs come from an argument."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from flatout.errors import Interrupted, UsageError
from flatout.result.model import Host, LoadResult
from flatout.result.sweep import LOSS_MAX, StoppedBy, SweepResult, SweepRow, row
from flatout.scenario.model import Scenario

# A rate that the generator could not drive is tried again: another program may have disturbed it.
ATTEMPTS = 3
_RATES_MAX = 1000
# Rounding must not leave out the last rate.
_HAIR = 1 + 1e-9


def ladder(low_per_s: float, high_per_s: float, step: float) -> list[float]:
    """The rates from `low_per_s` to at most `high_per_s`, each `step` times the last. Errors: UsageError."""
    if not 0 < low_per_s <= high_per_s:
        raise UsageError(f"a sweep goes up: from {low_per_s:,g}/s to {high_per_s:,g}/s it does not (1k..1M)")
    if not 1.01 <= step <= 100:
        raise UsageError(f"--step {step:g}: each rate is 1.01 to 100 times the last")
    rates = [low_per_s]
    while rates[-1] * step <= high_per_s * _HAIR and len(rates) < _RATES_MAX:
        rates.append(rates[-1] * step)
    return rates


def stopped_by(measured: SweepRow, verdict: str) -> StoppedBy | None:
    """Why the ladder ends after this rate; None: it goes on."""
    if verdict == "interrupted":
        return "interrupted"
    if verdict == "target-lost":
        return "target"
    if verdict == "generator-limited":
        return "generator"
    return "loss" if measured.bad > LOSS_MAX else None


def climb(
    scenario: Scenario,
    rates: list[float],
    seconds: float,
    *,
    tallies: tuple[str, ...],
    measure: Callable[[Scenario], LoadResult],
    on_row: Callable[[SweepRow], None],
) -> tuple[list[LoadResult], list[SweepRow], StoppedBy]:
    """Measures each rate in turn; `on_row` is called once a rate is done. Ends where `stopped_by` says."""
    runs: list[LoadResult] = []
    rows: list[SweepRow] = []
    for rate_per_s in rates:
        run = _driven(scenario.at(rate_per_s, seconds), measure)
        runs.append(run)
        rows.append(row(run, tallies))
        on_row(rows[-1])
        if (why := stopped_by(rows[-1], run.verdict)) is not None:
            return runs, rows, why
    return runs, rows, "end"


def _driven(scenario: Scenario, measure: Callable[[Scenario], LoadResult]) -> LoadResult:
    """The first run that the generator could drive, or the last attempt."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            run = measure(scenario)
        except Interrupted as interrupted:
            kept: LoadResult = interrupted.result
            return kept
        if run.verdict != "generator-limited" or attempt == ATTEMPTS:
            break
    return run


def finished(
    scenario: Scenario,
    *,
    host: Host,
    started_at: str,
    duration_s: float,
    rates: list[float],
    step: float,
    seconds: float,
    climbed: tuple[list[LoadResult], list[SweepRow], StoppedBy],
) -> SweepResult:
    """The result of a ladder, with its sentence."""
    runs, rows, why = climbed
    return SweepResult(
        scenario=scenario,
        host=host,
        started_at=started_at,
        duration_s=duration_s,
        from_per_s=rates[0],
        to_per_s=rates[-1],
        step=step,
        each_s=seconds,
        stopped_by=why,
        sentence=sentence(rows, why),
        rows=rows,
        runs=runs,
    )


def sentence(rows: list[SweepRow], why: StoppedBy) -> str:
    """What was found, in one line."""
    clean = [
        one.rate_per_s
        for one in itertools.takewhile(lambda one: one.bad == one.late == 0 and one.verdict == "ok", rows)
    ]
    found = f"Nothing was lost, late or invalid up to {max(clean):,.0f}/s" if clean else "At no rate all was answered"
    last = f"{rows[-1].rate_per_s:,.0f}/s"
    ends = {
        "end": f"the ladder ended at {last}",
        "loss": f"at {last} over half had no right answer",
        "generator": f"the generator could not drive {last}",
        "target": f"the target was lost at {last}",
        "interrupted": f"interrupted at {last}",
    }
    return f"{found}; {ends[why]}."
