"""The charts of a limit and of a run, with their captions.

From results to `plot.Chart`s. Several limits are overlaid and distinguished by colour, verdicts by shape. Trials that
the generator could not drive are never part of a line. No HTML and no drawing library in here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from flatout.result.model import Distribution, Interval, LimitResult, LoadResult, Trial
from flatout.result.thresholds import LATENESS_NS, LATENESS_TEXT
from flatout.view import facts
from flatout.view import format as fmt
from flatout.view.exchange import Exchange, common_exchange, exchange_of
from flatout.view.page.plot import Axis, Chart, Dash, Plot, Scale, Shape, Values

SHAPES: dict[str, Shape] = {"held": "circle", "failed": "x", "invalid": "diamond"}
DASHES: tuple[Dash, ...] = ("solid", "dashdot", "dashed", "dotdash", "dotted")
DOTS: tuple[Shape, ...] = ("circle", "square", "triangle")
MISSING = ("unsent", "lost", "late", "refused", "invalid")
HATCHES = {
    "unsent": "right_diagonal_line",
    "lost": "left_diagonal_line",
    "late": "dot",
    "refused": "cross",
    "invalid": "horizontal_line",
}


class Named(NamedTuple):
    """A limit and what it is called where there are several."""

    title: str
    result: LimitResult
    colour: str


def limits(named: Sequence[tuple[str, LimitResult]]) -> list[Chart]:
    """Draw the charts that lay all limits over one another; a search of connections is none beside one of rates."""
    results = [Named(title, result, f"series-{i % 6}") for i, (title, result) in enumerate(named)]
    charts: list[Chart] = []
    for axis in ("rate", "connections"):
        some = [named for named in results if named.result.limit.axis == axis]
        if some:
            charts += [answered(some), *([latency(some)] if _common(some).percentiles else []), lateness(some)]
    return charts


def _common(results: Sequence[Named]) -> Exchange:
    return common_exchange([named.result for named in results])


def _load_axis(results: Sequence[Named], loads: Values) -> Axis:
    """The axis of what was asked for; connections go over decades."""
    kind = results[0].result.limit.axis
    return Axis(facts.asked_axis(kind), "rate" if kind == "rate" else "count-log", loads)


def _name(results: Sequence[Named], name: str) -> str:
    """The chart's name on the page, which may have one for each kind of load."""
    return name if results[0].result.limit.axis == "rate" else f"{name}-by-connections"


def answered(results: Sequence[Named]) -> Chart:
    """Rate asked against rate answered, or received."""
    wording = _common(results).wording
    word = wording.came
    trials = [t for named in results for t in named.result.trials]
    top = max((t.intended_per_s for t in trials), default=0.0)
    plot = Plot(
        _load_axis(results, _loads(trials)), Axis(f"{word} per second", "rate", [t.intended_per_s for t in trials])
    )
    if results[0].result.limit.axis == "rate":
        plot.line([0, top], [0, top], f"all {word}", "muted", "dashed", width=1)
    elif trials:
        ends = [min(_loads(trials)), max(_loads(trials))]
        plot.line(ends, [top, top], f"all {word}", "muted", "dashed", width=1)
    for named in results:
        _answered(plot, named, alone=len(results) == 1)
    if len(results) > 1:
        _explain(plot)
    return plot.chart(
        _name(results, word),
        f"Asked and {word}",
        f"Each mark is a trial: how much was asked and how much of it was {word}. On the dashed line everything is "
        f"{word}; where the marks leave it, the {wording.far_end} or the network in between is at its limit. A dot "
        "held, a cross failed, an open diamond counts neither way because the generator could not drive it.",
        "; ".join(_in_words(named) for named in results),
    )


def _answered(plot: Plot, named: Named, *, alone: bool) -> None:
    trials = sorted(named.result.trials, key=lambda t: t.load)
    driven = [t for t in trials if t.verdict != "invalid"]
    label = named.result.wording.came if alone else named.title
    plot.line(_loads(driven), [t.good_per_s for t in driven], label, named.colour)
    for verdict, shape in SHAPES.items():
        some = [t for t in trials if t.verdict == verdict]
        colour = verdict if alone else named.colour
        plot.marks(
            _loads(some),
            [t.good_per_s for t in some],
            verdict if alone else named.title,
            colour,
            shape=shape,
            tips=_tips(some, named, alone=alone),
        )
    plot.level(
        named.result.limit.value,
        "limit" if alone else f"limit of {named.title}",
        named.colour,
        upright=True,
        dash="dotted",
    )


def _explain(plot: Plot) -> None:
    for verdict, shape in SHAPES.items():
        plot.explain(verdict, shape)


