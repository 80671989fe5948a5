"""The tables of the page: rows of finished texts, which the template escapes. Pure: results in, tables out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from flatout.result.model import Host, LimitResult, LoadResult, Node, Result, SignedDistribution, Trial
from flatout.view import facts
from flatout.view import format as fmt
from flatout.view import ledger as account
from flatout.view.exchange import common_exchange, exchange_of


class Table(NamedTuple):
    """A caption, column heads (those that begin with "#" hold numbers), rows of texts, and a note below."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


def limits(named: Sequence[tuple[str, Result]]) -> Table:
    """All results of a page, one a row, the fastest first; latency where any of them has some."""
    ordered = facts.fastest_first(named)
    best = facts.reached(ordered[0][1]) or 0.0
    exchange = common_exchange([result for _, result in named])
    latency = exchange.percentiles[:2]
    head = ("", "#reached", "#of the fastest", "#held", "#failed", *(f"#{name}" for name in latency), "ended")
    note = f"Reached is the limit of a search or the rate a run had {exchange.wording.came}"
    note += "; latency is from due, of the confirming or longest run." if latency else "."
    rows = [_limit_row(title, result, best, latency) for title, result in ordered]
    return Table("The results, fastest first", head, rows, note)


def _limit_row(title: str, result: Result, best: float, latency: Sequence[str]) -> list[str]:
    reached, run = facts.reached(result), facts.shown_run(result)
    due = run.latency_ns.from_due if run else None
    return [
        title,
        facts.reached_text(result),
        f"{100 * (reached or 0.0) / best:.0f} %" if best else fmt.NOTHING,
        *_held_failed(result),
        *(fmt.duration(getattr(due, field, None)) for field in latency),
        result.limit.stopped_by if isinstance(result, LimitResult) else result.verdict,
    ]


def _held_failed(result: Result) -> tuple[str, str]:
    if isinstance(result, LimitResult):
        return facts.load(result.limit.lower, result.limit.axis), facts.load(result.limit.upper, result.limit.axis)
    return fmt.NOTHING, fmt.NOTHING


def trials(result: LimitResult) -> Table:
    """Every trial in order."""
    latency = exchange_of(result).percentiles
    head = (
        "#trial",
        "phase",
        "verdict",
        f"#{facts.asked(result.limit.axis)}",
        f"#{result.wording.came}",
        "#loss",
        *(f"#{name}" for name in latency),
        "#lateness p99",
        "why",
    )
    rows = [_trial_row(number, trial, latency) for number, trial in enumerate(result.trials, 1)]
    return Table("Trials", head, rows, " ".join(facts.search_notes(result)))


def _trial_row(number: int, trial: Trial, latency: Sequence[str]) -> list[str]:
    due, late = trial.latency_ns.from_due, trial.lateness_ns
    return [
        str(number),
        trial.phase,
        trial.verdict,
        facts.load(trial.load, facts.axis_of(trial)),
        fmt.rate(trial.good_per_s),
        fmt.percent(trial.loss),
        *(fmt.duration(getattr(due, field, None)) for field in latency),
        fmt.duration(late.p99 if late else None),
        "" if trial.verdict == "held" else trial.why,
    ]


def of_run(run: LoadResult) -> list[Table]:
    """List what one run measured."""
    tables = [distributions(run)]
    if run.offset_ns:
        tables.append(offsets(run.offset_ns))
    tables += [outcomes(run), *ledger(run)]
    if run.receiver:
        tables.append(receiver(run))
    if run.connections:
        tables.append(connections(run))
    if exchange_of(run).tallies(run):
        tables.append(tallies(run))
    if run.nodes:
        tables.append(nodes(run))
    if run.requirements:
        tables.append(requirements(run))
    return tables


def findings(result: Result) -> list[Table]:
    """What stopped it, the weightiest first; no table where nothing was found."""
    rows = [
        [
            finding.name,
            finding.sentence,
            "; ".join(finding.evidence),
            finding.remedy,
            finding.confidence,
            fmt.count(finding.explains) if finding.explains else fmt.NOTHING,
        ]
        for finding in result.findings
    ]
    head = ("cause", "what was found", "evidence", "remedy", "confidence", "#explains")
    return [Table("What stopped it", head, rows)] if rows else []


def ledger(run: LoadResult) -> list[Table]:
    """Where everything went that was not answered; no table where all was."""
    rows = [
        [row.place, fmt.count(row.number), fmt.percent(row.share) if row.share is not None else "", row.where]
        for row in account.rows(run)
    ]
    return [Table("Where they went", ("place", "#count", "#share", "where"), rows)] if rows else []


def outcomes(run: LoadResult) -> Table:
    """Where everything went, and the equations it must satisfy."""
    rows = [
        [row.word, fmt.count(row.number), "" if row.share is None else fmt.percent(row.share), row.meaning]
        for row in facts.outcome_rows(run)
    ]
    reasons = ", ".join(f"{reason} {number:,}" for reason, number in run.unsent_because.items() if number)
    notes = [*facts.equations(run), *([f"unsent because: {reasons}"] if reasons else []), *_loss_notes(run)]
    return Table("Outcomes", ("outcome", f"#{run.wording.many}", "#share", "meaning"), rows, "; ".join(notes))


