"""Monitors a run: reports its progress, detects a lost target, stops it on request."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from flatout._engine import LoadRun
from flatout.plan.resolve import Plan
from flatout.result.model import Interval
from flatout.runner.competition import Competition
from flatout.runner.counters import BEFORE_S, CounterSampler
from flatout.runner.exchange import Exchange
from flatout.runner.progress import LATENCY_SECONDS, LatencySecond, Phase, RunProgress
from flatout.runner.receiver_stats import StatsQuery
from flatout.runner.target_monitor import Sample
from flatout.scenario import streams
from flatout.scenario.model import Scenario

OnProgress = Callable[[RunProgress], None]
_TICK_S = 0.1
# Other hosts wait for this one to stand.
_HELD_TICK_S = 0.02
# A tick that comes a little before counting begins would be one too early.
_AFTER_S = 0.001
_COUNTS = ("planned", "sent", "unsent", "answered", "late", "lost", "refused", "invalid", "duplicate")


def shared_receiver(scenario: Scenario) -> bool:
    """Whether other nodes send to the same receiver."""
    return scenario.node is not None and scenario.node[1] > 1


class RunMonitor:
    """Follows a run to its end.

    `intervals`: its seconds. `lost`: why the target counts as lost. `stopped`: it was stopped before its end.
    `ended_s`: when it was stopped, for whatever reason.
    """

    def __init__(
        self,
        running: LoadRun,
        plan: Plan,
        exchange: Exchange,
        *,
        progress: OnProgress,
        stop: threading.Event,
        stats_query: StatsQuery,
        competing: Competition,
        sampler: CounterSampler,
    ) -> None:
        self.running = running
        self.plan = plan
        self.exchange = exchange
        self.progress = progress
        self.stop = stop
        self.intervals: list[Interval] = []
        self.latency: deque[LatencySecond] = deque(maxlen=LATENCY_SECONDS)
        self.lost: str | None = None
        self.stopped = False
        self.ended_s: float | None = None
        self.stats_query = stats_query
        self.competing = competing
        self.sampler = sampler
        self.received: int | None = 0 if stats_query.counted and not shared_receiver(plan.scenario) else None
        self._target = exchange.monitor(plan.scenario)

    def wait(self) -> bool:
        """Waits for the end; returns whether Ctrl-C ended it."""
        interrupted = False
        while True:
            try:
                if self.running.wait(self._pause_s()):
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
        self._end_where_given_up()
        self._collect()
        self._add_late_arrivals()
        self._report("done")
        return interrupted

    def _pause_s(self) -> float:
        """Until the next tick.

        One falls just before counting begins, for the sampler, one on that moment, and one on the schedule's end.
        """
        if self.running.elapsed_ns is None:
            return _HELD_TICK_S if self.plan.engine.held else _TICK_S
        elapsed_s = self.running.elapsed_ns / 1e9
        if elapsed_s < 0 and self.sampler.waits:
            return min(_TICK_S, max(-elapsed_s - BEFORE_S, 0.0))
        ahead_s = (self.plan.scenario.duration_s if elapsed_s >= 0 else 0.0) - elapsed_s
        return min(_TICK_S, ahead_s + _AFTER_S) if ahead_s >= 0 else _TICK_S

    def _end_where_given_up(self) -> None:
        """Stops the other workers where one could not go on."""
        if self.running.gave_up is not None and self.ended_s is None:
            self._stop()

    def _tick(self) -> None:
        self._collect()
        self._end_where_given_up()
        t_s = self._t_s()
        self.competing.tick(self.running, t_s)
        self.sampler.watch()
        if self.running.elapsed_ns is not None:
            self.sampler.tick(t_s)
        if t_s >= self.plan.scenario.duration_s:
            self.competing.sending_ended()
        if self.stop.is_set() and not self.stopped:
            self.stopped = True
            self._stop()
        if 0 < t_s < self.plan.scenario.duration_s and not self.lost:
            self.lost = self._target.lost(self._sample(t_s))
            if self.lost:
                self._stop()
        self._report(self._phase(t_s))

    def _sample(self, t_s: float) -> Sample:
        counts = self.running.counts()
        live = self.running.connections().get("live") if self.plan.scenario.streams else None
        invalid = counts["invalid"] + counts["unmatched"]
        return Sample(t_s, counts["sent"], counts["answered"], counts["refused"], invalid, live)

    def _stop(self) -> None:
        """Ends the schedule now; requests under way are still awaited."""
        if self.ended_s is None:
            self.ended_s = self._t_s()
            self.competing.sending_ended()
        self.running.stop()

    def _t_s(self) -> float:
        """Time since the counted start; the whole warm-up before it while connections are opened or the start waits."""
        elapsed_ns = self.running.elapsed_ns
        # Never 0: a run that has not begun must not look like one that has.
        return -max(self.plan.scenario.warmup_s, 1e-9) if elapsed_ns is None else elapsed_ns / 1e9

    def _phase(self, t_s: float) -> Phase:
        if self.running.elapsed_ns is None:
            return "waiting" if self.running.standing else "connecting"
        if t_s < 0:
            return "warm-up"
        return "running" if t_s < self.plan.scenario.duration_s and not self.stopped else "draining"

    def _collect(self) -> None:
        """Takes over the seconds that have ended since the last tick."""
        first = len(self.intervals)
        for until_ns, counts, p50, p99, lateness_p99 in self.running.intervals(first):
            received = self._received_since()
            self.intervals.append(
                Interval(
                    t_s=round(until_ns / 1e9, 3),
                    **self.exchange.interval_counts({name: counts[name] for name in _COUNTS}),
                    p50=p50,
                    p99=p99,
                    lateness_p99=lateness_p99,
                    received=received,
                )
            )
        # Another second may have ended between the two calls: its latencies come with the next tick, beside its counts.
        for second, bands in zip(self.intervals[first:], self.running.latency_bands(first), strict=False):
            if bands:
                self.latency.append(LatencySecond(second.t_s, bands))

    def _add_late_arrivals(self) -> None:
        """Adds what the receiver got after the last second to that second."""
        late = self._received_since()
        if late and self.intervals:
            last = self.intervals[-1]
            self.intervals[-1] = msgspec.structs.replace(last, received=(last.received or 0) + late)

    def _received_since(self) -> int | None:
        """What the receiver has got since the last query; None without a reply."""
        if self.received is None:
            return None
        reported = self.stats_query.received()
        if reported is None:
            return None
        before, self.received = self.received, reported
        return max(reported - before, 0)

    def _report(self, phase: Phase) -> None:
        counts: dict[str, Any] = self.running.counts()
        scenario = self.plan.scenario
        t_s = self._t_s()
        self.progress(
            RunProgress(
                phase=phase,
                t_s=t_s,
                total_s=scenario.duration_s,
                rate_per_s=self.exchange.rate_per_s(scenario, t_s),
                latest=self.intervals[-1] if self.intervals else None,
                intervals=tuple(self.intervals),
                latency=tuple(self.latency),
                connections=self.running.connections().get("live", 0) if scenario.streams else None,
                connections_asked=streams.connections(scenario) if scenario.streams else None,
                one_way=self.plan.one_way,
                received=self.received,
                **{name: counts[name] for name in _COUNTS},
            )
        )