def latency(results: Sequence[Named]) -> Chart:
    """Latency percentiles by load."""
    driven = [t for named in results for t in named.result.trials if t.verdict != "invalid"]
    plot = Plot(
        _load_axis(results, _loads(driven)),
        Axis("latency from due", "duration-log", _spread([t.latency_ns.from_due for t in driven])),
    )
    percentiles = facts.PERCENTILES if len(results) == 1 else (("p50", "p50"), ("p99", "p99"))
    for named in results:
        _percentiles(plot, named, percentiles, alone=len(results) == 1)
    goals = {named.result.limit.goal.p99_ns for named in results} - {None}
    for goal in sorted(goal for goal in goals if goal is not None):
        plot.level(goal, f"goal for p99: {fmt.duration(goal)}", "failed")
    return plot.chart(
        _name(results, "latency"),
        "Latency by load",
        "How long answers took, from when the request was due, for the fastest half (p50), all but one in a hundred "
        "(p99) and so on. The axis is logarithmic: each labelled step up is a multiple. A knee shows where waiting "
        "begins. Trials the generator could not drive are left out.",
        "; ".join(_latency_words(named) for named in results),
    )


def _percentiles(plot: Plot, named: Named, percentiles: Sequence[tuple[str, str]], *, alone: bool) -> None:
    trials = _by_load(t for t in named.result.trials if t.verdict != "invalid" and t.latency_ns.from_due)
    for i, (name, field) in enumerate(percentiles):
        ys = [getattr(t.latency_ns.from_due, field) for t in trials]
        label = name if alone else f"{named.title} {name}"
        colour = f"rank-{i}" if alone else named.colour
        plot.line(_loads(trials), ys, label, colour, DASHES[i] if alone else DASHES[2 * i])
        tips = _tips(trials, named, alone=alone)
        plot.marks(_loads(trials), ys, label, colour, shape="circle" if alone else DOTS[i], tips=tips)


def lateness(results: Sequence[Named]) -> Chart:
    """How late the generator itself was, by load."""
    trials = [t for named in results for t in named.result.trials if t.lateness_ns]
    plot = Plot(
        _load_axis(results, _loads(trials)),
        Axis("lateness", "duration-log", [LATENESS_NS, *_spread([t.lateness_ns for t in trials])]),
    )
    names = ("p50", "p99", "max") if len(results) == 1 else ("p99",)
    exchange = _common(results)
    for named in results:
        _lateness(plot, named, names, alone=len(results) == 1)
    plot.level(LATENESS_NS, f"{LATENESS_TEXT}: p99 above is invalid", "invalid")
    return plot.chart(
        _name(results, "lateness"),
        "The generator's own lateness by load",
        f"How long after they were due {exchange.wording.many} left this machine.{exchange.lateness_bound} A p99 above "
        f"the {LATENESS_TEXT} line says that the generator, not the {exchange.wording.far_end}, was at its limit: such "
        "trials (open diamonds) do not count and are off the line.",
        f"{len(trials)} trials with lateness; worst p99 "
        + fmt.duration(max((t.lateness_ns.p99 for t in trials if t.lateness_ns), default=None)),
    )


def _lateness(plot: Plot, named: Named, names: Sequence[str], *, alone: bool) -> None:
    trials = _by_load(t for t in named.result.trials if t.lateness_ns)
    for i, name in enumerate(names):
        ys = [getattr(t.lateness_ns, name) for t in trials]
        driven = [t for t in trials if t.verdict != "invalid"]
        label = name if alone else f"{named.title} {name}"
        colour = f"rank-{2 * i}" if alone else named.colour
        plot.line(_loads(driven), [getattr(t.lateness_ns, name) for t in driven], label, colour, DASHES[2 * i])
        for verdict, shape in SHAPES.items():
            some = [(t, y) for t, y in zip(trials, ys, strict=True) if t.verdict == verdict]
            plot.marks(
                _loads([t for t, _ in some]),
                [y for _, y in some],
                label,
                colour,
                shape=shape,
                tips=_tips([t for t, _ in some], named, alone=alone),
            )


