"""One run: a plan goes into the engine, progress comes out on a tick, a result at the end.

Whatever was measured is kept: an interrupt ends the run and is raised as `Interrupted` with the result in it.
No per-packet work happens here.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import threading
from collections.abc import Callable
from typing import Any

import msgspec

from flatout._engine import BpfError, LoadRun, kernel, raise_descriptor_limit
from flatout.errors import (
    ArgumentError,
    FlatoutError,
    GeneratorError,
    Interrupted,
    OutputError,
    TargetError,
    UsageError,
    of_engine,
    plain,
)
from flatout.host import describe, fallbacks
from flatout.plan.resolve import AsTrial, Plan, make
from flatout.result import requirements, waiting
from flatout.result.histogram import distribution, share_later_than, signed_distribution
from flatout.result.machine import Contention, Memory, Placement, XdpLink
from flatout.result.model import Connections, Latency, LoadResult, Outcomes, Rates, RunVerdict
from flatout.result.own_drops import text as own_drops_text
from flatout.result.thresholds import LATENESS_NS, too_many
from flatout.runner import ledger
from flatout.runner.competition import Competition, subintervals
from flatout.runner.counters import CounterSampler, Sampled
from flatout.runner.exchange import Exchange, exchange_of
from flatout.runner.held_start import HeldStart
from flatout.runner.receiver_stats import StatsQuery
from flatout.runner.run_monitor import OnProgress, RunMonitor, shared_receiver
from flatout.runner.verdict import shortfalls, unconnected, verdict
from flatout.scenario import streams
from flatout.scenario.model import Scenario

_OUTCOMES = tuple(Outcomes.__struct_fields__)


RunTrial = Callable[[Scenario, OnProgress, threading.Event, AsTrial | None], LoadResult]


def quiet(_: Any) -> None:
    """A progress callback that does nothing."""


def run(
    scenario: Scenario,
    progress: OnProgress = quiet,
    stop: threading.Event | None = None,
    *,
    query_stats: bool = True,
    as_trial: AsTrial | None = None,
    start: HeldStart | None = None,
    on_sampled: Callable[[Sampled], None] = quiet,
) -> LoadResult:
    """Runs a scenario once; the addresses of its target are tried in turn until one accepts connections.

    progress: called on every tick.
    stop: ends the run early from another thread; the verdict is then "interrupted".
    query_stats: whether the receiver of one-way messages is asked for its counters.
    as_trial: it is a trial of a search, whose result has its subintervals.
    start: the run waits for it once its connections are open; default: it begins then.
    on_sampled: takes the host's counters behind the ledger.
    Errors: UsageError, TargetError and GeneratorError before anything is sent; Interrupted on Ctrl-C.
    """
    stop = stop or threading.Event()
    failed: list[str] = []
    while True:
        plan = make(scenario, len(failed), as_trial)
        result = _run(plan, progress, stop, failed, query_stats=query_stats, start=start, on_sampled=on_sampled)
        reached = result.connections is None or result.connections.established
        if not plan.others or reached or result.verdict == "generator-limited" or stop.is_set():
            return result
        failed.append(f"no connection to {plan.endpoint} could be established: tried {plan.others[0]}")


def _run(
    plan: Plan,
    progress: OnProgress,
    stop: threading.Event,
    failed: list[str],
    *,
    query_stats: bool,
    start: HeldStart | None,
    on_sampled: Callable[[Sampled], None],
) -> LoadResult:
    if start is not None:
        plan = msgspec.structs.replace(plan, engine=msgspec.structs.replace(plan.engine, held=True))
    stats_query = StatsQuery(plan.receivers if query_stats else [])
    stats_query.begin(*(plan.layout or (None, None)))
    with contextlib.suppress(OSError):
        raise_descriptor_limit()
    with contextlib.closing(CounterSampler(plan, on_sampled)) as sampler:
        return _sampled(plan, progress, stop, failed, stats_query=stats_query, sampler=sampler, start=start)


def _sampled(
    plan: Plan,
    progress: OnProgress,
    stop: threading.Event,
    failed: list[str],
    *,
    stats_query: StatsQuery,
    sampler: CounterSampler,
    start: HeldStart | None,
) -> LoadResult:
    """The run itself, between the samples of the host's counters."""
    competing = Competition(plan)
    running = _start(plan)
    if start is not None:
        start.attach(running)
    exchange = exchange_of(plan)
    monitor = RunMonitor(
        running,
        plan,
        exchange,
        progress=progress,
        stop=stop,
        stats_query=stats_query,
        competing=competing,
        sampler=sampler,
    )
    interrupted = monitor.wait()
    result = _result(plan, exchange, running, monitor, competing)
    response, *offset = running.server_times()
    result = msgspec.structs.replace(
        result,
        notes=[*failed, *result.notes],
        response_ns=distribution(response),
        offset_ns=signed_distribution(*offset),
        placement=competing.placement,
        subintervals=subintervals(running),
    )
    result, broken_off = _accounted(result, sampler)
    if not plan.as_trial:
        # Only a search judges by them, and they are most of a file's size.
        result = msgspec.structs.replace(result, subintervals=None)
    if interrupted or broken_off:
        raise Interrupted(result)
    return result


