"""The table of an experiment's points, the ratios between them, a line for each run, and the plan, for terminals."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rich.console import Console
from rich.table import Table

from flatout.result.experiment import ExperimentPoint, ExperimentResult, ExperimentRun, Ratio, Spread
from flatout.view import format as form

_OPEN = form.NOTHING


def show(result: ExperimentResult, console: Console) -> None:
    """A line a point: medians, with the least and the greatest of its repetitions; then the ratios."""
    done = sum(run.status == "done" for run in result.runs)
    planned = sum(point.runs for point in result.points)
    console.print(
        f"\n[bold]{form.plain(result.name)}[/bold]: {done} of {planned} runs, id {result.id}", highlight=False
    )
    several = any(point.runs > 1 for point in result.points)
    if several:
        console.print("medians (least – greatest of the repetitions)")
    keys = list(result.points[0].settings) if result.points else []
    table = Table(box=None, pad_edge=False, header_style="bold")
    for key in keys:
        table.add_column(form.plain(key), overflow="fold")
    for name in ("runs", "limit" if result.mode == "limit" else "rate", "loss", "p50", "p99"):
        table.add_column(name, justify="right")
    for point in result.points:
        table.add_row(*(form.plain(point.settings[key]) for key in keys), *_cells(point))
    console.print(table, markup=False)
    _show_ratios(result, console)
    _show_failed(result, console)


def _cells(point: ExperimentPoint) -> Iterator[str]:
    ran = f"{point.valid}/{point.runs}"
    yield ran if not point.failed else f"{ran}, {point.failed} failed"
    shown = form.rate_short if point.unit.endswith("/s") else _number
    least = _OPEN if point.at_least is None else f"≥ {shown(point.at_least)}"
    yield _spread(point.value, shown) if point.value is not None else least
    yield _spread(point.loss, form.percent)
    yield _spread(point.p50_ns, form.duration)
    yield _spread(point.p99_ns, form.duration)


def _number(value: float) -> str:
    return f"{value:,.0f}"


def _spread(spread: Spread | None, shown: Callable[[float], str]) -> str:
    if spread is None:
        return _OPEN
    middle, least, greatest = shown(spread.median), shown(spread.least), shown(spread.greatest)
    return middle if least == greatest else f"{middle} ({least} – {greatest})"


def _show_ratios(result: ExperimentResult, console: Console) -> None:
    """A row for each setting of all else, a column for each value of the key."""
    if not result.ratios:
        return
    first = result.ratios[0]
    columns = list(dict.fromkeys(str(ratio.setting) for ratio in result.ratios))
    rows: dict[str, dict[str, Ratio]] = {}
    for ratio in result.ratios:
        rows.setdefault(_others(ratio), {})[str(ratio.setting)] = ratio
    console.print(f"\nrelative to {form.plain(first.key)} = {form.plain(first.to_setting)}", markup=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for name in columns:
        table.add_column(form.plain(name), justify="right")
    for others, ratios in rows.items():
        cells = [_spread(ratios[name].ratio if name in ratios else None, _ratio) for name in columns]
        table.add_row(others, *cells)
    console.print(table, markup=False)


def _others(ratio: Ratio) -> str:
    return ", ".join(f"{form.plain(key)} = {form.plain(value)}" for key, value in ratio.others.items())


def _ratio(value: float) -> str:
    return f"{value:.0%}" if value < 10 else f"{value:.1f}×"


def _show_failed(result: ExperimentResult, console: Console) -> None:
    labels = {point.number: point.label for point in result.points}
    for run in result.runs:
        if run.status == "failed":
            line = f"failed: {labels[run.point]}, repetition {run.repetition}: {run.why} (files: {run.folder})"
            console.print(form.plain(line), markup=False)


def line(run: ExperimentRun, label: str, number: int, of: int) -> str:
    """What came of a run, in one line."""
    head = f"[{number:{len(str(of))}}/{of}] {form.plain(label)}, repetition {run.repetition}: "
    if run.status == "failed":
        return f"{head}failed: {form.plain(run.why)}"
    value = form.rate_short(run.value) if run.unit.endswith("/s") else f"{run.value or 0:,.0f} {run.unit}"
    numbers = [value, f"loss {form.percent(run.loss)}", f"p99 {form.duration(run.p99_ns)}"]
    verdict = "" if run.valid else f" (not valid: {run.verdict})"
    return f"{head}{', '.join(numbers)}{verdict}"
