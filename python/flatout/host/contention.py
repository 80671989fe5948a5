"""Measures how threads compete for CPUs: run-queue delay, involuntary switches, steal, softirq time.

Sources: /proc/PID/task/TID/schedstat (time on a CPU and waiting for one, ns), /proc/stat (busy time, softirq and steal
of each CPU, in ticks), /proc/net/softnet_stat (drops). What cannot be read is None, and the rest stands.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from flatout.host import quota
from flatout.host.target import Thread
from flatout.result.machine import Contention, TargetContention

PROC = Path("/proc")
Number = TypeVar("Number", int, float)
# Fields of a line of /proc/stat (proc_stat(5)), from user time on: idle and iowait are no work.
_IDLE, _IRQ, _SOFTIRQ, _STEAL = (3, 4), 5, 6, 7


class CpuTimes(NamedTuple):
    """Seconds of one CPU: all work with what was stolen, soft interrupts alone, what was stolen alone; interrupts."""

    busy: float
    softirq: float
    steal: float
    irq: float = 0.0

    @property
    def programs(self) -> float:
        """What programs used, as far as the kernel counts interrupts apart."""
        return self.busy - self.softirq - self.steal - self.irq


class Sample(NamedTuple):
    """Counters at one moment: of each thread (run ns, wait ns), of each CPU, and this process's CPU seconds.

    `backlog_drops`: packets that this host's receive backlogs were too full for; `throttled_s`: what a CPU quota has
    taken from this process's control group, and `target_throttled_s` from the target's where it is another one. None
    where that is not counted.
    """

    threads: dict[int, tuple[int, int]]
    cpus: dict[int, CpuTimes]
    own_s: float
    backlog_drops: int | None = None
    throttled_s: float | None = None
    target_throttled_s: float | None = None


def sample(threads: Sequence[Thread], proc: Path = PROC) -> Sample:
    """Reads the counters now; threads that have ended or are hidden are left out."""
    found = {}
    for thread in threads:
        times = _schedstat(proc / str(thread.pid) / "task" / str(thread.tid) / "schedstat")
        if times is not None:
            found[thread.tid] = times
    own = os.times()
    return Sample(
        found,
        _cpus(proc),
        own.user + own.system,
        _backlog_drops(proc),
        quota.throttled_s(proc),
        quota.throttled_apart_s(dict.fromkeys(thread.pid for thread in threads), proc) if threads else None,
    )


def _backlog_drops(proc: Path) -> int | None:
    """The second column of /proc/net/softnet_stat, in hexadecimal, over all CPUs."""
    try:
        lines = (proc / "net/softnet_stat").read_text(encoding="ascii").splitlines()
        return sum(int(line.split()[1], 16) for line in lines)
    except (OSError, ValueError, IndexError):
        return None


def _schedstat(path: Path) -> tuple[int, int] | None:
    try:
        run_ns, wait_ns, turns = (int(word) for word in path.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return None
    # All zero: the kernel has the file but does not count.
    return (run_ns, wait_ns) if turns else None


def _cpus(proc: Path) -> dict[int, CpuTimes]:
    hertz = os.sysconf("SC_CLK_TCK")
    found = {}
    try:
        lines = (proc / "stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    for line in lines:
        name, *words = line.split() or [""]
        if name.startswith("cpu") and name != "cpu" and len(words) > _STEAL:
            ticks = [int(word) for word in words[: _STEAL + 1]]
            busy = sum(ticks) - sum(ticks[field] for field in _IDLE)
            found[int(name[3:])] = CpuTimes(busy / hertz, *(ticks[n] / hertz for n in (_SOFTIRQ, _STEAL, _IRQ)))
    return found


def between(
    before: Sample,
    after: Sample,
    seconds: float,
    *,
    run_delay_ns: int | None,
    involuntary_switches: int,
    threads: int,
    inside: bool = False,
    hidden: bool = False,
) -> Contention:
    """What happened between two samples `seconds` apart; the rest is the load threads' own, from the engine.

    `inside`: the target's threads are this process's. `hidden`: they are on this host and cannot be seen, so that it is
    not known what is another program's.
    """
    pairs = {cpu: (was, after.cpus[cpu]) for cpu, was in before.cpus.items() if cpu in after.cpus}
    target = _target(before, after, seconds)
    known_s = after.own_s - before.own_s + (target.cpu_s if target and not inside else 0.0)
    programs_s = sum(now.programs - was.programs for was, now in pairs.values())
    return Contention(
        run_delay_s=None if run_delay_ns is None else run_delay_ns / 1e9,
        involuntary_switches=involuntary_switches,
        threads=threads,
        steal_s=round(sum(now.steal - was.steal for was, now in pairs.values()), 3) if pairs else None,
        softirq_s={str(cpu): round(now.softirq - was.softirq, 3) for cpu, (was, now) in pairs.items()},
        busy_s={str(cpu): round(now.busy - was.busy, 3) for cpu, (was, now) in pairs.items()},
        others_s=max(round(programs_s - known_s, 3), 0.0) if pairs and not hidden else None,
        elapsed_s=round(seconds, 3),
        backlog_drops=_grown_words(before.backlog_drops, after.backlog_drops),
        throttled_s=_grown(before.throttled_s, after.throttled_s),
        target_throttled_s=_grown(before.target_throttled_s, after.target_throttled_s),
        target=target,
    )


def _grown(before: Number | None, after: Number | None) -> Number | None:
    """By how much a counter has grown; None where it is unknown."""
    return None if before is None or after is None else after - before


def _grown_words(before: int | None, after: int | None) -> int | None:
    """The same of a sum of counters of 32 bits, any of which may have begun again at 0."""
    grown = _grown(before, after)
    return None if grown is None else grown % 2**32


def _target(before: Sample, after: Sample, seconds: float) -> TargetContention | None:
    both = before.threads.keys() & after.threads.keys()
    gone = len(before.threads) - len(both)
    if not before.threads or seconds <= 0:
        return None
    run = {tid: (after.threads[tid][0] - before.threads[tid][0]) / 1e9 for tid in both}
    wait = {tid: (after.threads[tid][1] - before.threads[tid][1]) / 1e9 for tid in both}
    return TargetContention(
        cpu_s=sum(run.values()),
        run_delay_s=sum(wait.values()),
        run_delay_share=min(max(wait.values(), default=0.0) / seconds, 1.0),
        busiest_share=min(max(run.values(), default=0.0) / seconds, 1.0),
        busy_threads=sum(value > 0.02 * seconds for value in run.values()),
        ended_threads=gone,
    )
