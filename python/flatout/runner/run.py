"""One run: a plan goes into the engine, progress comes out on a tick, a result at the end.

Nothing measured is lost: an interrupt ends the run and travels as `Interrupted` with the result in it.
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

from flatout._engine import LoadRun, kernel, raise_descriptor_limit
from flatout.errors import FlatoutError, GeneratorError, Interrupted, OutputError, TargetError, UsageError
from flatout.host import describe as host
from flatout.plan import resolve as planning
from flatout.result import loss as arrivals
from flatout.result import requirements
from flatout.result.histogram import distribution
from flatout.result.model import Connections, Interval, Latency, LoadResult, Memory, Outcomes, Rates
from flatout.runner import target_monitor
from flatout.runner import verdict as health
from flatout.runner.progress import Phase, RunProgress
from flatout.runner.receiver_stats import StatsQuery
from flatout.scenario import streams
from flatout.scenario.model import Scenario

OnProgress = Callable[[RunProgress], None]
_TICK_S = 0.1
_CUT_TOGETHER = 64
_OUTCOMES = tuple(Outcomes.__struct_fields__)
_INTERVAL = ("planned", "sent", "unsent", "answered", "late", "lost", "refused", "invalid", "duplicate")


def quiet(_: Any) -> None:
    """A progress callback that tells nobody."""


def run(
    scenario: Scenario,
    progress: OnProgress = quiet,
    stop: threading.Event | None = None,
    *,
    query_stats: bool = True,
) -> LoadResult:
    """Does the scenario once. Where connections can be had at none of them, the target's addresses are tried in turn.

    `stop` ends the run early from another thread; the result then says "interrupted". `inquire`: whether a receiver of
    messages that nobody answers is asked what has arrived.
    Errors: UsageError, TargetError and GeneratorError before anything is sent; Interrupted on Ctrl-C.
    """
    stop = stop or threading.Event()
    passed: list[str] = []
    while True:
        plan = planning.make(scenario, len(passed))
        result = _run(plan, progress, stop, passed, query_stats=query_stats)
        if not plan.others or result.connections is None or result.connections.established or stop.is_set():
            return result
        passed.append(f"nobody could be connected to at {plan.endpoint}: tried {plan.others[0]}")


def _run(
    plan: planning.Plan, progress: OnProgress, stop: threading.Event, passed: list[str], *, query_stats: bool
) -> LoadResult:
    stats_query = StatsQuery(plan.receivers if query_stats else [])
    stats_query.begin(plan.message_bytes, plan.places)
    with contextlib.suppress(OSError):
        raise_descriptor_limit()
    stolen = host.stolen_s()
    running = _start(plan)
    watch = RunMonitor(running, plan, progress, stop, stats_query)
    interrupted = watch.attend()
    result = _result(plan, running, watch, host.stolen_s() - stolen)
    result = msgspec.structs.replace(result, notes=[*passed, *result.notes])
    if interrupted:
        raise Interrupted(result)
    return result


def _start(plan: planning.Plan) -> LoadRun:
    able = kernel()
    if plan.scenario.gso and not able["segmentation"]:
        raise UsageError("this kernel cannot cut datagrams apart (UDP_SEGMENT, Linux 4.18): leave --gso out")
    if plan.scenario.stamps == "kernel" and not able["stamps"]:
        raise UsageError("this kernel does not stamp arrivals: ask for --stamps user")
    try:
        return LoadRun(plan.engine)
    except ValueError as error:
        raise UsageError(str(error)) from error
    except PermissionError as error:
        remedy = " (--busy-poll needs CAP_NET_ADMIN)" if plan.scenario.busy_poll_us else ""
        raise UsageError(f"not permitted: {error.strerror or error}{remedy}") from error
    except OSError as error:
        raise _why_not(error, plan) from error


def _why_not(error: OSError, plan: planning.Plan) -> FlatoutError:
    text = error.strerror or str(error)
    if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return TargetError(f"target {plan.endpoint.address} cannot be reached from here: {text}")
    if error.errno == errno.EADDRNOTAVAIL and plan.sources:
        return UsageError(
            f"cannot send from {plan.scenario.sources}: {text} (not an address of this host, or no port left)"
        )
    if plan.scenario.log and error.errno in (errno.ENOENT, errno.EISDIR, errno.ENOSPC, errno.EROFS, errno.ENOTDIR):
        return OutputError(f"the log '{plan.scenario.log}' cannot be written: {text}")
    what = "connections" if plan.scenario.streams else "flows"
    return GeneratorError(f"this host cannot open {streams.connections(plan.scenario):,} {what}: {text}")


class RunMonitor:
    """Attends a run: tells its progress, notices a lost target, passes on the wish to stop."""

    def __init__(
        self,
        running: LoadRun,
        plan: planning.Plan,
        progress: OnProgress,
        stop: threading.Event,
        stats_query: StatsQuery,
    ) -> None:
        self.running = running
        self.plan = plan
        self.progress = progress
        self.stop = stop
        self.intervals: list[Interval] = []
        self.lost: str | None = None
        self.stopped = False
        self.ended_s: float | None = None
        self.stats_query = stats_query
        self.received: int | None = 0 if stats_query.counted and not _shared(plan.scenario) else None
        self._health = _watch(plan)

    def attend(self) -> bool:
        """Until the end; returns whether Ctrl-C ended it."""
        interrupted = False
        while True:
            try:
                if self.running.wait(_TICK_S):
                    break
                self._tick()
            except KeyboardInterrupt:
                interrupted = self.stopped = True
                self._stop()
            except BaseException:
                self._stop()
                raise
        try:
            self.stats_query.end(self.running.counts()["sent"])
        except KeyboardInterrupt:
            interrupted = self.stopped = True
        self._collect()
        self._make_good()
        self._tell("done")
        return interrupted

    def _tick(self) -> None:
        self._collect()
        t_s = self._t_s()
        if self.stop.is_set() and not self.stopped:
            self.stopped = True
            self._stop()
        counts = self.running.counts()
        if 0 < t_s < self.plan.scenario.duration_s and not self.lost:
            invalid = counts["invalid"] + counts["unmatched"]
            live = self.running.connections().get("live") if self.plan.scenario.streams else None
            look = target_monitor.Sample(t_s, counts["sent"], counts["answered"], counts["refused"], invalid, live)
            self.lost = self._health.lost(look)
            if self.lost:
                self._stop()
        self._tell(self._phase(t_s))

    def _stop(self) -> None:
        """End the schedule now; what is under way is still awaited for a moment."""
        if self.ended_s is None:
            self.ended_s = self._t_s()
        self.running.stop()

    def _t_s(self) -> float:
        """Since the counted beginning. While connections are opened or the start is awaited: all the warm-up before."""
        elapsed_ns = self.running.elapsed_ns
        # Never 0: nothing may take a run that has not begun for one that has.
        return -max(self.plan.scenario.warmup_s, 1e-9) if elapsed_ns is None else elapsed_ns / 1e9

    def _phase(self, t_s: float) -> Phase:
        if self.running.elapsed_ns is None:
            return "connecting" if self.plan.scenario.streams and not self._all_stand() else "waiting"
        if t_s < 0:
            return "warm-up"
        return "running" if t_s < self.plan.scenario.duration_s and not self.stopped else "draining"

    def _all_stand(self) -> bool:
        return self.running.connections().get("live", 0) >= streams.connections(self.plan.scenario)

    def _collect(self) -> None:
        for until_ns, counts, p50, p99, lateness_p99 in self.running.intervals(len(self.intervals)):
            events = {name: counts[name] for name in _INTERVAL}
            received = self._received_since()
            if self.plan.one_way:
                events["refused"] = 0  # beside the outcomes: what was refused is lost
            self.intervals.append(
                Interval(
                    t_s=round(until_ns / 1e9, 3),
                    **events,
                    p50=p50,
                    p99=p99,
                    lateness_p99=lateness_p99,
                    received=received,
                )
            )

    def _make_good(self) -> None:
        """What the receiver got after the last second was over left in it, too."""
        late = self._received_since()
        if late and self.intervals:
            last = self.intervals[-1]
            self.intervals[-1] = msgspec.structs.replace(last, received=(last.received or 0) + late)

    def _received_since(self) -> int | None:
        """What the receiver has got since it was asked before; None where it does not tell now."""
        if self.received is None:
            return None
        reported = self.stats_query.received()
        if reported is None:
            return None
        before, self.received = self.received, reported
        return max(reported - before, 0)

    def _tell(self, phase: Phase) -> None:
        counts = self.running.counts()
        t_s = self._t_s()
        connected = self.plan.scenario.streams
        self.progress(
            RunProgress(
                phase=phase,
                t_s=t_s,
                total_s=self.plan.scenario.duration_s,
                rate_per_s=rate_at(self.plan.scenario, t_s),
                latest=self.intervals[-1] if self.intervals else None,
                intervals=tuple(self.intervals),
                connections=self.running.connections().get("live", 0) if connected else None,
                connections_asked=streams.connections(self.plan.scenario) if connected else None,
                one_way=self.plan.one_way,
                received=self.received,
                **{name: counts[name] for name in _INTERVAL},
            )
        )


def _watch(plan: planning.Plan) -> target_monitor.TargetMonitor | target_monitor.RefusalMonitor:
    if plan.one_way:
        return target_monitor.RefusalMonitor(_CUT_TOGETHER if plan.scenario.gso else 1)
    return target_monitor.TargetMonitor(plan.scenario.timeout_s)


def rate_at(scenario: Scenario, t_s: float) -> float | None:
    """The rate that the profile asks for at a time; None where the answers set the pace."""
    if scenario.ping_pong:
        return None
    for segment in scenario.profile:
        if t_s < segment.seconds:
            share = max(t_s, 0.0) / segment.seconds
            return segment.from_per_s + share * (segment.to_per_s - segment.from_per_s)
        t_s -= segment.seconds
    return 0.0


def _result(plan: planning.Plan, running: LoadRun, watch: RunMonitor, stolen_s: float) -> LoadResult:
    counts = running.counts()
    outcomes = Outcomes(**{name: counts[name] for name in _OUTCOMES if name in counts})
    if plan.one_way:
        reported = arrivals.account(outcomes, watch.stats_query.readings(), shared=_shared(plan.scenario))
    else:
        reported = arrivals.answered(outcomes)
    outcomes = reported.outcomes
    from_due, from_sent, late, reading, connecting = map(distribution, running.distributions())
    connections = _connections(plan.scenario, running)
    verdict, why = health.verdict(
        outcomes,
        late,
        counts["own_drops"],
        lost=watch.lost
        or watch.stats_query.lost
        or reported.lost
        or health.unconnected(connections, streams.connections(plan.scenario)),
        interrupted=watch.stopped and not watch.lost,
        connections=connections,
        blocked=running.unsent_because().get("blocked", 0),
        one_way=plan.one_way,
    )
    if verdict == "ok" and plan.scenario.ping_pong:
        why = "each request left when the last one had ended"
    fewer, ended = health.shortfalls(connections, streams.connections(plan.scenario), churn=plan.scenario.churn > 0)
    seconds = _counted_s(plan.scenario, watch)
    result = LoadResult(
        scenario=plain(plan.scenario),
        host=host.describe(),
        started_at=_rfc3339(running.started_unix_ns),
        duration_s=seconds,
        verdict=verdict,
        why=why,
        outcomes=outcomes,
        unsent_because=running.unsent_because(),
        loss=reported.loss,
        rate_per_s=_rates(outcomes, seconds),
        latency_ns=Latency(from_due=from_due, from_sent=from_sent),
        lateness_ns=late,
        reading_ns=reading,
        connect_ns=connecting,
        intervals=watch.intervals,
        tallies=running.tallies(),
        connections=connections,
        carrier=running.carrier if plan.scenario.streams else "",
        memory=_memory(plan.scenario, running),
        cpu_s={"workers": counts["cpu_ns"] / 1e9, "stolen": max(stolen_s, 0.0)},
        own_drops=counts["own_drops"],
        receiver=reported.arrival,
        readings=watch.stats_query.readings(),
        warnings=[*running.failures, *([] if watch.stopped else fewer), *reported.warnings],
        notes=[*plan.notes, *ended, *reported.notes],
        one_way=plan.one_way,
    )
    met = [requirements.evaluate(expression, result) for expression in plan.scenario.require]
    return msgspec.structs.replace(result, requirements=met)


def _shared(scenario: Scenario) -> bool:
    """Whether other hosts send to the same receiver."""
    return scenario.node is not None and scenario.node[1] > 1


def _rates(outcomes: Outcomes, seconds: float) -> Rates:
    received = None if outcomes.received is None else outcomes.received / seconds
    return Rates(
        planned=outcomes.planned / seconds,
        sent=outcomes.sent / seconds,
        answered=outcomes.answered / seconds,
        received=received,
    )


def _connections(scenario: Scenario, running: LoadRun) -> Connections | None:
    if not scenario.streams:
        return None
    known = {name: number for name, number in running.connections().items() if name in Connections.__struct_fields__}
    return Connections(**known)


def plain(scenario: Scenario) -> dict[str, Any]:
    """A scenario as JSON has it, so that a result equals itself after a round trip."""
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(scenario))
    return found


def _counted_s(scenario: Scenario, watch: RunMonitor) -> float:
    """The time in which requests were planned: the schedule's, or less where it was cut short."""
    if watch.ended_s is None:
        return scenario.duration_s
    return min(scenario.duration_s, max(watch.ended_s, 1e-3))


def _memory(scenario: Scenario, running: LoadRun) -> Memory:
    slots = running.slot_bytes
    return Memory(peak_rss=host.peak_rss(), slots=slots, per_connection=slots // max(streams.connections(scenario), 1))


def _rfc3339(unix_ns: int) -> str:
    moment = datetime.datetime.fromtimestamp(unix_ns / 1e9, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
