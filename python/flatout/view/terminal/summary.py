"""The summary of a result as text for a terminal: the finding first, then its numbers.

Built of rich tables with every cell a `Text`, never mark-up, so that no text of a result can style or break the
terminal. Fits 80 columns; colours only where the console has them. Nothing here measures or decides.
"""

from __future__ import annotations

import io
from collections.abc import Iterable

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from flatout.result.model import Axis, LimitResult, LoadResult, Requirement, Result, SignedDistribution, Trial
from flatout.view import facts
from flatout.view import format as fmt
from flatout.view import ledger as account
from flatout.view.exchange import exchange_of
from flatout.view.terminal import labels

STYLES = {
    "ok": "bold green",
    "held": "green",
    "failed": "red",
    "invalid": "yellow",
    "generator-limited": "bold yellow",
    "target-lost": "bold red",
    "interrupted": "bold yellow",
}


def summary(result: Result) -> RenderableType:
    """Lay out the summary, for any rich console."""
    return _limit(result) if isinstance(result, LimitResult) else _load(result)


def show(result: Result, console: Console) -> None:
    """Print the summary; the lines that scripts read are never folded."""
    console.print(summary(result))
    labelled = labels.block(result) if isinstance(result, LoadResult) else None
    if labelled is not None:
        console.print(Text(f"\n{labelled}"), soft_wrap=True)


def text(result: Result, width: int = 80) -> str:
    """Write the summary without colours, as it is piped or kept."""
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False, legacy_windows=False)
    with console.capture() as capture:
        show(result, console)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def _load(run: LoadResult) -> RenderableType:
    parts: list[RenderableType] = [_headline(run), Text(facts.sentence(run)), *_findings(run), Text()]
    parts += [_rates(run), Text(), _outcomes(run), Text(), _distributions(run)]
    if run.offset_ns:
        parts += [Text(), _offsets(run.offset_ns)]
    if rows := account.rows(run):
        parts += [Text(), _ledger(rows)]
    if run.receiver:
        parts += [Text(), _receiver(run)]
    if run.connections:
        parts += [Text(), _connections(run)]
    if any(run.tallies.values()):
        parts += [Text(), _tallies(run)]
    if run.nodes:
        parts += [Text(), _nodes(run)]
    if run.requirements:
        parts += [Text(), _requirements(run.requirements)]
    if shared := facts.placed(run):
        parts += [Text(), Text(shared)]
    return Group(*parts)


def _headline(run: LoadResult) -> Text:
    return Text.assemble((facts.subject(run), "bold"), ": ", (run.verdict, STYLES.get(run.verdict, "bold")))


