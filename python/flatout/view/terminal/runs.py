"""Tables of kept runs and of comparisons, for terminals."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from flatout.store.compare import Change, Comparison
from flatout.store.rows import StoredRun
from flatout.view import format as form

_COLOURS = {"better": "green", "same": "green", "worse": "red", "invalid": "yellow"}


def show_runs(runs: Sequence[StoredRun], console: Console) -> None:
    """A line a run."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("run", "started", "label", "asked", "verdict"):
        table.add_column(name, overflow="fold")
    for name in ("rate", "loss", "p99"):
        table.add_column(name, justify="right", no_wrap=True)
    for run in runs:
        table.add_row(*_cells(run))
    console.print(table)


def _cells(run: StoredRun) -> list[str]:
    when = datetime.datetime.fromtimestamp(run.started_at)
    started = when.strftime("%m-%d %H:%M" if when.year == datetime.datetime.now().year else "%Y-%m-%d")
    transport = "" if run.transport == "udp" else f" {run.transport}"
    asked = f"{run.kind} {run.protocol}{transport} {run.target}"
    value = (
        form.rate_short(run.value)
        if run.unit.endswith("/s")
        else f"{form.NOTHING if run.value is None else f'{run.value:,.0f}'} {run.unit}"
    )
    loss = form.NOTHING if run.loss is None else f"{run.loss:.2%}"
    # Why one is invalid is long, and `runs show` says it.
    verdict = run.verdict if run.valid else "invalid"
    return [str(run.id), started, run.label, asked, verdict, value, loss, form.duration(run.p99_ns)]


def show_comparison(found: Comparison, console: Console) -> None:
    """A line a number, what else differs, and the outcome."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for name in (f"A: {found.a.name}", f"B: {found.b.name}", "change", "95 % interval", ""):
        table.add_column(name, justify="right")
    for change in found.changes:
        table.add_row(*_change_cells(change))
    if found.changes:
        console.print(table)
    for difference in found.differences:
        console.print(f"  differs: {difference.what}: {difference.a} → {difference.b}", markup=False)
    for side in (found.a, found.b):
        if side.left_out:
            numbers = ", ".join(map(str, side.left_out))
            console.print(f"  left out of {side.name}, not valid: {numbers}", markup=False)
    for retry in found.retries:
        made = [f"{side} {number}" for side, number in (("A", retry.a), ("B", retry.b)) if number is not None]
        console.print(f"  was {retry.outcome}, run again: {', '.join(made) or 'interrupted'}", markup=False)
    console.print(f"[bold {_COLOURS[found.outcome]}]{found.outcome}[/]: ", end="")
    console.print(found.why, markup=False)


def _change_cells(change: Change) -> list[str]:
    shown = form.rate_short if change.name == "rate" else form.duration
    interval = form.NOTHING
    if change.interval is not None:
        low, high = change.interval
        interval = f"{low:+.1%} … {high:+.1%}"
    percent = form.NOTHING if change.change is None else f"{change.change:+.1%}"
    return [change.name, shown(change.a), shown(change.b), percent, interval, change.outcome]