def _accounted(result: LoadResult, sampler: CounterSampler) -> tuple[LoadResult, bool]:
    """The result with its ledger, and whether Ctrl-C broke that off: what was measured is kept without one."""
    placement = result.placement or Placement()
    try:
        return msgspec.structs.replace(result, ledger=ledger.close(result, sampler.end(placement))), False
    except KeyboardInterrupt:
        why, broken_off = "interrupted", True
    except Exception as error:
        # Files of an unknown kernel must not cost a run.
        why, broken_off = f"{type(error).__name__}: {error}", False
    warning = f"where requests went is unknown: the kernel's counters could not be read at the end ({why})"
    return msgspec.structs.replace(result, warnings=[*result.warnings, warning]), broken_off


def _start(plan: Plan) -> LoadRun:
    features = kernel()
    if plan.scenario.gso and not features["segmentation"]:
        raise UsageError("this kernel cannot cut datagrams apart (UDP_SEGMENT, Linux 4.18): leave --gso out")
    if plan.scenario.stamps == "kernel" and not features["stamps"]:
        raise UsageError("this kernel does not stamp arrivals: ask for --stamps user")
    try:
        return LoadRun(plan.engine)
    except ValueError as error:
        raise of_engine(error) from error
    except PermissionError as error:
        remedy = " (--busy-poll needs CAP_NET_ADMIN)" if plan.scenario.busy_poll_us else ""
        raise UsageError(f"not permitted: {error.strerror or error}{remedy}") from error
    except BpfError as error:
        raise _driver_error(error, plan) from error
    except OSError as error:
        raise _start_error(error, plan) from error


def _driver_error(error: BpfError, plan: Plan) -> FlatoutError:
    """What hinders frames by the driver: rights and kernel are the user's to choose, the rest is this host's."""
    obstacle, text = error.args
    where = f"--link xdp on {plan.link.interface if plan.link else 'this host'}: {text}"
    return GeneratorError(where) if obstacle == "failed" else UsageError(where)


# Reasons not to send that a verdict looks at.
_UNSENT = ("blocked", "no_connection", "send_failed", "no_slot")
# What the kernel says of a log that cannot be written.
_NO_FILE = (errno.ENOENT, errno.EISDIR, errno.ENOSPC, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG)


def _start_error(error: OSError, plan: Plan) -> FlatoutError:
    text = plain(error)
    if plan.scenario.queries and text.startswith(plan.scenario.queries):
        return ArgumentError("queries", f": {text}")
    if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return TargetError(f"target {plan.endpoint.host} cannot be reached from here: {text}")
    if error.errno == errno.EADDRNOTAVAIL and plan.sources:
        named = ", ".join(plan.scenario.sources)
        return UsageError(f"cannot send from {named}: {text} (not an address of this host, or no port left)")
    if plan.scenario.log and error.errno in _NO_FILE:
        return OutputError(f"the log '{plan.scenario.log}' cannot be written: {text}")
    what = "connections" if plan.scenario.streams else "flows"
    return GeneratorError(f"this host cannot open {streams.connections(plan.scenario):,} {what}: {text}")


