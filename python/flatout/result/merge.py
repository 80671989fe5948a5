"""Merges the results of several nodes exactly: counts and histograms are added. Pure.

The results must be of one scenario, of different nodes of it, and of runs that overlap in time. Rates are those over
the time from the first node's start to the last one's end, and seconds are added by the calendar. What cannot be added
exactly (a second's percentiles) is left out. The counters of a receiver cannot be added: each node samples those of all
nodes' messages. Between the first node's sample before and the last one's after, all messages have arrived, and the
difference of the counters is compared with what all nodes have sent. Where a node is missing, the difference counts its
messages too, and the loss stays unknown.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from flatout._engine import Histogram
from flatout.errors import ArgumentError, FlatoutError, UsageError
from flatout.result import overlap, requirements
from flatout.result.counts import CounterSamples
from flatout.result.finding import OF_GENERATOR
from flatout.result.histogram import both_sides, distribution, histogram, signed_distribution
from flatout.result.loss import SHARED, LossAccount, accounting, widest
from flatout.result.machine import Memory
from flatout.result.model import (
    Connections,
    Distribution,
    Interval,
    Latency,
    LimitResult,
    LoadResult,
    Node,
    Outcomes,
    Rates,
    RunVerdict,
    SignedDistribution,
    Trial,
)
from flatout.scenario import streams
from flatout.scenario.model import Scenario
from flatout.scenario.nodes import fraction

# What may differ between the nodes of one load.
_OWN = ("node", "share", "sources", "seed", "log")
# The first of these that any node says is the verdict of all.
_WORST: tuple[RunVerdict, ...] = ("interrupted", "target-lost", "generator-limited", "ok")
_COUNTS = ("planned", "sent", "unsent", "answered", "late", "lost", "refused", "invalid", "duplicate")


def merge(results: Sequence[LoadResult], names: Sequence[str] = ()) -> LoadResult:
    """Adds up the results of nodes; `warnings` name a missing node, and runs that overlap in part only.

    `names`: what errors call each result, such as its file; default: its node and host.
    Errors: UsageError for results of different scenarios or of runs that do not overlap, FlatoutError for two of one
    node.
    """
    results = _checked(results)
    nodes = sorted(_numbered(results), key=lambda pair: pair[0])
    missing = _check_nodes([number for number, _ in nodes], _of(results[0]))
    runs = [run for _, run in nodes]
    _check_scenarios(runs)
    partly = overlap.check(results, [f"'{name}'" for name in names] or [_title(result) for result in results])
    whole_s = overlap.overlap(runs).whole_s
    account = _account(sum_of(Outcomes, [run.outcomes for run in runs]), runs, whole=not missing)
    outcomes = account.outcomes
    verdict, why = _verdict(nodes, account.lost)
    connections = [run.connections for run in runs if run.connections]
    latencies = [run.latency_ns for run in runs]
    merged = LoadResult(
        scenario=_scenario(runs),
        host=runs[0].host,
        started_at=min((run.started_at for run in runs), key=overlap.unix_s),
        duration_s=whole_s,
        verdict=verdict,
        why=why,
        outcomes=outcomes,
        unsent_because=added(run.unsent_because for run in runs),
        loss=account.loss,
        # A node that was cut short adds what it sent, and not the rate at which it did.
        rate_per_s=Rates.over(outcomes, whole_s),
        latency_ns=Latency(
            from_due=_distributions(latency.from_due for latency in latencies),
            from_sent=_distributions(latency.from_sent for latency in latencies),
        ),
        lateness_ns=_distributions(run.lateness_ns for run in runs),
        reading_ns=_distributions(run.reading_ns for run in runs),
        connect_ns=_distributions(run.connect_ns for run in runs),
        response_ns=_distributions(run.response_ns for run in runs),
        offset_ns=_offsets(run.offset_ns for run in runs),
        intervals=_intervals(runs),
        tallies=added(run.tallies for run in runs),
        connections=sum_of(Connections, connections) if connections else None,
        carrier=", ".join(dict.fromkeys(run.carrier for run in runs if run.carrier)),
        memory=_memory([run.memory for run in runs]),
        cpu_s=added(run.cpu_s for run in runs),
        own_drops=sum(run.own_drops for run in runs),
        receiver=account.receiver,
        readings=widest(_samples(runs)),
        warnings=[*missing, *partly, *_collected(nodes, "warnings"), *account.warnings],
        notes=[
            *overlap.apart(runs),
            *account.notes,
            *_collected(nodes, "notes", () if account.receiver is None else (SHARED,)),
        ],
        nodes=[_node(number, run) for number, run in nodes],
        one_way=runs[0].one_way,
    )
    return requirements.evaluated(merged)


def _checked(results: Any) -> list[LoadResult]:
    """The results as a list. Errors: ArgumentError where they are none."""
    found = [results] if isinstance(results, str) or not hasattr(type(results), "__iter__") else list(results)
    if strange := [type(one).__name__ for one in found if not isinstance(one, LoadResult | LimitResult)]:
        raise ArgumentError("results", f": give a list of results of loads, not of {', '.join(strange)}")
    return found


def _numbered(results: Sequence[LoadResult]) -> list[tuple[int, LoadResult]]:
    if not results:
        raise UsageError("there is no result to merge")
    if any(isinstance(result, Trial) or not isinstance(result, LoadResult) for result in results):
        raise UsageError("only results of a load can be merged, not those of a search")
    return [(_node_of(result)[0], result) for result in results]


def _node_of(result: LoadResult) -> tuple[int, int]:
    if result.scenario.node is None:
        raise UsageError(
            f"the result of {result.host.hostname}, {result.started_at}, is not that of a node: run with --node I/N"
        )
    return result.scenario.node


def _title(result: LoadResult) -> str:
    return f"node {_node_of(result)[0]} ({result.host.hostname})"


def _of(result: LoadResult) -> int:
    return _node_of(result)[1]


def _check_nodes(numbers: Sequence[int], of: int) -> list[str]:
    """Warnings on missing nodes."""
    twice = [number for number, times in Counter(numbers).items() if times > 1]
    if twice:
        raise FlatoutError(f"node {twice[0]} of {of} is there {numbers.count(twice[0])} times: counted once too often")
    return [f"node {number} of {of} is missing" for number in range(1, of + 1) if number not in numbers]


def _check_scenarios(runs: Sequence[LoadResult]) -> None:
    first, *others = runs
    for other in others:
        if _of(other) != _of(first):
            raise UsageError(f"one result is of {_of(first)} nodes and another of {_of(other)}: they are not one load")
        names = sorted({*Scenario.__struct_fields__} - set(_OWN))
        differ = [name for name in names if getattr(first.scenario, name) != getattr(other.scenario, name)]
        if differ:
            one, two = (getattr(run.scenario, differ[0]) for run in (first, other))
            raise UsageError(
                f"the results are of different scenarios: '{differ[0]}' is {one!r} in one, {two!r} in another"
            )


def _scenario(runs: Sequence[LoadResult]) -> Scenario:
    """The whole load, as one host would run it."""
    sources = dict.fromkeys(itertools.chain.from_iterable(run.scenario.sources for run in runs))
    return msgspec.structs.replace(runs[0].scenario, node=None, share=None, log=None, sources=tuple(sources))


def _verdict(nodes: Sequence[tuple[int, LoadResult]], lost: str | None) -> tuple[RunVerdict, str]:
    if lost is not None:
        return "target-lost", lost
    number, run = min(nodes, key=lambda pair: _WORST.index(pair[1].verdict))
    if run.verdict == "ok":
        return "ok", f"all {len(nodes)} nodes: {run.why}"
    return run.verdict, f"node {number} ({run.host.hostname}): {run.why}"


def _account(outcomes: Outcomes, runs: Sequence[LoadResult], *, whole: bool) -> LossAccount:
    """The account of all that the nodes sent."""
    # Without its samples a node's time among the others is unknown.
    samples = _samples(runs) if all(run.readings for run in runs) else []
    return accounting(one_way=runs[0].one_way)(outcomes, samples, shared=not whole)


def _samples(runs: Sequence[LoadResult]) -> list[CounterSamples]:
    return [both for run in runs for both in run.readings]


def sum_of(kind: Any, parts: Sequence[Any]) -> Any:
    """Structs of numbers, added field by field; a field that is unknown in one of them is unknown in the sum."""
    return kind(**{name: _sum(getattr(part, name) for part in parts) for name in kind.__struct_fields__})


def _sum(numbers: Iterable[Any]) -> Any:
    known = list(numbers)
    return None if None in known else sum(known)


def added(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Numbers by name, added up."""
    total: dict[str, Any] = {}
    for part in parts:
        for name, number in part.items():
            total[name] = total.get(name, 0) + number
    return total