def search(result: LimitResult, name: str) -> Chart:
    """Draw the trials in order, and the bounds closing in."""
    trials = result.trials
    numbers = list(range(1, len(trials) + 1))
    bounds = facts.bounds(trials)
    axis = result.limit.axis
    scale: Scale = "rate-log" if axis == "rate" else "count-log"
    plot = Plot(Axis("trial", "ordinal", numbers), Axis(facts.asked_axis(axis), scale, _loads(trials)))
    ends: Values = [*numbers, *(n + 0.5 for n in numbers[-1:])]
    plot.steps(ends, [*(b.upper for b in bounds), *(b.upper for b in bounds[-1:])], "lowest failed", "failed", "dashed")
    plot.steps(ends, [*(b.lower for b in bounds), *(b.lower for b in bounds[-1:])], "highest held", "held")
    for verdict, shape in SHAPES.items():
        some = [(n, t) for n, t in zip(numbers, trials, strict=True) if t.verdict == verdict]
        plot.marks(
            [n for n, _ in some],
            _loads([t for _, t in some]),
            verdict,
            verdict,
            shape=shape,
            tips=_tips([t for _, t in some], Named("", result, ""), alone=True),
        )
    return plot.chart(
        name,
        "The search, trial by trial",
        "Each mark is a trial in the order they were run, at the load it asked for. The lines are the highest load "
        "that held below any that failed, and the lowest that failed: the search ends when they are close enough.",
        _in_words(Named("", result, "")),
    )


def course(run: LoadResult, name: str) -> list[Chart]:
    """Draw a run second by second: rates, what was not answered, latency, and how late the generator was."""
    run = msgspec.structs.replace(run, intervals=exchange_of(run).seconds(run))
    missing = any(getattr(s, word) for s in run.intervals for word in MISSING)
    return [_rates(run, name), *([_missing(run, name)] if missing else []), _waiting(run, name), profile(run, name)]


def _while_queried(run: LoadResult) -> Sequence[Interval]:
    """Up to the last second in which something was due: late answers after it would look like an outage."""
    last = max((i for i, second in enumerate(run.intervals) if second.planned), default=len(run.intervals))
    return run.intervals[: last + 1]


def _rates(run: LoadResult, name: str) -> Chart:
    seconds, came, exchange = _while_queried(run), run.wording.came, exchange_of(run)
    times, words = _times(seconds), exchange.counted_words(seconds)
    dashes: tuple[Dash, ...] = ("dashed", "dotted", "solid")
    plot = Plot(
        Axis("seconds", "time", times),
        Axis("per second", "rate", [getattr(s, word) for s in seconds for word in words]),
    )
    for word, colour, dash in zip(words, ("muted", "series-1", "series-0"), dashes, strict=False):
        plot.line(times, [getattr(s, word) for s in seconds], word, colour, dash, width=3 if dash == "dotted" else 2)
    plot.course(times, [getattr(s, words[-1]) for s in seconds], _second_tips(seconds, words))
    reading = "both lines should lie on one another: sent below planned is this generator's fault."
    if came in words:
        reading = f"all three lines should lie on one another: {came} below sent is loss, {reading.split(': ')[1]}"
    unknown = exchange.unknown_text(run)
    return plot.chart(
        f"{name}-rates",
        "Rates over time",
        f"The {facts.shown_run_text(run)}, second by second: {reading}{' ' if unknown else ''}{unknown}",
        f"{len(seconds)} seconds; {came} {fmt.rate(run.good_per_s)} of {fmt.rate(run.rate_per_s.planned)}",
    )


def _missing(run: LoadResult, name: str) -> Chart:
    seconds = [s for s in run.intervals if any(getattr(s, word) for word in MISSING)]
    heights = [float(sum(getattr(s, word) for word in MISSING)) for s in seconds]
    plot = Plot(Axis("seconds", "time", _times(run.intervals)), Axis("in that second", "count", heights))
    bottoms = [0.0] * len(seconds)
    for i, word in enumerate(MISSING):
        tops = [bottom + getattr(s, word) for bottom, s in zip(bottoms, seconds, strict=True)]
        if tops != bottoms:
            plot.bars(_times(seconds), bottoms, tops, word, f"series-{i}", hatch=HATCHES[word])
        bottoms = tops
    came = run.wording.came
    plot.course(_times(seconds), heights, _second_tips(seconds, ("planned", "sent", came)))
    what = exchange_of(run).in_time
    return plot.chart(
        f"{name}-missing",
        f"What was not {what}",
        f"What of each second ended in another word than {came}, one hatch a word. A second without a bar had none.",
        f"{len(seconds)} of {len(run.intervals)} seconds had some that were not {what}",
    )


def _waiting(run: LoadResult, name: str) -> Chart:
    seconds = run.intervals
    times, exchange = _times(seconds), exchange_of(run)
    values = [value for s in seconds for value in (s.p50, s.p99, s.lateness_p99)]
    plot = Plot(Axis("seconds", "time", times), Axis(exchange.waiting.axis, "duration-log", values))
    if exchange.percentiles:
        plot.line(times, [s.p99 for s in seconds], "p99", "rank-2", "dashed")
        plot.line(times, [s.p50 for s in seconds], "p50", "rank-0")
    plot.line(times, [s.lateness_p99 for s in seconds], "generator lateness p99", "muted", "dotted")
    tips = _second_tips(seconds, ("planned", "sent", run.wording.came))
    plot.course(times, [s.p50 or s.lateness_p99 for s in seconds], tips)
    return plot.chart(
        f"{name}-waiting",
        exchange.waiting.title,
        exchange.waiting.text,
        f"{len(seconds)} seconds; over the whole run {_p50_p99(exchange.main_distribution(run))}",
    )


