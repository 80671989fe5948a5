"""What a host of the fleet does, inside its Dask worker: tells what it can drive, runs its part.

Arguments and results are JSON, so that both ends need not have the same types; the versions are compared before.
"""

from __future__ import annotations

import importlib
import os
import platform
import resource
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec

from flatout.errors import FlatoutError, Interrupted
from flatout.host.describe import VERSION
from flatout.result.files import to_json
from flatout.result.model import LoadResult
from flatout.runner.progress import RunProgress
from flatout.scenario.model import Scenario

# The topic of progress events.
TOPIC = "flatout"
# Between two events of progress, s: the scheduler passes on those of all hosts.
_EVERY_S = 0.25


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a host can drive, and what runs there."""

    hostname: str
    flatout: str
    python: str
    kernel: str
    cpus: int
    descriptors: int
    io_uring: bool


def capabilities() -> dict[str, Any]:
    """Of this host."""
    from flatout import _engine

    # What a run needs is imported now, and not when it is to start.
    importlib.import_module("flatout.runner.run")
    reported: dict[str, Any] = msgspec.to_builtins(
        Capabilities(
            hostname=platform.node(),
            flatout=VERSION,
            python=platform.python_version(),
            kernel=platform.release(),
            cpus=len(os.sched_getaffinity(0)),
            descriptors=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
            io_uring=_engine.kernel().get("uring", False),
        )
    )
    return reported


# --- Runs ---

# By run and worker: a process may have several workers.
_running: dict[tuple[str, str], threading.Event] = {}


async def stop(name: str, dask_worker: Any) -> None:
    """Ends this host's part of a run early; nobody waits for it, as a host may hang."""
    if (name, dask_worker.address) in _running:
        _running[name, dask_worker.address].set()


def measure(name: str, scenario: bytes, as_trial: bytes, run: Callable[..., LoadResult] | None = None) -> bytes:
    """Runs this host's part; returns its result as JSON, or {"error": kind, "text": …} for an error of ours.

    `run`: runs it otherwise than `flatout.runner.run.run` does, such as a simulation.
    """
    from distributed import get_worker

    from flatout.plan.resolve import AsTrial
    from flatout.runner.run import run as run_here

    part = msgspec.json.decode(scenario, type=Scenario)
    trial = msgspec.json.decode(as_trial, type=AsTrial | None)
    key = name, get_worker().address
    stopped = _running[key] = threading.Event()
    try:
        return to_json((run or run_here)(part, _Reporter(name), stopped, as_trial=trial))
    except Interrupted as interrupted:
        return to_json(interrupted.result)
    except FlatoutError as error:
        return msgspec.json.encode({"error": type(error).__name__, "text": str(error)})
    finally:
        _running.pop(key, None)


class _Reporter:
    """Sends progress to the scheduler, from time to time."""

    def __init__(self, name: str) -> None:
        from distributed import get_worker

        self._worker, self._name, self._next = get_worker(), name, 0.0

    def __call__(self, progress: RunProgress) -> None:
        now = time.monotonic()
        if now < self._next and progress.phase != "done":
            return
        self._next = now + _EVERY_S
        event = msgspec.to_builtins(msgspec.structs.replace(progress, intervals=()))
        self._worker.log_event(TOPIC, {"run": self._name, "worker": self._worker.address, "progress": event})
