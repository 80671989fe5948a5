"""The facts that every view shows of a result: its sentence, its rows, the run to show in detail, its bounds.

Pure: results in, texts and rows out, so that terminal and page agree. No colour, layout or mark-up in here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from flatout.result.model import (
    Axis,
    Distribution,
    LimitResult,
    LoadResult,
    Node,
    Requirement,
    Result,
    SignedDistribution,
    Trial,
)
from flatout.scenario.requirement import CONNECTION_SHARES, COUNTS
from flatout.view import format as fmt
from flatout.view.exchange import Exchange, exchange_of
from flatout.view.exchange.base import CounterRow

# So many hosts a terminal shows.
_MOST_NODES = 12

PERCENTILES = (("p50", "p50"), ("p90", "p90"), ("p99", "p99"), ("p99.9", "p999"), ("max", "max"))
CONNECTIONS = {
    "opened": "attempts, with those in place of others",
    "established": "succeeded",
    "failed": "did not succeed",
    "refused": "of these: refused by the target",
    "timed_out": "of these: nothing came back in time",
    "local": "of these: not possible from this host",
    "closed": "ended in order by the target",
    "reset": "cut off by the target",
    "broken": "ended here, for invalid data",
    "reopened": "replaced another one",
    "peak": "open at once",
    "live": "open at the end",
}
VERDICTS = {
    "generator-limited": "This generator could not drive what was asked, so this is no limit of the {far_end}",
    "target-lost": "The target was lost",
    "interrupted": "Interrupted",
    "held": "Held",
    "failed": "Failed",
    "invalid": "Invalid, counts neither way",
}
STOPPED = {
    "found": "the limit is known as closely as was asked for",
    "max": "held up to the highest load that was allowed",
    "min": "failed already at the lowest load",
    "budget": "the time was used up",
    "generator": "the generator could not do more",
    "target": "the target was lost",
    "interrupted": "interrupted",
}


class Bounds(NamedTuple):
    """What is known after a trial: the highest load held below the lowest that failed."""

    lower: float | None
    upper: float | None


class OutcomeRow(NamedTuple):
    """One outcome, how many, and its share of what was planned (or None: it counts answers, not requests)."""

    word: str
    number: int
    share: float | None
    meaning: str


class DistributionRow(NamedTuple):
    """One distribution of durations under its name."""

    name: str
    values: Distribution | None


def load(value: float | None, axis: Axis) -> str:
    """A load on the axis of a search: a rate, or so many connections."""
    return fmt.rate(value) if axis == "rate" or value is None else fmt.count(round(value))


def conditional_throughput(result: LimitResult) -> str:
    """The conditional throughput at the limit in words; empty where there is none."""
    per_s = result.limit.conditional_throughput_per_s
    return "" if per_s is None else f"Conditional throughput (RFC 9971): {fmt.rate(per_s)}."


def search_notes(result: LimitResult) -> list[str]:
    """What is worth knowing of a search beside its sentence: throughput, loss, what was left out, shared CPUs."""
    limit = result.limit
    notes = [conditional_throughput(result)]
    if limit.loss_below is not None:
        notes.append(f"Over all undisturbed time at and below it {fmt.percent(limit.loss_below)} was lost.")
    if limit.censored > 0:
        notes.append(f"Of all trial time {fmt.percent(limit.censored)} was disturbed and left out.")
    if result.trials:
        # Once the target has ended, nothing of it can be seen any more.
        held = [trial for trial in result.trials if trial.verdict == "held"]
        notes.append(placed((held or result.trials)[-1]))
        notes.append(_throttled(result.trials))
    return [note for note in notes if note]


def _throttled(trials: Sequence[Trial]) -> str:
    """How many trials a CPU quota held up; empty where none."""
    held_up = [trial for trial in trials if trial.contention and trial.contention.throttled_s]
    if not held_up:
        return ""
    return f"In {len(held_up)} of {len(trials)} trials a CPU quota held this process's control group up (cpu.max)."


def placed(run: LoadResult) -> str:
    """That load threads and target shared CPUs, or that this is unknown; empty where they did not."""
    placement = run.placement
    if placement is None:
        return ""
    if cpus := placement.shared_cpus:
        several = len(cpus) > 1
        numbers = ", ".join(map(str, cpus))
        return f"{'CPUs' if several else 'CPU'} {numbers} {'were' if several else 'was'} {placement.why}."
    if placement.where in ("hidden", "nobody"):
        return f"Whether load threads shared CPUs with the target is unknown: {placement.why}."
    if placement.target and not placement.target.ended and run.contention and run.contention.target is None:
        return (
            f"How long {placement.target.name} waited for CPUs is unknown: this kernel does not count it (schedstat)."
        )
    return ""


def asked(axis: Axis) -> str:
    """The head of a column of loads."""
    return "asked" if axis == "rate" else "connections"


def asked_axis(axis: Axis) -> str:
    """The label of an axis of loads."""
    return "asked per second" if axis == "rate" else "connections"


def axis_of(trial: Trial) -> Axis:
    """On which axis a trial stands."""
    return "rate" if trial.intended_connections is None else "connections"


def subject(result: Result) -> str:
    """The protocol and the target."""
    known = (result.scenario.protocol, result.scenario.target)
    return " ".join(fmt.plain(value) for value in known if value) or result.kind


def sentence(result: Result) -> str:
    """The finding in one sentence."""
    return fmt.plain(result.sentence) if isinstance(result, LimitResult) else run_sentence(result)


def reached(result: Result) -> float | None:
    """The rate that a result reached: the limit, or the rate answered or received."""
    return result.limit.value if isinstance(result, LimitResult) else result.good_per_s


def reached_text(result: Result) -> str:
    """What was reached, in words."""
    if isinstance(result, LimitResult) and result.limit.axis == "connections":
        return f"{load(result.limit.value, 'connections')} connections"
    return fmt.rate(reached(result))


def fastest_first(named: Sequence[tuple[str, Result]]) -> list[tuple[str, Result]]:
    """Several results in the order of what they reached."""
    return sorted(named, key=lambda pair: reached(pair[1]) or 0.0, reverse=True)


def comparison(named: Sequence[tuple[str, Result]]) -> str:
    """Several results in one sentence."""
    (best, first), *others = fastest_first(named)
    top = reached(first)
    rest = [f"{_times(top, reached(result))}{fmt.plain(title)} ({reached_text(result)})" for title, result in others]
    return f"{fmt.plain(best)} reached {reached_text(first)}" + (f", {' and '.join(rest)}" if rest else "") + "."


def _times(top: float | None, other: float | None) -> str:
    return f"{top / other:.2g} times " if top and other else "against "


def run_sentence(run: LoadResult) -> str:
    """One run in a sentence, after any reason to doubt it."""
    found = f"{exchange_of(run).rates(run)}{_latency(run)}." if run.outcomes.sent else "Nothing was sent."
    why = fmt.plain(run.why)
    if run.verdict == "ok":
        return f"{found} {why[:1].upper()}{why[1:]}." if why else found
    words = VERDICTS.get(run.verdict, run.verdict).format(far_end=run.wording.far_end)
    return f"{words}: {why}. {found}" if why else f"{words}. {found}"


def _latency(run: LoadResult) -> str:
    # Waits of requests that never left count from due, too: without answers they are no latency of the server's.
    due = run.latency_ns.from_due if run.outcomes.answered else None
    return f", latency p50 {fmt.duration(due.p50)}, p99 {fmt.duration(due.p99)}" if due else ""


def outcome_rows(run: LoadResult) -> list[OutcomeRow]:
    """Every outcome in the order of the equation; where outcomes are unknown, only what left."""
    exchange = exchange_of(run)
    if exchange.unknown(run):
        return [_outcome(run, exchange, word) for word in ("planned", "sent", "unsent")]
    rows = [_outcome(run, exchange, word) for word in ("planned", "sent", *exchange.sent_words, "unsent")]
    return rows + [_outcome(run, exchange, word)._replace(share=None) for word in ("duplicate", "reordered")]


def _outcome(run: LoadResult, exchange: Exchange, word: str) -> OutcomeRow:
    outcomes = run.outcomes
    value = getattr(outcomes, word) or 0
    share = value / outcomes.planned if outcomes.planned else None
    return OutcomeRow(word, value, share, exchange.meaning(word))


def connection_rows(run: LoadResult) -> list[CounterRow]:
    """The counters of connections; those of faults only where they are above 0."""
    if run.connections is None:
        return []
    rows = [CounterRow(word, getattr(run.connections, word), meaning) for word, meaning in CONNECTIONS.items()]
    always = ("opened", "established", "peak")
    return [row for row in rows if row.number or row.word in always]


def equations(run: LoadResult) -> tuple[str, ...]:
    """The equations with this run's numbers in them."""
    outcomes, exchange = run.outcomes, exchange_of(run)
    parts = " + ".join(f"{word} {getattr(outcomes, word) or 0:,}" for word in exchange.sent_words)
    planned = f"planned {outcomes.planned:,} = sent {outcomes.sent:,} + unsent {outcomes.unsent:,}"
    return (planned,) if exchange.unknown(run) else (planned, f"sent {outcomes.sent:,} = {parts}")