def _grid(columns: Iterable[str]) -> Table:
    """Make a table without lines: one letter a column, l or r."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for side in columns:
        table.add_column(justify="right" if side == "r" else "left", no_wrap=side == "r", overflow="fold")
    return table


def _row(table: Table, *cells: str, style: str = "") -> None:
    table.add_row(*(Text(cell, style=style) for cell in cells))


def _rates(run: LoadResult) -> Table:
    table = _grid("lrlrlr")
    asked_per_s = exchange_of(run).asked_per_s(run)
    asked = () if asked_per_s is None else ("asked", fmt.rate(asked_per_s))
    _row(table, *asked, "sent", fmt.rate(run.rate_per_s.sent), run.wording.came, fmt.rate(run.good_per_s))
    _row(
        table,
        "loss",
        fmt.percent(run.loss),
        "took",
        fmt.seconds(run.duration_s),
        "memory",
        fmt.memory(run.memory.peak_rss),
    )
    return table


def _outcomes(run: LoadResult) -> Table:
    table = _grid("lrrl")
    exchange = exchange_of(run)
    notes = {"unsent": _unsent_because(run), "lost": exchange.loss_note(run)}
    for row in facts.outcome_rows(run):
        indent = "  " if row.word in exchange.sent_words else ""
        note = notes.get(row.word) or row.meaning
        share = "" if row.share is None else fmt.percent(row.share)
        _row(table, indent + row.word, fmt.count(row.number), share, note, style="" if row.number else "dim")
    if exchange.unknown(run):
        _row(table, exchange.wording.came, fmt.NOTHING, "", f"unknown: {exchange.loss_note(run)}")
    return table


def _ledger(rows: Iterable[account.LedgerRow]) -> Table:
    table = _grid("lrrl")
    _row(table, "where they went", "", "", "", style="dim")
    for row in rows:
        share = "" if row.share is None else fmt.percent(row.share)
        _row(table, f"  {row.place}", fmt.count(row.number), share, row.where, style="" if row.number else "dim")
    return table


def _findings(result: Result) -> list[RenderableType]:
    """What stopped it, each with its remedy."""
    found = account.shown_findings(result)
    lines: list[RenderableType] = []
    for number, finding in enumerate(found, 1):
        head = f"{number}. {finding.sentence} [{finding.confidence} confidence]"
        lines += [Text(head), Text(f"   Remedy: {finding.remedy}.", style="dim")]
    return [Text(), Text("What stopped it:", style="bold"), *lines] if lines else []


def _knee(result: LimitResult) -> list[RenderableType]:
    """What saturated first."""
    said = account.knee_text(result)
    return [Text.assemble(("Knee: ", "bold"), said)] if said else []


def _improvements(result: LimitResult) -> list[RenderableType]:
    """What was changed after the search, and what became of the limit."""
    found = facts.improvement_lines(result)
    lines: list[RenderableType] = []
    for number, (setting, outcome) in enumerate(found, 1):
        lines += [Text(f"{number}. {setting}"), Text(f"   {outcome}")]
    if left := facts.left_to_people(result):
        lines.append(Text(f"Left to you, with the remedies above: {', '.join(left)}."))
    if any(one.keys for one in result.improvements) and all(one.undone for one in result.improvements if one.keys):
        lines.append(Text("All that was changed is as it was before (read back)."))
    return [Text(), Text("What would raise it:", style="bold"), *lines] if lines else []


def _unsent_because(run: LoadResult) -> str:
    return ", ".join(f"{fmt.plain(reason)} {number:,}" for reason, number in run.unsent_because.items() if number)


def _distributions(run: LoadResult) -> Table:
    table = _grid("lrrrrr")
    _row(table, "", *(name for name, _ in facts.PERCENTILES), style="dim")
    for row in facts.distribution_rows(run):
        values = [fmt.duration(getattr(row.values, field, None)) for _, field in facts.PERCENTILES]
        _row(table, row.name, *values)
    return table


def _offsets(offset: SignedDistribution) -> Table:
    cells = facts.offset_cells(offset)
    table = _grid("l" + "r" * len(cells))
    _row(table, "", *(name for name, _ in cells), style="dim")
    _row(table, "offset", *(value for _, value in cells))
    return table


def _tallies(run: LoadResult) -> Table:
    table = _grid("lrr")
    counted = {name: number for name, number in run.tallies.items() if number}
    for name, number in counted.items():
        share = fmt.percent(number / sum(counted.values()))
        _row(table, fmt.plain(name).replace("_", " "), fmt.count(number), share)
    return table


def _connections(run: LoadResult) -> Table:
    table = _grid("lrl")
    for row in facts.connection_rows(run):
        _row(table, row.word.replace("_", " "), fmt.count(row.number), row.meaning)
    if run.carrier:
        _row(table, "carried by", fmt.plain(run.carrier), f"{fmt.memory(run.memory.per_connection)} each, in flatout")
    return table


def _receiver(run: LoadResult) -> Table:
    table = _grid("lrl")
    _row(table, "at the receiver", "", "", style="dim")
    for row in exchange_of(run).receiver_rows(run):
        _row(table, "  " + row.word.replace("_", " "), fmt.count(row.number), row.meaning)
    return table


def _nodes(run: LoadResult) -> Table:
    """The hosts; of many those in trouble."""
    shown = facts.worst_nodes(run.nodes)
    table = _grid("rllrl" if shown[0].start_late_ns is None else "rlrrrrl")
    for node in shown:
        cells = [f"node {node.node}", fmt.plain(node.hostname)]
        if node.start_late_ns is None:
            cells += [fmt.plain(node.started_at), f"{fmt.count(node.sent)} sent"]
        else:
            cells += [f"{fmt.count(node.sent)} sent", f"{fmt.count(node.lost)} lost"]
            cells += [f"late p99 {fmt.duration(node.lateness_p99_ns)}", f"began +{fmt.duration(node.start_late_ns)}"]
        _row(table, *cells, node.verdict)
    if more := len(run.nodes) - len(shown):
        _row(table, "", f"and {more} more")
    return table


def _requirements(requirements: Iterable[Requirement]) -> Table:
    table = _grid("lll")
    for requirement in requirements:
        word, style = ("met", "green") if requirement.met else ("NOT MET", "bold red")
        expression, measured = fmt.plain(requirement.expression), facts.requirement_value(requirement)
        table.add_row(Text(word, style=style), Text(expression), Text(measured))
    return table


def _limit(result: LimitResult) -> RenderableType:
    subject = Text(facts.subject(result), style="bold")
    parts: list[RenderableType] = [
        subject,
        Text(facts.sentence(result)),
        _stopped(result),
        *_knee(result),
        *_findings(result),
        *_improvements(result),
    ]
    if result.trials:
        parts += [Text(), _trials(result), *_disturbed(result), *_reasons(result.trials)]
    return Group(*parts)


def _stopped(result: LimitResult) -> Text:
    limit = result.limit
    reason = facts.STOPPED.get(limit.stopped_by, limit.stopped_by)
    held, failed = (_load_words(bound, limit.axis) for bound in (limit.lower, limit.upper))
    bounds = f"held {held}, failed {failed}"
    lines = [f"Stopped after {fmt.seconds(result.duration_s)}: {reason} ({bounds})."]
    return Text("\n".join([*lines, *facts.search_notes(result)]))


def _load_words(load: float | None, axis: Axis) -> str:
    return "nothing" if load is None else facts.load(load, axis)


def _trials(result: LimitResult) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False)
    latency = exchange_of(result).percentiles[:2]
    for name in ("#", facts.asked(result.limit.axis), result.wording.came, "loss", *latency, "late p99"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict")
    for number, trial in enumerate(result.trials, 1):
        table.add_row(*(Text(cell) for cell in _trial_cells(number, trial, latency)), _trial_verdict(trial))
    return table


def _disturbed(result: LimitResult) -> list[RenderableType]:
    """Why a trial that lost more than the goal held."""
    goal = result.limit.goal.loss
    if not any(trial.verdict == "held" and (trial.loss or 0.0) > goal for trial in result.trials):
        return []
    why = "Loss is that of the whole trial, the verdict that of the time in which the machine disturbed nothing."
    return [Text(), Text(why, style="dim")]


def _reasons(trials: Iterable[Trial]) -> list[RenderableType]:
    """Why trials did not hold, below the table, where there is room for text."""
    table = _grid("rll")
    for number, trial in enumerate(trials, 1):
        if trial.verdict != "held":
            _row(table, str(number), trial.verdict, fmt.plain(trial.why), style="dim")
    return [Text(), table] if table.row_count else []


def _trial_cells(number: int, trial: Trial, latency: Iterable[str]) -> list[str]:
    due, late = trial.latency_ns.from_due, trial.lateness_ns
    return [
        str(number),
        facts.load(trial.load, facts.axis_of(trial)),
        fmt.rate(trial.good_per_s),
        fmt.percent(trial.loss),
        *(fmt.duration(getattr(due, field, None)) for field in latency),
        fmt.duration(late.p99 if late else None),
    ]


def _trial_verdict(trial: Trial) -> Text:
    return Text(trial.verdict, style=STYLES.get(trial.verdict, ""))
