"""Searches and sweeps of scenarios with the real engine and the real clock, here or over a fleet."""

from __future__ import annotations

import datetime
import pathlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Unpack, get_args

import msgspec

from flatout import analysis, arguments, improving, units
from flatout.errors import ArgumentError, Interrupted, TargetError, UsageError
from flatout.host import describe as host
from flatout.limit_search import sweep as ladders
from flatout.limit_search.drive import Environment, find_limit
from flatout.plan.resolve import AsTrial, Plan, make, most_connections
from flatout.protocols import protocol as by_name
from flatout.result.histogram import share_later_than
from flatout.result.model import Axis, Goal, LimitResult, LoadResult, Search
from flatout.result.sweep import SweepResult, SweepRow
from flatout.runner import receiver_stats
from flatout.runner.competition import competed
from flatout.runner.progress import RunProgress, SearchProgress
from flatout.runner.run import RunTrial, quiet, run
from flatout.scenario import streams
from flatout.scenario.build import scenario_of
from flatout.scenario.exchange import exchange_of
from flatout.scenario.model import Scenario
from flatout.scenario.settings import LoadOptions

Number = float | int | str
TRIAL_WARMUP_S = 0.2
# Waiting for lost answers ends each trial: on a host or a LAN nothing that is worth having takes longer.
TRIAL_TIMEOUT_S = 0.5
# The connections of a trial are opened over at least so long.
TRIAL_OPENING_S = 0.1
_LEAST_PER_S, _MOST_PER_S = 1e3, 5e6
_CONNECTIONS_PER_S, _LEAST_CONNECTIONS = 20e3, 10
_LEAST_BUDGET_S = 5.0
_PROBE_CONNECTIONS = 10
_PROBE_PER_S = 1000.0
_PROBE_S = 0.1
_PROBE_LOSS = 0.02
_FLAT_OUT_PER_S = 4e6


def run_explained(
    scenario: Scenario,
    progress: Callable[[RunProgress], None] = quiet,
    stop: threading.Event | None = None,
    elsewhere: RunTrial | None = None,
) -> LoadResult:
    """Runs a scenario once, with findings; the result of an interrupted run has them too. Errors as for `run`.

    `elsewhere`: what runs it, such as a fleet; default: this host.
    """
    if elsewhere is not None:
        return analysis.explained(elsewhere(scenario, progress, stop or threading.Event(), None))
    try:
        return analysis.explained(run(scenario, progress, stop))
    except Interrupted as interrupted:
        raise Interrupted(analysis.explained(interrupted.result)) from None


def search_of(
    scenario: Scenario,
    *,
    loss: Number,
    p99: Number | None,
    least: Number | None,
    most: Number | None,
    within: Number,
    budget: Number,
    axis: Axis = "rate",
    rate: Number | None = None,
) -> Search:
    """A search from numbers or text, along an axis of the scenario's. Errors: UsageError."""
    goal = Goal(
        loss=arguments.share("loss", loss),
        p99_ns=None if p99 is None else round(units.seconds("p99", p99) * 1e9),
    )
    axis = arguments.word("search", axis, get_args(Axis))
    exchange = exchange_of(scenario)
    exchange.check_search(p99=goal.p99_ns is not None)
    search = Search(
        goal=goal,
        within=arguments.share("within", within),
        budget_s=units.seconds("budget", budget),
        one_way=exchange.one_way,
        **(_rates(least, most, rate) if axis == "rate" else _connections(scenario, least, most, rate)),
    )
    low, high = search.bounds
    if not 0 < low < high:
        raise UsageError(f"the search needs a minimum above 0 and below its maximum (given: {low:,g} and {high:,g})")
    if not 0.001 <= search.within <= 0.5:
        raise ArgumentError("within", f"={within!r}: give 0.1% to 50%")
    if search.budget_s < _LEAST_BUDGET_S:
        raise ArgumentError("budget", f"={budget!r}: a search needs 5 s or more")
    return search