def distribution_rows(run: LoadResult) -> list[DistributionRow]:
    """The distributions of a run, the generator's own lateness last."""
    return [DistributionRow(name, values) for name, values in exchange_of(run).distributions(run)]


OFFSETS = (("mean", "mean"), ("p1", "p1"), ("p50", "p50"), ("p99", "p99"), ("p99.9", "p999"), ("max", "max"))


def offset_cells(offset: SignedDistribution) -> list[tuple[str, str]]:
    """How far the server's clock was ahead: names and values, the least first."""
    return [("min", fmt.offset(offset.min)), *((name, fmt.offset(getattr(offset, field))) for name, field in OFFSETS)]


def requirement_value(requirement: Requirement) -> str:
    """What was measured for a requirement, in the unit of its metric."""
    if requirement.value is None:
        return "no sample"
    metric = re.match(r"\s*(\w*)", requirement.expression)
    return f"measured {_in_its_unit(metric.group(1) if metric else '', requirement.value)}"


def _in_its_unit(metric: str, value: float) -> str:
    if metric == "loss" or metric in CONNECTION_SHARES:
        return fmt.percent(value)
    if metric == "rate":
        return fmt.rate(value)
    return fmt.count(round(value)) if metric in COUNTS else fmt.duration(value)


def bounds(trials: Sequence[Trial]) -> list[Bounds]:
    """The bounds after each trial; a load that failed is an upper bound even if it held before."""
    after = []
    for end in range(1, len(trials) + 1):
        failed = [t.load for t in trials[:end] if t.verdict == "failed"]
        upper = min(failed, default=None)
        held = [t.load for t in trials[:end] if t.verdict == "held"]
        after.append(Bounds(max((r for r in held if upper is None or r < upper), default=None), upper))
    return after