def _result(
    plan: Plan, exchange: Exchange, running: LoadRun, monitor: RunMonitor, competing: Competition
) -> LoadResult:
    counts, scenario = running.counts(), plan.scenario
    samples = monitor.stats_query.samples()
    counted = Outcomes(**{name: counts[name] for name in _OUTCOMES if name in counts})
    account = exchange.loss(counted, samples, shared=shared_receiver(scenario))
    from_due, from_sent, late, reading, connecting = map(distribution, running.distributions())
    connections, asked = _connections(scenario, running), streams.connections(scenario)
    contention = competing.end(running)
    failed_call = running.gave_up or monitor.stats_query.failed
    word, why = verdict(
        account.outcomes,
        late,
        counts["own_drops"],
        exchange,
        lost=monitor.lost or monitor.stats_query.lost or account.lost or unconnected(connections, asked),
        interrupted=monitor.stopped and not monitor.lost,
        connections=connections,
        starved=_starved(account.loss or 0.0, account.outcomes.sent, contention, competing.placement),
        failed_call=failed_call,
        **{word: running.unsent_because().get(word, 0) for word in _UNSENT},
        by_driver=plan.link is not None,
        left_late=0 if late is None else round(share_later_than(late, LATENESS_NS) * late.count),
    )
    why, gone = _ended(word, why, competing.placement)
    fewer, ended = shortfalls(connections, asked, churn=scenario.churn > 0)
    seconds = _counted_s(scenario, monitor)
    result = LoadResult(
        scenario=scenario,
        host=describe.describe(),
        started_at=_rfc3339(running.started_unix_ns),
        duration_s=seconds,
        verdict=word,
        why=why,
        outcomes=account.outcomes,
        unsent_because=running.unsent_because(),
        loss=account.loss,
        rate_per_s=Rates.over(account.outcomes, seconds),
        latency_ns=Latency(from_due=from_due, from_sent=from_sent),
        lateness_ns=late,
        reading_ns=reading,
        connect_ns=connecting,
        intervals=monitor.intervals,
        tallies=running.tallies(),
        connections=connections,
        carrier=running.backend if scenario.streams else "",
        link=_link(plan, running),
        memory=_memory(scenario, running),
        cpu_s={"workers": counts["cpu_ns"] / 1e9, "stolen": competing.stolen_s()},
        own_drops=counts["own_drops"],
        receiver=account.receiver,
        readings=samples,
        contention=contention,
        warnings=[*running.failures, *([] if monitor.stopped else fewer), *account.warnings],
        notes=[*plan.notes, *gone, *ended, *account.notes, *_on_this_host(plan, running, contention)],
        one_way=plan.one_way,
        failed_call=failed_call,
    )
    return requirements.evaluated(result)


def _ended(word: RunVerdict, why: str, placement: Placement) -> tuple[str, list[str]]:
    """The reason and notes with the target's processes that ended during the run."""
    text = placement.target.ended_text if placement.target else ""
    if text and word == "target-lost":
        return f"{why}; {text}", []
    return why, [f"{text} during the run"] if text else []


def _on_this_host(plan: Plan, running: LoadRun, contention: Contention) -> list[str]:
    """Notes on calls that this host refuses, on CPU time that it withheld, and on what it dropped itself."""
    own_drops, backlog = running.counts()["own_drops"], contention.backlog_drops or 0
    throttled = contention.throttled_text
    return [
        *([throttled] if throttled else []),
        *_fallbacks(plan, running),
        *([own_drops_text(own_drops, by_driver=plan.link is not None)] if own_drops else []),
        *([f"this host dropped {backlog:,} packets before they reached a socket (backlog)"] if backlog else []),
    ]


def _starved(loss: float, sent: int, contention: Contention, placement: Placement) -> str | None:
    """Why what was lost is not the target's fault; None: it is, or may be, or next to nothing was lost."""
    waited = waiting.explains(loss, contention, placement) if too_many(round(loss * sent), sent) else None
    return f"{loss:.2%} was lost while {waited}" if waited else None


def _fallbacks(plan: Plan, running: LoadRun) -> list[str]:
    """What replaced system calls that this host refuses."""
    if plan.link is not None:
        return []
    if plan.scenario.streams:
        return fallbacks.notes("epoll_pwait2") if running.backend == "epoll" else []
    return fallbacks.notes("epoll_pwait2", "sendmmsg", *([] if plan.one_way else ["recvmmsg"]))


def _connections(scenario: Scenario, running: LoadRun) -> Connections | None:
    if not scenario.streams:
        return None
    known = {name: number for name, number in running.connections().items() if name in Connections.__struct_fields__}
    return Connections(**known)


def _link(plan: Plan, running: LoadRun) -> XdpLink | None:
    return None if plan.link is None else msgspec.structs.replace(plan.link, carrier=running.backend)


def _counted_s(scenario: Scenario, monitor: RunMonitor) -> float:
    """The time in which requests were planned: the schedule's, or less where it was cut short."""
    if monitor.ended_s is None:
        return scenario.duration_s
    return min(scenario.duration_s, max(monitor.ended_s, 1e-3))


def _memory(scenario: Scenario, running: LoadRun) -> Memory:
    slots = running.slot_bytes
    return Memory(
        peak_rss=describe.peak_rss(), slots=slots, per_connection=slots // max(streams.connections(scenario), 1)
    )


def _rfc3339(unix_ns: int) -> str:
    moment = datetime.datetime.fromtimestamp(unix_ns / 1e9, datetime.UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