def _distributions(parts: Iterable[Distribution | None]) -> Distribution | None:
    total = Histogram()
    for part in parts:
        if part is not None:
            total.add(histogram(part))
    return distribution(total)


def _offsets(parts: Iterable[SignedDistribution | None]) -> SignedDistribution | None:
    behind, ahead = Histogram(), Histogram()
    for part in parts:
        if part is not None:
            for total, side in zip((behind, ahead), both_sides(part), strict=True):
                total.add(side)
    return signed_distribution(behind, ahead)


def _memory(parts: Sequence[Memory]) -> Memory:
    """All hosts' memory; a connection takes what it takes on the host where it takes most."""
    return Memory(
        peak_rss=sum(part.peak_rss for part in parts),
        slots=sum(part.slots for part in parts),
        per_connection=max(part.per_connection for part in parts),
    )


def _intervals(runs: Sequence[LoadResult]) -> list[Interval]:
    seconds: dict[int, list[Interval]] = {}
    for run, late_s in zip(runs, overlap.seconds_late(runs), strict=True):
        for interval in run.intervals:
            moved = msgspec.structs.replace(interval, t_s=round(interval.t_s + late_s, 3))
            # The last one may be shorter than a second.
            seconds.setdefault(math.ceil(moved.t_s - 1e-3), []).append(moved)
    return [added_second(seconds[number]) for number in sorted(seconds)]