def _rates(least: Number | None, most: Number | None, rate: Number | None) -> dict[str, Any]:
    if rate is not None:
        raise UsageError("the rate is what is searched: a fixed --rate goes with --search connections")
    low = _LEAST_PER_S if least is None else arguments.rate("least", least)
    return {"min_per_s": low, "max_per_s": _MOST_PER_S if most is None else arguments.rate("most", most)}


def _connections(scenario: Scenario, least: Number | None, most: Number | None, rate: Number | None) -> dict[str, Any]:
    if not scenario.streams:
        raise UsageError("--search connections needs connections: add --transport tcp")
    per_s = _CONNECTIONS_PER_S if rate is None else arguments.rate("rate", rate)
    low = _LEAST_CONNECTIONS if least is None else units.whole("least", least, units.MOST_THINGS)
    high = most_connections(scenario) if most is None else units.whole("most", most, units.MOST_THINGS)
    bounds = {"min_connections": max(low, scenario.threads), "max_connections": high}
    return {"axis": "connections", "min_per_s": per_s, "max_per_s": per_s, **bounds}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def trial_scenario(protocol: str, target: str, **options: Unpack[LoadOptions]) -> Scenario:
    """The scenario of a search's trials, at a rate and for a time that the search sets."""
    if options.get("tick") is not None or options.get("count") is not None:
        raise UsageError("the search sets rate and duration: leave --tick and --count out")
    if options.get("arrivals") == "ping-pong":
        raise UsageError("the search sets the rate, and ping-pong goes at that of the answers: it is for load")
    scenario = scenario_of(protocol, target, rate=1000.0, duration=1.0, profile=None, **options)
    if not exchange_of(scenario).has_trial_lengths:
        return scenario
    lengths = {
        **({} if "warmup" in options else {"warmup_s": TRIAL_WARMUP_S}),
        **({} if "timeout" in options else {"timeout_s": TRIAL_TIMEOUT_S}),
    }
    return msgspec.structs.replace(scenario, **lengths)


def climb(
    scenario: Scenario,
    *,
    first: float,
    last: float,
    step: float,
    seconds: float,
    progress: Callable[[RunProgress], None],
    on_row: Callable[[SweepRow], None],
) -> SweepResult:
    """Goes through a ladder with the real engine; an interrupt ends it with what was measured. Errors: UsageError."""
    rates = ladders.ladder(first, last, step)
    make(scenario.at(rates[-1], seconds))  # what is wrong with the scenario comes out before any load
    began, started_at = time.monotonic(), _now()
    climbed = ladders.climb(
        scenario,
        rates,
        seconds,
        tallies=by_name(scenario.protocol).right_tallies,
        measure=lambda at: run(at, progress),
        on_row=on_row,
    )
    return ladders.finished(
        scenario,
        host=host.describe(),
        started_at=started_at,
        duration_s=time.monotonic() - began,
        rates=rates,
        step=step,
        seconds=seconds,
        climbed=climbed,
    )


def find(
    scenario: Scenario,
    search: Search,
    progress: Callable[[SearchProgress], None],
    stop: threading.Event,
    run_trial: RunTrial | None = None,
) -> LimitResult:
    """Searches with the real engine and the real clock; an interrupt ends it with what was measured.

    `run_trial`: runs a trial elsewhere, such as over a fleet; default: here.
    """
    trial_run = run_trial or _run_here
    at = _along(scenario, search)
    for load in search.bounds if search.axis == "connections" else ():
        make(at(load, 1.0))  # what is wrong with the scenario comes out before any load
    _check_receivers(make(scenario))

    least_loss, sharing = 1.0, False

    def measure(load: float, seconds: float, lead_s: float, on_run: Callable[[RunProgress], None]) -> LoadResult:
        nonlocal least_loss, sharing
        trial = at(load, seconds)
        if not search.one_way:
            # The receiver of one-way messages counts all that arrives: there is no time before it counts.
            trial = msgspec.structs.replace(trial, warmup_s=max(trial.warmup_s, lead_s))
        try:
            as_trial = AsTrial(share_cpus=sharing, slow_after_ns=search.goal.p99_ns)
            result = trial_run(trial, on_run, stop, as_trial)
        except Interrupted as interrupted:
            stop.set()
            kept: LoadResult = interrupted.result
            return kept
        least_loss = min(least_loss, 1.0 if result.loss is None else result.loss)
        sharing = sharing or competed(result)
        return result

    environment = Environment(
        measure=measure,
        recover=lambda: _answers(scenario, stop, least_loss),
        clock=time.monotonic,
        rest=lambda seconds: stop.wait(seconds) and None,
        share_later_than=share_later_than,
        stop=stop.is_set,
        opening_s=lambda load: streams.opening_s(at(load, 1.0)),
        progress=progress,
        explain=analysis.explained,
    )
    found = find_limit(
        scenario,
        search,
        environment,
        host=host.describe(),
        started_at=_now(),
        hint_per_s=None if scenario.streams or run_trial else ceiling_hint(scenario),
    )
    return analysis.explained_limit(found)


