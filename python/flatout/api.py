"""flatout from Python: `load` and `limit`, here and for asyncio.

Arguments take numbers (per second, seconds, shares) or the text that the command line takes ("100k", "10s", "0.1%").
Progress comes by callback. Cancelling the async forms, or Ctrl-C in the others, stops the engine at once.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, Unpack

from flatout import arguments, units
from flatout.errors import Interrupted, UsageError
from flatout.fleet.open import driven_by
from flatout.result.model import Axis, LimitResult, LoadResult, Search
from flatout.result.sweep import SweepResult, SweepRow
from flatout.runner.progress import RunProgress, SearchProgress
from flatout.runner.run import quiet
from flatout.scenario.build import scenario_of
from flatout.scenario.model import Scenario, Segment
from flatout.scenario.profile import Format
from flatout.scenario.settings import LoadOptions, Path
from flatout.searching import climb, find, raised, run_explained, search_of, trial_scenario

T = TypeVar("T")
Number = float | int | str


def load(
    protocol: str,
    target: str,
    *,
    rate: Number | None = None,
    duration: Number = 10.0,
    profile: Sequence[Segment] | Path | None = None,
    profile_format: Format | None = None,
    fleet: str | None = None,
    progress: Callable[[RunProgress], None] = quiet,
    **options: Unpack[LoadOptions],
) -> LoadResult:
    """Loads a target once.

    `protocol`: its name; UsageError for an unknown one.
    `target`: host, or host:port; default port: the protocol's. TargetError for an unknown name, UsageError for a public
    address unless `allow_public`.
    `rate`: per second, as number or text ("100k"); no default, one of rate, profile and tick is needed.
    `duration`: s, or text ("1m30s"); default 10 s; UsageError unless above 0.
    `profile`: segments, text ("1k 5s, 2k 5s") or the name of a file (text, bytes or os.PathLike); UsageError beside a
    rate, unless it begins with a slope, which begins at that rate (0: from nothing).
    `profile_format`: how the text is read; default: "rates". UsageError where it could be tcpscaler's.
    `fleet`: a Dask scheduler's address or file, or "local:N": all of its hosts drive the load together; default: this
    host does. Needs the extra `fleet`.
    `progress`: called on each tick with a `RunProgress`; default: nothing is called.
    `options`: the settings of `LoadOptions`; UsageError for an unknown one.

    Errors come before anything is sent; GeneratorError where this host cannot do it; Interrupted, with the result, on
    Ctrl-C. A run that could not be driven is no error: look at `verdict`.
    """
    asked: dict[str, Any] = {"rate": rate, "duration": duration, "profile": profile, "profile_format": profile_format}
    arguments.callback("progress", progress)
    scenario = scenario_of(protocol, target, **asked, **options)
    with driven_by(fleet) as elsewhere:
        return run_explained(scenario, progress, elsewhere=elsewhere)


async def load_async(
    protocol: str,
    target: str,
    *,
    rate: Number | None = None,
    duration: Number = 10.0,
    profile: Sequence[Segment] | Path | None = None,
    profile_format: Format | None = None,
    fleet: str | None = None,
    progress: Callable[[RunProgress], None] = quiet,
    **options: Unpack[LoadOptions],
) -> LoadResult:
    """As `load`, in a thread; `progress` is called in that thread. Cancelling stops the engine at once."""
    asked: dict[str, Any] = {"rate": rate, "duration": duration, "profile": profile, "profile_format": profile_format}
    arguments.callback("progress", progress)
    scenario = scenario_of(protocol, target, **asked, **options)

    def work(stop: threading.Event) -> LoadResult:
        with driven_by(fleet) as elsewhere:
            return run_explained(scenario, progress, stop, elsewhere)

    return await _in_thread(work)


def limit(
    protocol: str,
    target: str,
    *,
    loss: Number = 0.001,
    p99: Number | None = None,
    least: Number | None = None,
    most: Number | None = None,
    within: Number = 0.02,
    budget: Number = 60.0,
    search: Axis = "rate",
    rate: Number | None = None,
    improve: bool = False,
    keep: bool = False,
    fleet: str | None = None,
    progress: Callable[[SearchProgress], None] = quiet,
    **options: Unpack[LoadOptions],
) -> LimitResult:
    """Searches the highest load at which loss and p99 stay within the goal.

    `protocol`, `target`: as for `load`.
    `loss`: the largest share lost, as fraction or text ("0.1%"); default 0.001.
    `p99`: the largest 99th percentile of latency from due, s or text; default: no such goal. UsageError for one-way
    messages.
    `least`, `most`: the bounds, rates per second or numbers of connections; default 1k and 5M per second, or 10
    connections and what this host can open. UsageError unless 0 < least < most.
    `within`: the relative distance at which the search ends, fraction or text; default 0.02, 0.001 to 0.5.
    `budget`: time for the search, s or text; default 60 s, at least 5 s.
    `search`: "rate" (default) or "connections".
    `rate`: the fixed rate of a search along connections, per second; default 20k. UsageError beside search="rate".
    `improve`: then change settings that findings name, one by one, and search again (`improvements`); default False.
    `keep`: leave those that raised the limit; default False: all are undone.
    `fleet`: as for `load`; UsageError beside `improve`, which changes this host.
    `progress`: called on each tick with a `SearchProgress`; default: nothing is called.
    `options`: the settings of `LoadOptions` but `count`, `tick` and ping-pong arrivals; UsageError for these.

    Errors as for `load`.
    """
    arguments.callback("progress", progress)
    scenario = trial_scenario(protocol, target, **options)
    goal: dict[str, Any] = {"loss": loss, "p99": p99, "within": within, "budget": budget}
    asked = search_of(scenario, axis=search, rate=rate, least=least, most=most, **goal)
    ways = _Ways(improve=improve, keep=keep, fleet=fleet)
    result = ways.searched(scenario, asked, progress, threading.Event())
    if result.limit.stopped_by == "interrupted" or any(one.interrupted for one in result.improvements):
        raise Interrupted(result)
    return result


class _Ways:
    """From where a search is done, and whether settings are tried after it."""

    def __init__(self, *, improve: bool, keep: bool, fleet: str | None) -> None:
        """Errors: UsageError for what does not go together."""
        self._improve, self._keep = arguments.switch("improve", improve), arguments.switch("keep", keep)
        self._fleet = fleet
        if self._improve and fleet is not None:
            raise UsageError("improve changes this host and searches from it: leave fleet out")

    def searched(
        self, scenario: Scenario, asked: Search, progress: Callable[[SearchProgress], None], stop: threading.Event
    ) -> LimitResult:
        """An interrupt ends it with what was measured."""
        with driven_by(self._fleet) as elsewhere:

            def seek(scenario: Scenario, search: Search, *, title: str | None = None) -> LimitResult:  # noqa: ARG001
                return find(scenario, search, progress, stop, elsewhere)

            if self._improve:
                return raised(scenario, asked, seek, keep=self._keep)
            return seek(scenario, asked)


def sweep(
    protocol: str,
    target: str,
    *,
    least: Number = 1e3,
    most: Number = 1e6,
    step: float = 1.5,
    each: Number = 2.0,
    on_row: Callable[[SweepRow], None] = quiet,
    progress: Callable[[RunProgress], None] = quiet,
    **options: Unpack[LoadOptions],
) -> SweepResult:
    """Goes through a ladder of fixed rates and reports each; it ends where the generator does, or at over half lost.

    `protocol`, `target`: as for `load`.
    `least`, `most`: the first rate and the highest, per second; default 1k and 1M. UsageError unless 0 < least <= most.
    `step`: each rate is so many times the last; default 1.5, 1.01 to 100.
    `each`: how long each rate is held and counted, s or text; default 2 s.
    `on_row`: called with each finished row; `progress`: on each tick of its run. Default: nothing is called.
    `options`: as for `limit`.

    Errors as for `load`.
    """
    scenario = trial_scenario(protocol, target, **options)
    result = climb(
        scenario,
        first=arguments.rate("least", least),
        last=arguments.rate("most", most),
        step=step,
        seconds=units.seconds("each", each),
        progress=progress,
        on_row=on_row,
    )
    if result.stopped_by == "interrupted":
        raise Interrupted(result)
    return result


async def limit_async(
    protocol: str,
    target: str,
    *,
    loss: Number = 0.001,
    p99: Number | None = None,
    least: Number | None = None,
    most: Number | None = None,
    within: Number = 0.02,
    budget: Number = 60.0,
    search: Axis = "rate",
    rate: Number | None = None,
    improve: bool = False,
    keep: bool = False,
    fleet: str | None = None,
    progress: Callable[[SearchProgress], None] = quiet,
    **options: Unpack[LoadOptions],
) -> LimitResult:
    """As `limit`, in a thread; `progress` is called in that thread. Cancelling stops the engine at once."""
    arguments.callback("progress", progress)
    scenario = trial_scenario(protocol, target, **options)
    goal: dict[str, Any] = {"loss": loss, "p99": p99, "within": within, "budget": budget}
    asked = search_of(scenario, axis=search, rate=rate, least=least, most=most, **goal)
    ways = _Ways(improve=improve, keep=keep, fleet=fleet)
    return await _in_thread(lambda stop: ways.searched(scenario, asked, progress, stop))


async def _in_thread(work: Callable[[threading.Event], T]) -> T:
    stop = threading.Event()
    task = asyncio.ensure_future(asyncio.to_thread(work, stop))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([task])
        raise
