"""flatout from Python: `load`, `limit` and `serve`, and the first two for asyncio.

Arguments take numbers (per second, seconds, shares) or the text that the command line takes ("100k", "10s", "0.1%").
Progress comes by callback. Cancelling the async forms, or Ctrl-C in the others, stops the engine at once.
"""

from __future__ import annotations

import asyncio
import datetime
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, Unpack

import msgspec

from flatout import host, units
from flatout.errors import Interrupted, UsageError
from flatout.limits.drive import World, find_limit
from flatout.options import LoadOptions, scenario_of
from flatout.progress import RunProgress, SearchProgress
from flatout.result import Goal, LimitResult, LoadResult, Search
from flatout.run import plain, quiet, run, share_later_than
from flatout.scenario.model import Scenario, Segment
from flatout.scenario.plan import make
from flatout.scenario.profile import Format
from flatout.server import Server

T = TypeVar("T")
Number = float | int | str
TRIAL_WARMUP_S = 0.2
# Waiting for lost answers ends each trial: on a host or a LAN nothing that is worth having takes longer.
TRIAL_TIMEOUT_S = 0.5
_PROBE_PER_S = 1000.0
_PROBE_S = 0.1
_PROBE_LOSS = 0.02
_FLAT_OUT_PER_S = 4e6


def load(
    protocol: str,
    target: str,
    *,
    rate: Number | None = None,
    duration: Number = 10.0,
    profile: Sequence[Segment] | str | None = None,
    profile_format: Format | None = None,
    progress: Callable[[RunProgress], None] = quiet,
    **options: Unpack[LoadOptions],
) -> LoadResult:
    """Loads a target once at `rate` per second for `duration`, or after `profile`.

    Errors: UsageError, TargetError, GeneratorError before anything is sent; Interrupted, with the result, on Ctrl-C.
    A run that could not be driven is no error: look at `verdict`.
    """
    asked: dict[str, Any] = {"rate": rate, "duration": duration, "profile": profile, "profile_format": profile_format}
    scenario = scenario_of(protocol, target, **asked, **options)
    return run(scenario, progress)


async def load_async(
    protocol: str,
    target: str,
    *,
    rate: Number | None = None,
    duration: Number = 10.0,
    profile: Sequence[Segment] | str | None = None,
    profile_format: Format | None = None,
    progress: Callable[[RunProgress], None] = quiet,
    **options: Unpack[LoadOptions],
) -> LoadResult:
    """As `load`, in a thread; `progress` is called in that thread. Cancelling stops the engine at once."""
    asked: dict[str, Any] = {"rate": rate, "duration": duration, "profile": profile, "profile_format": profile_format}
    scenario = scenario_of(protocol, target, **asked, **options)
    return await _in_thread(lambda stop: run(scenario, progress, stop))


def limit(
    protocol: str,
    target: str,
    *,
    loss: Number = 0.001,
    p99: Number | None = None,
    least: Number = 1e3,
    most: Number = 5e6,
    within: Number = 0.02,
    budget: Number = 60.0,
    progress: Callable[[SearchProgress], None] = quiet,
    **options: Unpack[LoadOptions],
) -> LimitResult:
    """Searches the highest rate between `least` and `most` at which loss and p99 from due stay within the goal.

    `within`: how far apart, relatively, the highest held and the lowest failed rate may end. Errors as for `load`.
    """
    search = search_of(loss=loss, p99=p99, least=least, most=most, within=within, budget=budget)
    result = find(trial_scenario(protocol, target, **options), search, progress, threading.Event())
    if result.limit.stopped_by == "interrupted":
        raise Interrupted(result)
    return result


async def limit_async(
    protocol: str,
    target: str,
    *,
    loss: Number = 0.001,
    p99: Number | None = None,
    least: Number = 1e3,
    most: Number = 5e6,
    within: Number = 0.02,
    budget: Number = 60.0,
    progress: Callable[[SearchProgress], None] = quiet,
    **options: Unpack[LoadOptions],
) -> LimitResult:
    """As `limit`, in a thread; `progress` is called in that thread. Cancelling stops the engine at once."""
    search = search_of(loss=loss, p99=p99, least=least, most=most, within=within, budget=budget)
    scenario = trial_scenario(protocol, target, **options)
    return await _in_thread(lambda stop: find(scenario, search, progress, stop))