def _run_here(
    scenario: Scenario, progress: Callable[[RunProgress], None], stop: threading.Event, as_trial: AsTrial | None
) -> LoadResult:
    return run(scenario, progress, stop, as_trial=as_trial)


def raised(
    scenario: Scenario,
    search: Search,
    seek: improving.Seek,
    *,
    keep: bool,
    journal: pathlib.Path | None = None,
    say: Callable[[str], object] = quiet,
) -> LimitResult:
    """Searches, and then changes what the findings name; see `improving.raised`. `say`: default: nothing is called."""
    return improving.raised(scenario, search, seek, _along(scenario, search), keep=keep, journal=journal, say=say)


def _check_receivers(plan: Plan) -> None:
    """Errors: TargetError where no receiver reports how many messages arrive."""
    for endpoint in plan.receivers:
        if receiver_stats.ask(endpoint) is None:
            raise TargetError(
                f"no receiver at {endpoint} reports what arrives, and nothing comes back: no limit can be found. "
                f"Receive there with 'flatout serve {plan.scenario.protocol}' of this version, or with "
                "flatout.Receiver(counters=True)"
            )


def _along(scenario: Scenario, search: Search) -> Callable[[float, float], Scenario]:
    """The scenario of a trial, from its load on the search's axis and its length."""

    def at(load: float, seconds: float) -> Scenario:
        if search.axis == "rate":
            return _opened_gently(scenario.at(load, seconds))
        trial = scenario.at(search.min_per_s, seconds)
        return _opened_gently(msgspec.structs.replace(trial, connections=int(load)))

    return at


def _opened_gently(trial: Scenario) -> Scenario:
    """Few connections all at once overflow a server's accept queue, and then wait 1 s for a retransmission."""
    if not trial.streams:
        return trial
    per_s = min(trial.connect_rate_per_s, streams.connections(trial) / TRIAL_OPENING_S)
    return msgspec.structs.replace(trial, connect_rate_per_s=per_s)


def _answers(scenario: Scenario, stop: threading.Event, least_loss: float) -> bool:
    """Whether the target answers a low rate as well as it ever did, or takes it: one that always loses has not gone."""
    few = min(scenario.askers, max(_PROBE_CONNECTIONS, scenario.threads)) if scenario.streams else None
    gentle = msgspec.structs.replace(
        scenario.at(_PROBE_PER_S, _PROBE_S), warmup_s=0.0, log=None, connections=few, hold=0, require=()
    )
    probe = run(gentle, quiet, stop)
    came = probe.outcomes.answered if probe.outcomes.received is None else probe.outcomes.received
    return came > 0 and (probe.loss or 0.0) <= 1.25 * least_loss + _PROBE_LOSS


def ceiling_hint(scenario: Scenario, seconds: float = 0.25) -> float | None:
    """What this generator sends per second into an unread loopback socket: a hint only. By a driver there is none.

    Dropping is cheaper than delivering and a real path differs, so the validity of each trial decides, not this.
    """
    if scenario.link != "socket":
        return None
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
        sent = run(flat_out, query_stats=False)
    return sent.rate_per_s.sent or None
