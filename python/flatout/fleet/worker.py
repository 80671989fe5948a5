"""What a host of the fleet does, inside its Dask worker: tells what it can drive, runs its part.

Arguments and results are JSON, so that both ends need not have the same types; the versions are compared before.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from flatout.errors import FlatoutError, GeneratorError, Interrupted
from flatout.fleet.machine import machine
from flatout.host.describe import VERSION
from flatout.result.files import to_json
from flatout.result.model import LoadResult
from flatout.runner.counters import Sampled
from flatout.runner.held_start import HeldStart
from flatout.runner.ledger_of_hosts import Machine
from flatout.runner.progress import RunProgress
from flatout.scenario.model import Scenario

# Of the thread that heartbeats leave from, where that is allowed: the engine's threads have -10 there.
_NICENESS, _USUAL = -11, os.getpriority(os.PRIO_PROCESS, 0)
# The topic of progress events.
TOPIC = "flatout"
# Between two events of progress, s.
_EVERY_S = 0.25
# The scheduler passes on the events of all hosts, 0.2 ms of its CPU each: those of many hosts come less often.
_EVENTS_PER_S = 1000


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a host can drive, and what runs there.

    `descriptors`: sockets that a worker may hold as such. `ports`: of each source address, for one target. `network`:
    workers in one network namespace have the same, and share its ports.
    """

    hostname: str
    flatout: str
    python: str
    kernel: str
    cpus: int
    descriptors: int
    io_uring: bool
    ports: int = 28_232
    network: str = ""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """A host's part: its result, as in a file; what was sampled around it; on which kernel and in which namespace."""

    result: msgspec.Raw
    sampled: Sampled | None
    machine: Machine


def capabilities() -> dict[str, Any]:
    """Of this host."""
    from flatout.plan import capacity

    # What a run needs is imported now, and not when it is to start.
    importlib.import_module("flatout.runner.run")
    room = capacity.room()
    reported: dict[str, Any] = msgspec.to_builtins(
        Capabilities(
            hostname=platform.node(),
            flatout=VERSION,
            python=platform.python_version(),
            kernel=platform.release(),
            cpus=len(os.sched_getaffinity(0)),
            descriptors=room.files,
            io_uring=room.io_uring,
            ports=room.ports,
            network=" ".join(map(str, machine())),
        )
    )
    return reported


# --- Runs ---


class _Running(NamedTuple):
    """A part: how to end it, and how to tell it the start."""

    stop: threading.Event
    start: HeldStart


# By run and worker: a process may have several workers.
_running: dict[tuple[str, str], _Running] = {}


# They run on the worker's event loop, whatever its task threads do.
async def stop_all(dask_worker: Any = None) -> None:
    """Ends whatever runs here early; from now on the load keeps no heartbeat from this thread."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
    # Dask's profiler looks at the stack of a task a hundred times a second, on the CPU that the load needs.
    for name in ("profile", "profile-cycle"):
        if profiling := dask_worker.periodic_callbacks.get(name):
            profiling.stop()
    for (_, address), running in list(_running.items()):
        if address == dask_worker.address:
            running.stop.set()


async def stop(name: str, dask_worker: Any = None) -> None:
    """Ends this host's part of a run early; nobody waits for it, as a host may hang."""
    if running := _running.get((name, dask_worker.address)):
        running.stop.set()


async def begin_at(name: str, moments: dict[str, int], dask_worker: Any = None) -> None:
    """Tells this host's part its start: `moments` by the workers' addresses, Unix time of each host in ns."""
    if running := _running.get((name, dask_worker.address)):
        running.start.tell(moments[dask_worker.address])


def measure(
    name: str, scenario: bytes, as_trial: bytes, within_s: float, run: Callable[..., LoadResult] | None = None
) -> bytes:
    """Runs this host's part; returns it as JSON (`Measured`), or {"error": kind, "text": …} for an error of ours.

    `within_s`: it is an error where the start is not told within so long. `run`: runs it in place of
    `flatout.runner.run.run`, such as a simulation.
    """
    from distributed import get_worker

    from flatout.plan.resolve import AsTrial
    from flatout.runner.run import run as run_here

    # A thread of the pool has what the event loop's had when it began.
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _USUAL)
    part = msgspec.json.decode(scenario, type=Scenario)
    trial = msgspec.json.decode(as_trial, type=AsTrial | None)
    key = name, get_worker().address
    running = _running[key] = _Running(threading.Event(), HeldStart())
    reporter = _Reporter(name, running.stop, within_s, every_s(part))
    seen: list[Sampled] = []
    try:
        how: dict[str, Any] = {"as_trial": trial, "start": running.start, "on_sampled": seen.append}
        result = (run or run_here)(part, reporter, running.stop, **how)
        if reporter.overdue:
            raise GeneratorError(f"the start was not told within {within_s:.0f} s")
        return _measured(result, seen)
    except Interrupted as interrupted:
        return _measured(interrupted.result, seen)
    except FlatoutError as error:
        return msgspec.json.encode({"error": type(error).__name__, "text": str(error)})
    finally:
        _running.pop(key, None)


def every_s(part: Scenario) -> float:
    """How much time is between two events of progress of a host, s."""
    _, hosts = part.node or (1, 1)
    return max(_EVERY_S, hosts / _EVENTS_PER_S)


def _measured(result: LoadResult, seen: list[Sampled]) -> bytes:
    # Of several addresses of the target the last one was measured.
    sampled = seen[-1] if seen else None
    return msgspec.json.encode(Measured(result=msgspec.Raw(to_json(result)), sampled=sampled, machine=machine()))


class _Reporter:
    """Sends progress to the scheduler, from time to time; ends a part whose start does not come.

    `overdue`: it did so.
    """

    def __init__(self, name: str, stop: threading.Event, within_s: float, every_s: float) -> None:
        from distributed import get_worker

        self._worker, self._name, self._next, self._every_s = get_worker(), name, 0.0, every_s
        self._stop, self._until = stop, time.monotonic() + within_s
        self._phase = ""
        self.overdue = False

    def __call__(self, progress: RunProgress) -> None:
        now = time.monotonic()
        if progress.phase in ("connecting", "waiting") and now > self._until:
            self.overdue = True
            self._stop.set()
        # All hosts wait for the one whose phase changes last.
        if now < self._next and progress.phase == self._phase:
            return
        self._next, self._phase = now + self._every_s, progress.phase
        event = msgspec.to_builtins(msgspec.structs.replace(progress, intervals=(), latency=progress.latency[-1:]))
        self._worker.log_event(TOPIC, {"run": self._name, "worker": self._worker.address, "progress": event})