def shown_run(result: Result) -> LoadResult | None:
    """The run to show in detail: the confirming one, else the longest at the highest load held."""
    if isinstance(result, LoadResult):
        return result
    held = [t for t in result.trials if t.verdict == "held"]
    confirming = [t for t in held if t.phase.startswith("confirm")]
    if confirming:
        return confirming[-1]
    return max(held or result.trials, key=lambda t: (t.load == result.limit.value, t.duration_s), default=None)


def _unit(trial: Trial) -> str:
    return "" if trial.intended_connections is None else " connections"


def shown_run_text(run: LoadResult) -> str:
    """Which run a chart over time shows, in words."""
    if isinstance(run, Trial):
        return f"{run.phase} trial at {load(run.load, axis_of(run))}{_unit(run)} ({run.verdict})"
    return f"run at {fmt.rate(run.rate_per_s.planned)}"


def improvement_lines(result: LimitResult) -> list[tuple[str, str]]:
    """What `--improve` changed and what became of it: the setting with its values, and the outcome."""
    lines = []
    for one in (each for each in result.improvements if each.setting):
        values = f": {_grouped(one.before)} → {_grouped(one.tried)}" if one.tried else ""
        parts = []
        if one.limit_after is not None:
            before = "none" if one.limit_before is None else fmt.count(round(one.limit_before))
            parts.append(f"{before} → {fmt.count(round(one.limit_after))} {result.limit.unit}")
        if one.gain is not None:
            parts.append(f"{100 * one.gain:+.0f} %")
        parts.append(fmt.plain(one.why))
        if one.undone:
            parts.append("undone")
        if one.kept and one.risk:
            parts.append(f"risk: {one.risk}")
        lines.append((f"{fmt.plain(one.setting)}{values}", "; ".join(parts)))
    return lines


def left_to_people(result: LimitResult) -> list[str]:
    """The findings that `--improve` came to, and that no setting helps with."""
    return [fmt.plain(one.finding) for one in result.improvements if not one.setting]


def _grouped(values: str) -> str:
    """Whole numbers with separators; other text as it is."""
    # The kernel puts tabs between several.
    return " ".join(f"{int(word):,}" if word.isdecimal() else fmt.plain(word) for word in values.split())


def worst_nodes(nodes: Sequence[Node]) -> list[Node]:
    """All of a few nodes; of many those in trouble, then those whose generator was latest; in their order."""
    by_trouble = sorted(nodes, key=lambda node: (node.verdict == "ok", -node.unsent, -(node.lateness_p99_ns or 0)))
    return sorted(by_trouble[:_MOST_NODES], key=lambda node: node.node)