def added_second(parts: Sequence[Interval]) -> Interval:
    """One second of several hosts. Percentiles cannot be added: they are kept where only one host has them."""
    counts = {name: sum(getattr(part, name) for part in parts) for name in _COUNTS}
    return Interval(
        t_s=max(part.t_s for part in parts),
        **counts,
        p50=_alone(part.p50 for part in parts),
        p99=_alone(part.p99 for part in parts),
        lateness_p99=_alone(part.lateness_p99 for part in parts),
    )


def _alone(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return known[0] if len(known) == 1 else None


def _collected(nodes: Sequence[tuple[int, LoadResult]], name: str, settled: Sequence[str] = ()) -> list[str]:
    """The notes or warnings of the nodes, without those that are `settled` by the merge."""
    texts = [(number, run, text) for number, run in nodes for text in getattr(run, name) if text not in settled]
    return [f"node {number} ({run.host.hostname}): {text}" for number, run, text in texts]


def _node(number: int, run: LoadResult) -> Node:
    return Node(
        node=number,
        hostname=run.host.hostname,
        started_at=run.started_at,
        verdict=run.verdict,
        why=run.why,
        sent=run.outcomes.sent,
        answered=run.outcomes.answered,
        unsent=run.outcomes.unsent,
        lost=None if run.loss is None else run.outcomes.lost,
        findings=[finding for finding in run.findings if finding.name in OF_GENERATOR],
        cpu_s=run.cpu_s,
        flows=streams.askers(run.scenario),
        share=fraction(run.scenario.node, run.scenario.share),
    )