def serve(
    protocol: str, listen: str | None = None, *, threads: int = 1, cpus: tuple[int, ...] = (), **knobs: Any
) -> Server:
    """Serves until the `with` block ends. Default address: the protocol's test port on 127.0.0.1."""
    return Server(protocol, listen, threads=threads, cpus=cpus, **knobs)


def search_of(
    *, loss: Number, p99: Number | None, least: Number, most: Number, within: Number, budget: Number
) -> Search:
    """A search from numbers or text. Errors: UsageError."""
    low, high = _number(least, units.rate), _number(most, units.rate)
    if not 0 < low < high:
        raise UsageError(f"the search needs a minimum above 0 and below its maximum (given: {least} and {most})")
    goal = Goal(
        loss=_number(loss, units.share), p99_ns=None if p99 is None else round(_number(p99, units.duration) * 1e9)
    )
    search = Search(
        goal=goal,
        min_per_s=low,
        max_per_s=high,
        within=_number(within, units.share),
        budget_s=_number(budget, units.duration),
    )
    if not 0.001 <= search.within <= 0.5:
        raise UsageError("--within: give 0.1% to 50%")
    if search.budget_s < 5:
        raise UsageError("--budget: a search needs 5 s or more")
    return search


def _number(value: Number, parse: Callable[[str], float]) -> float:
    return parse(value) if isinstance(value, str) else float(value)


def trial_scenario(protocol: str, target: str, **options: Unpack[LoadOptions]) -> Scenario:
    """The scenario of a search's trials, at a rate and for a time that the search sets."""
    options.setdefault("warmup", TRIAL_WARMUP_S)
    options.setdefault("timeout", TRIAL_TIMEOUT_S)
    return scenario_of(protocol, target, rate=1000.0, duration=1.0, profile=None, **options)


def find(
    scenario: Scenario, search: Search, progress: Callable[[SearchProgress], None], stop: threading.Event
) -> LimitResult:
    """Searches with the real engine and the real clock; an interrupt ends it with what was measured."""
    make(scenario)  # what is wrong with the scenario comes out before any load

    least_loss = 1.0

    def measure(rate_per_s: float, seconds: float, on_run: Callable[[RunProgress], None]) -> LoadResult:
        nonlocal least_loss
        try:
            result = run(scenario.at(rate_per_s, seconds), on_run, stop)
        except Interrupted as interrupted:
            stop.set()
            kept: LoadResult = interrupted.result
            return kept
        least_loss = min(least_loss, 1.0 if result.loss is None else result.loss)
        return result

    world = World(
        measure=measure,
        recover=lambda: _answers(scenario, stop, least_loss),
        clock=time.monotonic,
        rest=lambda seconds: stop.wait(seconds) and None,
        share_later_than=share_later_than,
        stop=stop.is_set,
        progress=progress,
    )
    return find_limit(
        plain(scenario),
        search,
        world,
        host=host.describe(),
        started_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        hint_per_s=ceiling_hint(scenario),
    )


def _answers(scenario: Scenario, stop: threading.Event, least_loss: float) -> bool:
    """Whether the target answers a low rate as well as it ever did: one that always loses some has not gone away."""
    gentle = msgspec.structs.replace(scenario.at(_PROBE_PER_S, _PROBE_S), warmup_s=0.0, log=None)
    probe = run(gentle, quiet, stop)
    return probe.outcomes.answered > 0 and (probe.loss or 0.0) <= 1.25 * least_loss + _PROBE_LOSS


def ceiling_hint(scenario: Scenario, seconds: float = 0.25) -> float | None:
    """What this generator sends per second into a loopback socket that nobody reads: a hint only.

    Dropping is cheaper than delivering and a real path differs, so the validity of each trial decides, not this.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unread:
        unread.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{unread.getsockname()[1]}"
        flat_out = msgspec.structs.replace(
            scenario.at(_FLAT_OUT_PER_S, seconds),
            target=target,
            sources=(),
            warmup_s=0.0,
            timeout_s=1e-3,
            log=None,
            require=(),
        )
        sent = run(flat_out)
    return sent.rate_per_s.sent or None


async def _in_thread(work: Callable[[threading.Event], T]) -> T:
    stop = threading.Event()
    task = asyncio.ensure_future(asyncio.to_thread(work, stop))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([task])
        raise
