"""flatout finds how fast a small-message network server can go, says what stops it, and serves such messages fast.

    result = flatout.load("ntp", "127.0.0.1:1123", rate="100k", duration="5s")
    found = flatout.limit("ntp", "127.0.0.1:1123", loss="0.1%", p99="5ms")
    with flatout.serve("ntp", "127.0.0.1:0") as server: ...

Only re-exports live here, each imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flatout.api import limit, limit_async, load, load_async, sweep
    from flatout.errors import FlatoutError, GeneratorError, Interrupted, OutputError, TargetError, UsageError
    from flatout.experiments.drive import experiment
    from flatout.experiments.model import Experiment, HostSettings, ServerUnderTest
    from flatout.host.describe import VERSION as __version__
    from flatout.receiver.batch import Batch
    from flatout.receiver.receiver import Receiver
    from flatout.receiver.sender import Sender
    from flatout.result.experiment import ExperimentResult
    from flatout.result.files import from_json, read
    from flatout.result.merge import merge
    from flatout.result.model import LimitResult, LoadResult
    from flatout.result.sweep import SweepResult
    from flatout.runner.progress import RunProgress, SearchProgress
    from flatout.scenario.model import Segment
    from flatout.server.base import Server
    from flatout.server.limits import Limits
    from flatout.serving import serve
    from flatout.store.choose import compare
    from flatout.store.open import open_store

_HOMES = {
    "flatout.api": ("limit", "limit_async", "load", "load_async", "sweep"),
    "flatout.receiver.batch": ("Batch",),
    "flatout.errors": ("FlatoutError", "GeneratorError", "Interrupted", "OutputError", "TargetError", "UsageError"),
    "flatout.experiments.drive": ("experiment",),
    "flatout.experiments.model": ("Experiment", "HostSettings", "ServerUnderTest"),
    "flatout.result.experiment": ("ExperimentResult",),
    "flatout.result.merge": ("merge",),
    "flatout.runner.progress": ("RunProgress", "SearchProgress"),
    "flatout.receiver.receiver": ("Receiver",),
    "flatout.result.files": ("from_json", "read"),
    "flatout.result.model": ("LimitResult", "LoadResult"),
    "flatout.result.sweep": ("SweepResult",),
    "flatout.scenario.model": ("Segment",),
    "flatout.receiver.sender": ("Sender",),
    "flatout.server.base": ("Server",),
    "flatout.server.limits": ("Limits",),
    "flatout.serving": ("serve",),
    "flatout.store.choose": ("compare",),
    "flatout.store.open": ("open_store",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Batch",
    "Experiment",
    "ExperimentResult",
    "FlatoutError",
    "GeneratorError",
    "HostSettings",
    "Interrupted",
    "LimitResult",
    "Limits",
    "LoadResult",
    "OutputError",
    "Receiver",
    "RunProgress",
    "SearchProgress",
    "Segment",
    "Sender",
    "Server",
    "ServerUnderTest",
    "SweepResult",
    "TargetError",
    "UsageError",
    "__version__",
    "compare",
    "experiment",
    "from_json",
    "limit",
    "limit_async",
    "load",
    "load_async",
    "merge",
    "open_store",
    "read",
    "serve",
    "sweep",
]


def __getattr__(name: str) -> Any:
    import importlib

    if name == "__version__":
        return importlib.import_module("flatout.host.describe").VERSION
    if name not in _HOME:
        raise AttributeError(f"module 'flatout' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), name)