def profile(run: LoadResult, name: str) -> Chart:
    """Draw the percentiles of all distributions of a run."""
    rows = [row for row in facts.distribution_rows(run) if row.values]
    names = [label for label, _ in facts.PERCENTILES]
    positions = list(range(1, len(names) + 1))
    plot = Plot(
        Axis("percentile", "ordinal", positions, names),
        Axis("duration", "duration-log", _spread([row.values for row in rows])),
    )
    for i, row in enumerate(rows):
        ys = [getattr(row.values, field) for _, field in facts.PERCENTILES]
        colour = "muted" if row.name == "generator lateness" else f"series-{i}"
        plot.line(positions, ys, row.name, colour, DASHES[2 * (i % 3)])
        plot.marks(
            positions,
            ys,
            row.name,
            colour,
            shape=DOTS[i % 3],
            tips={"": [row.name] * len(ys), "percentile": names, "value": [fmt.duration(y) for y in ys]},
        )
    return plot.chart(
        f"{name}-profile",
        "Percentiles of the whole run",
        f"From the middle (p50) to the worst (max). {exchange_of(run).whole_run}",
        "; ".join(f"{row.name}: {_p50_p99(row.values)}" for row in rows) or "no distribution",
    )


def _by_load(trials: Iterable[Trial]) -> list[Trial]:
    return sorted(trials, key=lambda t: t.load)


def _loads(trials: Sequence[Trial]) -> list[float]:
    return [t.load for t in trials]


def _times(seconds: Sequence[Interval]) -> list[float]:
    return [s.t_s for s in seconds]


def _spread(distributions: Sequence[Distribution | None]) -> list[float]:
    """Find the least and the greatest that a line through percentiles reaches."""
    return [value for d in distributions if d for value in (float(max(d.p50, 1)), float(d.max))]


def _tips(trials: Sequence[Trial], named: Named, *, alone: bool) -> dict[str, list[str]]:
    tips: dict[str, Callable[[Trial], str]] = {
        facts.asked(named.result.limit.axis): lambda t: facts.load(t.load, named.result.limit.axis),
        named.result.wording.came: lambda t: fmt.rate(t.good_per_s),
        "loss": lambda t: fmt.percent(t.loss),
        "latency": lambda t: _p50_p99(t.latency_ns.from_due),
        "lateness": lambda t: _p50_p99(t.lateness_ns),
        "verdict": lambda t: t.verdict if t.verdict == "held" else f"{t.verdict}: {fmt.plain(t.why)}",
    }
    if not exchange_of(named.result).percentiles:
        del tips["latency"]
    titles = {} if alone else {"of": [named.title] * len(trials)}
    return titles | {name: [tip(t) for t in trials] for name, tip in tips.items()}


def _second_tips(seconds: Sequence[Interval], words: Sequence[str]) -> dict[str, list[str]]:
    tips = {"second": [f"{s.t_s:g}" for s in seconds]}
    tips |= {word: [fmt.count(getattr(s, word)) for s in seconds] for word in words}
    tips["in other words"] = [
        ", ".join(f"{w} {getattr(s, w):,}" for w in MISSING if getattr(s, w)) or "none" for s in seconds
    ]
    if "answered" in words:
        tips["latency"] = [f"p50 {fmt.duration(s.p50)}, p99 {fmt.duration(s.p99)}" for s in seconds]
    tips["lateness"] = [f"p99 {fmt.duration(s.lateness_p99)}" for s in seconds]
    return tips


def _p50_p99(distribution: Distribution | None) -> str:
    if distribution is None:
        return "no sample"
    return f"p50 {fmt.duration(distribution.p50)}, p99 {fmt.duration(distribution.p99)}"


def _in_words(named: Named) -> str:
    limit = named.result.limit
    lead = f"{named.title}: " if named.title else ""
    held, failed = (facts.load(bound, limit.axis) for bound in (limit.lower, limit.upper))
    return f"{lead}{len(named.result.trials)} trials; highest load held {held}, lowest failed {failed}"


def _latency_words(named: Named) -> str:
    run = facts.shown_run(named.result)
    lead = f"{named.title}: " if named.title else ""
    return lead + (f"{facts.shown_run_text(run)}: {_p50_p99(run.latency_ns.from_due)}" if run else "no trial")
