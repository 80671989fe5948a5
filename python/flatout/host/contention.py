"""Measures how threads compete for CPUs: run-queue delay, involuntary switches, steal, softirq time.

Sources: /proc/PID/task/TID/schedstat (time on a CPU and waiting for one, ns), /proc/stat (softirq and steal of each
CPU, in ticks). What cannot be read is None, and the rest stands.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from flatout.host.target import Thread
from flatout.result.machine import Contention, TargetContention

PROC = Path("/proc")
_SOFTIRQ, _STEAL = 7, 8


class Sample(NamedTuple):
    """Counters at one moment: of each thread (run ns, wait ns), of each CPU (softirq s, steal s)."""

    threads: dict[int, tuple[int, int]]
    cpus: dict[int, tuple[float, float]]


def sample(threads: Iterable[Thread], proc: Path = PROC) -> Sample:
    """Reads the counters now; threads that have ended or are hidden are left out."""
    found = {}
    for thread in threads:
        times = _schedstat(proc / str(thread.pid) / "task" / str(thread.tid) / "schedstat")
        if times is not None:
            found[thread.tid] = times
    return Sample(found, _cpus(proc))


def _schedstat(path: Path) -> tuple[int, int] | None:
    try:
        words = path.read_text(encoding="ascii").split()
        return int(words[0]), int(words[1])
    except (OSError, ValueError, IndexError):
        return None


def _cpus(proc: Path) -> dict[int, tuple[float, float]]:
    hertz = os.sysconf("SC_CLK_TCK")
    found = {}
    try:
        lines = (proc / "stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    for line in lines:
        words = line.split()
        if line.startswith("cpu") and words[0] != "cpu" and len(words) > _STEAL:
            found[int(words[0][3:])] = (int(words[_SOFTIRQ]) / hertz, int(words[_STEAL]) / hertz)
    return found


def between(
    before: Sample,
    after: Sample,
    seconds: float,
    *,
    run_delay_ns: int | None,
    involuntary_switches: int,
    threads: int,
) -> Contention:
    """What happened between two samples `seconds` apart; the rest is the load threads' own, from the engine."""
    softirq = {cpu: after.cpus[cpu][0] - was[0] for cpu, was in before.cpus.items() if cpu in after.cpus}
    steal = [after.cpus[cpu][1] - was[1] for cpu, was in before.cpus.items() if cpu in after.cpus]
    return Contention(
        run_delay_s=None if run_delay_ns is None else run_delay_ns / 1e9,
        involuntary_switches=involuntary_switches,
        threads=threads,
        steal_s=round(sum(steal), 3) if steal else None,
        softirq_s={str(cpu): round(seconds_, 3) for cpu, seconds_ in softirq.items()},
        target=_target(before, after, seconds),
    )


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
