"""Hosts of a fleet that are simulated: each runs its part in virtual time, by a model, with a clock of its own.

Everything else is real: scheduler, workers, split, orders, events, results, the merge. The model is one queue a host
behind a network: its results follow from the seed and the host's number. `pace` is the real time of a virtual second:
0 for tests; 1 sends progress as often as a real run.
"""

from __future__ import annotations

import datetime
import functools
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import numpy as np

from flatout._engine import Histogram
from flatout.fleet import clock_server, worker
from flatout.fleet.host_calls import HostCalls
from flatout.plan.resolve import AsTrial
from flatout.result.histogram import distribution
from flatout.result.machine import Memory
from flatout.result.model import Host, Interval, Latency, LoadResult, Outcomes, Rates
from flatout.runner.counters import Sampled
from flatout.runner.held_start import HeldStart
from flatout.runner.progress import Phase, RunProgress
from flatout.scenario import nodes
from flatout.scenario.model import Scenario

_TICK_S = 0.1
# Ends the hosts that stall.
OVER = threading.Event()
_MINUTE_NS = 60 * 10**9
# One in so many requests is lost.
LOST_EACH = 50
# A process of many workers does not watch itself for each of them.
QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.admin.system-monitor.gil.enabled": False,
}
# Made before there are threads: the first use of a type in two threads at once ends the process (msgspec 0.21).
_RESULT = msgspec.json.Decoder(LoadResult)
_OTHERS = [msgspec.json.Decoder(kind) for kind in (Scenario, AsTrial | None, RunProgress, worker.Measured)]


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of hosts that die in mid-run, never end, cannot keep their schedule, or whose clock is set by 5 ms."""

    dies: frozenset[int] = frozenset()
    stalls: frozenset[int] = frozenset()
    limited: frozenset[int] = frozenset()
    set_clock: frozenset[int] = frozenset()
    late_ns: dict[int, int] = {}


class Simulation(msgspec.Struct, frozen=True, kw_only=True):
    """What all hosts share: faults, real s per virtual s, and the JSON of a result that gives what is not modelled."""

    faults: Faults = Faults()
    pace: float = 0.0
    base: bytes | None = None

    def calls(self) -> HostCalls:
        """What a fleet calls on its hosts."""
        return HostCalls(exchanges=functools.partial(_exchanges, self), measure=functools.partial(_measure, self))


def offset_ns(number: int) -> int:
    """How far the clock of a host is ahead: up to 10 minutes either way."""
    return (number * 7919 % 1201 - 600) * _MINUTE_NS // 60 + number * 1003


# --- What a fleet calls ---

_set_by_ns: dict[str, int] = {}


def _exchanges(simulation: Simulation, host: str, port: int, dask_worker: Any) -> list[tuple[int, int, int, int]]:
    """Real exchanges with the scheduler's host, in the time of the simulated one."""
    del simulation
    ahead = offset_ns(dask_worker.name) + _set_by_ns.get(dask_worker.address, 0)
    return [(a + ahead, b, c, d + ahead) for a, b, c, d in clock_server.exchanges(host, port)]


def _measure(simulation: Simulation, name: str, *arguments: Any, **options: Any) -> bytes:
    return worker.measure(name, *arguments, **options, run=functools.partial(_run, simulation))


def _run(
    simulation: Simulation,
    scenario: Scenario,
    progress: Callable[[RunProgress], None],
    stop: threading.Event,
    *,
    as_trial: AsTrial | None,
    start: HeldStart,
    on_sampled: Callable[[Sampled], None],
) -> LoadResult:
    from distributed import get_worker

    del as_trial, on_sampled
    me, faults = get_worker(), simulation.faults
    number = int(me.name)
    made = model(scenario, number)
    start_ns = _started(scenario, made, progress, stop, start, tick_s=_TICK_S if simulation.pace else 5.0)
    if simulation.pace:
        stop.wait(max((start_ns - offset_ns(number)) / 1e9 - time.time(), 0))
    progress(_progress(scenario, made, 0.0, "running"))
    if number in faults.dies:
        me.loop.add_callback(me.close, nanny=False, executor_wait=False, reason="simulated")
    if number in faults.dies | faults.stalls:
        OVER.wait()
    ticks = round(scenario.duration_s / _TICK_S) if simulation.pace else 0
    for tick in range(1, ticks):
        if stop.wait(_TICK_S * simulation.pace):
            break
        progress(_progress(scenario, made, tick * _TICK_S, "running"))
    if number in faults.set_clock:
        _set_by_ns[me.address] = 5_000_000
    progress(_progress(scenario, made, scenario.duration_s, "done"))
    return _result(simulation, scenario, made, (number, start_ns))


def _started(
    scenario: Scenario,
    made: Made,
    progress: Callable[[RunProgress], None],
    stop: threading.Event,
    start: HeldStart,
    *,
    tick_s: float,
) -> int:
    """Stands until the start is reported, and returns it: ns by this host's clock."""
    engine = _Engine()
    start.attach(engine)  # type: ignore[arg-type]
    progress(_progress(scenario, made, 0.0, "waiting"))
    while not engine.reported.wait(tick_s) and not stop.is_set():
        progress(_progress(scenario, made, 0.0, "waiting"))
    return engine.start_ns


