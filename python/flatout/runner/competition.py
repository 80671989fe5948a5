"""How load and target compete for CPUs during a run, and whether that explains what was lost."""

from __future__ import annotations

import os
import time

import msgspec

from flatout._engine import LoadRun
from flatout.host import contention, describe, target
from flatout.host.placement import load_cpus, shared_after
from flatout.plan.resolve import Plan
from flatout.result.machine import Contention, Subintervals
from flatout.result.model import LoadResult

_TICK_S = 0.05
# It may be here, and none of its threads is seen. A port that is forwarded is bound by nobody.
_UNSEEN = ("hidden", "namespace", "nobody")
# A target that waits for so much of the time is not kept from its CPUs by chance.
SHARE_FROM = 0.05


class Competition:
    """Samples the target's threads and this host's CPUs from before a run until it has ended."""

    def __init__(self, plan: Plan) -> None:
        self.placement = plan.placement
        self._threads = plan.target_threads
        self._workers = plan.engine.workers
        self._inside = any(thread.pid == os.getpid() for thread in self._threads)
        self._stolen_s = describe.stolen_s()
        self._sent: tuple[float, contention.Sample] | None = None
        self._start()

    def _start(self) -> None:
        self._before = contention.sample(self._threads)
        self._began_s = time.monotonic()

    def tick(self, running: LoadRun, t_s: float) -> None:
        """In the warm-up: where the target has to wait for CPUs, load threads stop spinning.

        `t_s`: time since the counted beginning. The last sample before that is where the run's own count begins.
        """
        if t_s >= 0 or self._sent or not self._threads or time.monotonic() - self._began_s < _TICK_S:
            return
        waited = self._since(None, 0).target
        if waited and waited.run_delay_share > SHARE_FROM and not self.placement.shared_cpus and self._meets():
            window_s = time.monotonic() - self._began_s
            shared = shared_after(self.placement, waited.run_delay_share, window_s)
            if shared.shared_cpus:
                running.share_cpus()
                self.placement = shared
        self._start()

    def sending_ended(self) -> None:
        """Nothing is due any more: what happens to CPUs from now on is of no interest. Called as often as you like."""
        if self._sent is None:
            self._sent = (time.monotonic(), contention.sample(self._threads))

    def _meets(self) -> bool:
        """Whether a thread of the target is on a load thread's CPU; else it waited for others."""
        return not load_cpus(self.placement).isdisjoint(target.last_cpus(self._threads))

    def stolen_s(self) -> float:
        """CPU time that the hypervisor has given to others since."""
        return max(describe.stolen_s() - self._stolen_s, 0.0)

    def end(self, running: LoadRun) -> Contention:
        """What happened since; the placement then knows which processes of the target have ended."""
        about = self.placement.target
        if about and (ended := target.ended(about.pids)):
            about = msgspec.structs.replace(about, ended=ended)
            self.placement = msgspec.structs.replace(self.placement, target=about)
        return self._since(*running.contention())

    def _since(self, run_delay_ns: int | None, involuntary_switches: int) -> Contention:
        """What happened since the last start; the arguments are the load threads' own, from the engine.

        Answers may be awaited for longer than requests were sent: shares of time are those of the sending.
        """
        now = contention.sample(self._threads)
        ended_s, sent = self._sent or (time.monotonic(), now)
        return contention.between(
            self._before,
            # What the host dropped is counted until the last answer was awaited, as all drops are.
            sent._replace(backlog_drops=now.backlog_drops),
            ended_s - self._began_s,
            run_delay_ns=run_delay_ns,
            involuntary_switches=involuntary_switches,
            threads=self._workers,
            inside=self._inside,
            hidden=not self._threads and self.placement.where in _UNSEEN,
        )


def competed(result: LoadResult) -> bool:
    """Whether the target had to wait for CPUs in a run, so that the threads of the next one should not spin."""
    placement, threads = result.placement, result.contention.target if result.contention else None
    shared = placement is not None and bool(placement.shared_cpus)
    return shared or (threads is not None and threads.run_delay_share > SHARE_FROM)


def subintervals(running: LoadRun) -> Subintervals:
    """The engine's subintervals, column by column."""
    length_ns, rows = running.subintervals()
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(6)]
    return Subintervals(length_ns / 1e9, *columns)