def _loss_notes(run: LoadResult) -> list[str]:
    exchange = exchange_of(run)
    note = exchange.loss_note(run)
    return [f"{'received unknown' if exchange.unknown(run) else 'lost'}: {note}"] if note else []


def receiver(run: LoadResult) -> Table:
    """What the receiver counted during the run."""
    counters = exchange_of(run).receiver_rows(run)
    rows = [[row.word.replace("_", " "), fmt.count(row.number), row.meaning] for row in counters]
    return Table("The receiver's own count", ("counter", "#count", "meaning"), rows)


def distributions(run: LoadResult) -> Table:
    """Percentiles of all distributions."""
    fields = ("min", "mean", *(field for _, field in facts.PERCENTILES))
    rows = [
        [
            row.name,
            fmt.count(row.values.count) if row.values else "0",
            *(fmt.duration(getattr(row.values, field, None)) for field in fields),
        ]
        for row in facts.distribution_rows(run)
    ]
    head = ("", "#samples", "#min", "#mean", *(f"#{name}" for name, _ in facts.PERCENTILES))
    return Table("Percentiles", head, rows)


def offsets(offset: SignedDistribution) -> Table:
    """How far the server's clock was ahead of this host's."""
    cells = facts.offset_cells(offset)
    head = ("", "#samples", *(f"#{name}" for name, _ in cells), "#stddev")
    row = ["offset", fmt.count(offset.count), *(value for _, value in cells), fmt.duration(offset.stddev)]
    return Table("Offset of the server's clock from this host's", head, [row])


def tallies(run: LoadResult) -> Table:
    """List the protocol's own counters."""
    exchange = exchange_of(run)
    good = exchange.good(run.outcomes)
    rows = [
        [name.replace("_", " "), fmt.count(number), fmt.percent(number / good) if good else fmt.NOTHING]
        for name, number in exchange.tallies(run).items()
    ]
    return Table("The protocol's own tallies", ("tally", "#count", f"#of {run.wording.came}"), rows)


def connections(run: LoadResult) -> Table:
    """The counters of connections."""
    rows = [[row.word.replace("_", " "), fmt.count(row.number), row.meaning] for row in facts.connection_rows(run)]
    note = "; ".join([*([f"carried by {run.carrier}"] if run.carrier else []), *run.notes])
    return Table("Connections", ("connections", "#count", "meaning"), rows, note)


def nodes(run: LoadResult) -> Table:
    """The hosts whose results were added up."""
    words = exchange_of(run).node_words
    rows = [
        [
            str(node.node),
            node.hostname,
            node.started_at,
            node.verdict,
            *(fmt.count(getattr(node, word)) for word in words),
            *_of_fleet(node),
            node.why,
        ]
        for node in run.nodes
    ]
    fleet = _FLEET if any(_of_fleet(node) for node in run.nodes) else ()
    head = ("#node", "host", "started at", "verdict", *(f"#{word}" for word in words), *fleet, "why")
    return Table("Nodes", head, rows, "; ".join(run.warnings))


# What a host of a fleet has besides.
_FLEET = ("#lost", "#unsent", "#lateness p99", "#began after the first")


def _of_fleet(node: Node) -> list[str]:
    if node.start_late_ns is None:
        return []
    times = (fmt.duration(node.lateness_p99_ns), fmt.duration(node.start_late_ns))
    return [fmt.count(node.lost), fmt.count(node.unsent), *times]


def requirements(run: LoadResult) -> Table:
    """List what was required and whether it was met."""
    rows = [
        [requirement.expression, facts.requirement_value(requirement), "met" if requirement.met else "not met"]
        for requirement in run.requirements
    ]
    return Table("Requirements", ("requirement", "value", "verdict"), rows)


def scenario(result: Result) -> Table:
    """The whole scenario, so that it can be run again."""
    rows = [[name, value] for name, value in _flat(msgspec.to_builtins(result.scenario))]
    if isinstance(result, LimitResult):
        rows += [[f"search.{name}", value] for name, value in _flat(msgspec.to_builtins(result.search))]
    return Table("Scenario", ("setting", "value"), rows)


def host(host_: Host, run: LoadResult | None, started_at: str, duration_s: float) -> Table:
    """Describe the machine that asked, and what asking cost it."""
    rows = [["started at", started_at], ["took", fmt.seconds(duration_s)]]
    rows += [[name, value] for name, value in _flat(msgspec.to_builtins(host_))]
    if run is not None:
        rows += [[f"memory {name.replace('_', ' ')}", fmt.memory(size)] for name, size in _memory(run)]
        rows += [[f"CPU {name}", fmt.seconds(value)] for name, value in run.cpu_s.items()]
    return Table("Host", ("", "value"), rows)


def _memory(run: LoadResult) -> Iterator[tuple[str, int]]:
    yield from msgspec.structs.asdict(run.memory).items()


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as dotted names."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _setting(value)


def _setting(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {True: "yes", False: "no", None: fmt.NOTHING}[value]
    if isinstance(value, int | float):
        return f"{value:,.12g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_setting(part)}" for name, part in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(map(_setting, value)) or fmt.NOTHING
    return str(value)
