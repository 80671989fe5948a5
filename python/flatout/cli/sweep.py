"""`flatout limit PROTOCOL TARGET --sweep 1k..1M`: a ladder of rates, a line for each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Group, Parameter

from flatout import searching, units
from flatout.cli import output as out
from flatout.cli.exposing import to_all
from flatout.cli.flags.shared import Output
from flatout.cli.keep import Keep
from flatout.errors import UsageError
from flatout.limit_search.sweep import ladder as rates
from flatout.protocols import protocol as by_name
from flatout.result.sweep import SweepResult, SweepRow
from flatout.runner.progress import RunProgress
from flatout.scenario.model import Scenario
from flatout.store.live_publisher import LivePublisher
from flatout.store.live_sweep import LiveSweep

LADDER = Group("A ladder of rates instead of a search", sort_key=1)
_CODES = {"end": 0, "loss": 0, "generator": out.GENERATOR, "target": out.TARGET, "interrupted": out.INTERRUPTED}


@dataclass
class Ladder:
    """The rates of a sweep."""

    sweep: Annotated[
        str | None,
        Parameter(
            group=LADDER, help="Go through fixed rates, e.g. 1k..1M, and print a line of shares and times for each."
        ),
    ] = None
    step: Annotated[str, Parameter(group=LADDER, help="Each rate is so many times the last.")] = "1.5"
    for_: Annotated[
        str, Parameter(name="--for", group=LADDER, help="How long each rate is held and counted, after its warm-up.")
    ] = "2s"

    def check(self, *, search_is_usual: bool) -> None:
        """Errors: UsageError for flags that do not fit together; `search_is_usual`: no flag of the search is given."""
        if self.sweep is None and (self.step, self.for_) != ("1.5", "2s"):
            raise UsageError("--step and --for are those of a ladder: say which, with --sweep 1k..1M")
        if self.sweep is not None and not search_is_usual:
            raise UsageError("--sweep goes through fixed rates: leave --loss, --p99, --min, --max and the like out")


def sweep(scenario: Scenario, ladder: Ladder, output: Output, keep: Keep) -> int:
    """Runs the ladder, prints a line a rate, writes the JSON; returns the exit code. Errors: UsageError.

    `keep`: whether it is shown while it goes on; a sweep itself is not kept.
    """
    if output.html is not None:
        raise UsageError("a sweep has no page: leave --html out, and take --json")
    if output.junit is not None:
        raise UsageError("a sweep has no verdict: leave --junit out, and take --json")
    out.check_writable(output)
    stream = sys.stderr if output.json == "-" else sys.stdout

    def say(text: str) -> None:
        if not output.quiet:
            print(text, file=stream, flush=True)

    with keep.shown_live("sweep", scenario) as live:
        result = climb(scenario, ladder, say, live, quiet=output.quiet)
    reported: list[str] = []
    code = out.write_json(result, output, reported)
    say(f"\n{result.sentence}")
    if output.quiet and result.stopped_by in ("generator", "target"):
        out.say(f"flatout: {result.sentence}")
    for line in reported:
        out.say(line)
    unmet = any(not requirement.met for run in result.runs for requirement in run.requirements)
    return out.worst([code, _CODES[result.stopped_by], out.UNMET if unmet else out.DONE])


def climb(
    scenario: Scenario, ladder: Ladder, say: Callable[[str], None], shown: Sequence[LivePublisher], *, quiet: bool
) -> SweepResult:
    """Climbs with a live view between the lines, `shown` elsewhere too. Errors: UsageError."""
    from flatout.view.terminal import ladder as view
    from flatout.view.terminal.live import Live

    offsets = bool(scenario.options.get("offset"))
    first, last = bounds(ladder.sweep or "")
    step, seconds = factor(ladder.step), units.duration(ladder.for_)
    whole_s = len(rates(first, last, step)) * (scenario.warmup_s + seconds)
    watchers = [LiveSweep(one, whole_s) for one in shown]
    for line in view.header(by_name(scenario.protocol).right_tallies, offsets=offsets):
        say(line)

    def go(progress: Callable[[RunProgress], None], before_row: Callable[[], None]) -> SweepResult:
        def on_row(row: SweepRow) -> None:
            before_row()
            say(view.line(row, offsets=offsets))
            for watcher in watchers:
                watcher.row(row)

        return searching.climb(
            scenario, first=first, last=last, step=step, seconds=seconds, progress=progress, on_row=on_row
        )

    # Where no frame can be drawn, the lines of each second would stand between the rows.
    if quiet or not sys.stderr.isatty():
        return go(to_all(*watchers), lambda: None)
    with Live(f"sweep of {scenario.protocol} {scenario.target}") as live:
        return go(to_all(live, *watchers), live.clear)


def bounds(text: str) -> tuple[float, float]:
    """The first rate and the last of `1k..1M`. Errors: UsageError."""
    first, dots, last = text.partition("..")
    if not dots:
        raise UsageError(f"--sweep '{text}': write the first rate and the last, like 1k..1M")
    return units.rate(first), units.rate(last)


def factor(text: str) -> float:
    """The step as a number. Errors: UsageError."""
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"--step '{text}': write a number such as 1.5") from error
