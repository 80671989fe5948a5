"""Attempts that a busy machine may spoil: counted for each test, shown at the end of a run, limited in strict mode.

Strict mode (the variable FLATOUT_STRICT is "1", as in CI) allows three attempts on a quiet machine. An attempt during
which other processes or the hypervisor took CPU time from the test does not count as one of the three. What a virtual
machine's host takes is often not told as stolen time, so beside the kernel's counters a loop watches the clock.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

STRICT_ATTEMPTS = 3
# CPU time that others may take in an attempt: a share of one CPU, and two ticks of the kernel's accounting.
QUIET_SHARE, QUIET_SECONDS = 0.1, 0.02
# A loop that does nothing but read the clock: gaps so long are pauses, and a quiet machine has so few of them.
GAP_NS, QUIET_PAUSES, WATCH_NS = 200_000, 0.01, 50_000_000
PROPERTY = "attempts"
_HERTZ = os.sysconf("SC_CLK_TCK")


# --- Who used the CPUs ---


class CpuTime(NamedTuple):
    """CPU seconds since the machine started: of all processes, of this process and its descendants, and stolen."""

    all: float
    own: float
    stolen: float


def cpu_time(proc: Path = Path("/proc"), pid: int | None = None) -> CpuTime | None:
    """The CPU time until now; None where the kernel does not tell it."""
    try:
        fields = [int(word) for word in (proc / "stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
        user, nice, system, _, _, interrupts, soft_interrupts, stolen = fields
    except (OSError, ValueError):
        return None
    own = _of_tree(proc, os.getpid() if pid is None else pid)
    # The kernel counts the time of an interrupt for the process that it came to, too.
    busy = user + nice + system + interrupts + soft_interrupts
    return CpuTime(busy / _HERTZ, own / _HERTZ, stolen / _HERTZ)


def _of_tree(proc: Path, root: int) -> int:
    """Ticks of a process, its descendants, and those descendants that have ended."""
    children: dict[int, list[int]] = {}
    ticks: dict[int, int] = {}
    for folder in proc.glob("[0-9]*"):
        try:
            words = (folder / "stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue  # it has just ended
        children.setdefault(int(words[1]), []).append(int(folder.name))
        ticks[int(folder.name)] = sum(map(int, words[11:15]))
    total, waiting = 0, [root]
    while waiting:
        pid = waiting.pop()
        total += ticks.get(pid, 0)
        waiting += children.get(pid, [])
    return total


def was_quiet(before: CpuTime | None, after: CpuTime | None, seconds: float) -> bool:
    """Whether others took next to no CPU time between two looks; False where that is not known."""
    if before is None or after is None:
        return False
    others = (after.all - before.all) - (after.own - before.own)
    stolen = after.stolen - before.stolen
    return max(others, 0.0) + stolen <= QUIET_SHARE * seconds + QUIET_SECONDS


def pauses(clock: Callable[[], int] = time.perf_counter_ns) -> float:
    """The share of 50 ms in which this thread was kept from running, on each CPU it may use in turn."""
    worst = 0.0
    cpus = os.sched_getaffinity(0)
    try:
        for cpu in sorted(cpus)[:2]:
            os.sched_setaffinity(0, {cpu})
            worst = max(worst, _paused(clock))
    finally:
        os.sched_setaffinity(0, cpus)
    return worst


def _paused(clock: Callable[[], int]) -> float:
    began = last = clock()
    paused = 0
    while last < began + WATCH_NS:
        now = clock()
        if now - last > GAP_NS:
            paused += now - last
        last = now
    return paused / (last - began)


# --- Attempts ---


class Attempts(NamedTuple):
    """What a test needed: attempts in all, and how many of them ran on a quiet machine."""

    made: int
    quiet: int


def strict() -> bool:
    """Whether a quiet machine is no excuse."""
    return os.environ.get("FLATOUT_STRICT") == "1"


_needed: dict[str, Attempts] = {}


def _current_test() -> str:
    return os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]


def until_good(
    attempt: Callable[[], Any],
    good: Callable[[Any], object],
    seconds: float = 60.0,
    *,
    clock: Callable[[], float] = time.monotonic,
    look: Callable[[], CpuTime | None] = cpu_time,
    watch: Callable[[], float] = pauses,
) -> Any:
    """The first good result, or the last one: for what a busy machine may spoil.

    It tries for so long, and three times at least: a few short attempts may all fall into one busy second. In strict
    mode the third attempt on a quiet machine is the last one.
    """
    deadline = clock() + seconds
    made, quiet = 0, 0
    while True:
        began, before = clock(), look()
        result = attempt()
        made += 1
        calm = was_quiet(before, look(), clock() - began)
        if good(result):
            quiet += calm
            break
        # A busy neighbour on the machine's host stays for a while: it is looked for right after a bad attempt.
        quiet += calm and (not strict() or watch() <= QUIET_PAUSES)
        if strict() and quiet >= STRICT_ATTEMPTS:
            break
        if made >= STRICT_ATTEMPTS and clock() > deadline:
            break
    # A test with several of these is told by the worst of them.
    _needed[_current_test()] = max(_needed.get(_current_test(), Attempts(0, 0)), Attempts(made, quiet))
    return result


def machine_may_be_blamed() -> bool:
    """Whether this test's attempts may have failed because of others on this machine.

    Outside strict mode always: there others are not looked for.
    """
    needed = _needed.get(_current_test(), Attempts(0, 0))
    return not strict() or needed.quiet < STRICT_ATTEMPTS


def take(name: str) -> Attempts | None:
    """What a test needed, once."""
    return _needed.pop(name, None)


def summary(reports: Iterable[Any]) -> list[str]:
    """A line for each test that needed more than one attempt, those with the most attempts first."""
    needed = [
        (Attempts(*value), report.nodeid)
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == PROPERTY
    ]
    return [
        f"{made} attempts ({quiet} on a quiet machine): {name}"
        for (made, quiet), name in sorted(needed, key=lambda pair: (-pair[0].made, pair[1]))
        if made > 1
    ]