class _Engine:
    """What the start is reported to."""

    def __init__(self) -> None:
        self.reported, self.start_ns = threading.Event(), 0

    def start_at(self, unix_ns: int) -> None:
        """Notes it."""
        self.start_ns = unix_ns
        self.reported.set()


# --- The model ---


class Made(NamedTuple):
    """What a host did: latencies in ns by request; None for lost."""

    latencies: list[int | None]

    @property
    def answered(self) -> list[int]:
        """Those of answers."""
        return [ns for ns in self.latencies if ns is not None]


def model(scenario: Scenario, number: int) -> Made:
    """A host's requests through a queue (Lindley's recursion), some of them lost; the same for the same number."""
    count = nodes.part(round(scenario.peak_per_s * scenario.duration_s), scenario.node)
    chance = np.random.default_rng([scenario.seed, number])
    gap = 1e9 * scenario.duration_s / max(count, 1)
    service = chance.exponential(0.7 * gap, count)
    waits, wait = [], 0.0
    for one in service:
        waits.append(round(wait + one + 20_000))
        wait = max(wait + one - gap, 0.0)
    return Made([None if n % LOST_EACH == LOST_EACH - 1 else ns for n, ns in enumerate(waits)])


def histogram(samples: list[int]) -> Histogram:
    """As one process would count them."""
    made = Histogram()
    for sample in samples:
        made.record(sample)
    return made


def _outcomes(made: Made, *, limited: bool = False) -> Outcomes:
    planned, answered = len(made.latencies), len(made.answered)
    unsent = (planned - answered) if limited else 0
    nothing = dict.fromkeys(("late", "refused", "invalid", "duplicate"), 0)
    return Outcomes(
        planned=planned,
        sent=planned - unsent,
        unsent=unsent,
        answered=answered,
        lost=planned - unsent - answered,
        **nothing,
    )


def _second(scenario: Scenario, made: Made, number: int) -> Interval:
    """The second that ends at `number` s."""
    seconds = max(round(scenario.duration_s), 1)
    mine = Made(made.latencies[number - 1 :: seconds])
    counts = msgspec.structs.asdict(_outcomes(mine))
    fields = {name: counts[name] for name in Interval.__struct_fields__ if name in counts and name != "received"}
    known = distribution(histogram(mine.answered))
    return Interval(
        t_s=float(number),
        **fields,
        p50=known.p50 if known else None,
        p99=known.p99 if known else None,
        lateness_p99=900,
    )


def _progress(scenario: Scenario, made: Made, t_s: float, phase: Phase) -> RunProgress:
    share = t_s / scenario.duration_s
    so_far = _outcomes(Made(made.latencies[: round(share * len(made.latencies))]))
    names = ("planned", "sent", "unsent", "answered", "late", "refused", "invalid", "duplicate", "lost")
    return RunProgress(
        phase=phase,
        t_s=t_s,
        total_s=scenario.duration_s,
        rate_per_s=scenario.peak_per_s,
        latest=_second(scenario, made, int(t_s)) if t_s >= 1 else None,
        **{name: getattr(so_far, name) for name in names},
    )


def _result(simulation: Simulation, scenario: Scenario, made: Made, began: tuple[int, int]) -> LoadResult:
    number, start_ns = began
    limited = number in simulation.faults.limited
    outcomes = _outcomes(made, limited=limited)
    known = distribution(histogram(made.answered))
    own = {
        "scenario": scenario,
        "host": Host(kernel="6", cpus=2, affinity=[0, 1], flatout="0", python="3", hostname=f"host-{number}"),
        "started_at": _rfc3339(start_ns + simulation.faults.late_ns.get(number, 0)),
        "duration_s": scenario.duration_s,
        "verdict": "generator-limited" if limited else "ok",
        "why": "too much could not leave in time" if limited else "the generator kept its schedule",
        "outcomes": outcomes,
        "loss": outcomes.lost / outcomes.sent if outcomes.sent else None,
        "rate_per_s": Rates.over(outcomes, scenario.duration_s),
        "latency_ns": Latency(from_due=known, from_sent=known),
        "lateness_ns": distribution(histogram([900] * outcomes.sent)),
        "intervals": [_second(scenario, made, n + 1) for n in range(round(scenario.duration_s))],
        "tallies": {"right": outcomes.answered},
        "memory": Memory(peak_rss=50_000_000, slots=1000, per_connection=0),
    }
    if simulation.base is None:
        return LoadResult(**own)
    return msgspec.structs.replace(_base(simulation.base), **own)


@functools.cache
def _base(data: bytes) -> LoadResult:
    return _RESULT.decode(data)


def _rfc3339(unix_ns: int) -> str:
    moment = datetime.datetime.fromtimestamp(unix_ns // 10**9, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{unix_ns % 10**9 // 1000:06}Z"
