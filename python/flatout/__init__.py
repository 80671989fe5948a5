"""flatout finds how fast a small-message network server can go, says what stops it, and serves such messages fast.

    result = flatout.load("ntp", "127.0.0.1:1123", rate="100k", duration="5s")
    found = flatout.limit("ntp", "127.0.0.1:1123", loss="0.1%", p99="5ms")
    with flatout.serve("ntp", "127.0.0.1:0") as server: ...

Only re-exports live here, each imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flatout.api import limit, limit_async, load, load_async, serve
    from flatout.batch import Batch
    from flatout.errors import FlatoutError, GeneratorError, Interrupted, OutputError, TargetError, UsageError
    from flatout.host import VERSION as __version__
    from flatout.merging import merge
    from flatout.progress import RunProgress, SearchProgress
    from flatout.receiver import Receiver
    from flatout.result import LimitResult, LoadResult, from_json, read
    from flatout.scenario.model import Segment
    from flatout.sender import Sender
    from flatout.server import Server

_HOMES = {
    "flatout.api": ("limit", "limit_async", "load", "load_async", "serve"),
    "flatout.batch": ("Batch",),
    "flatout.errors": ("FlatoutError", "GeneratorError", "Interrupted", "OutputError", "TargetError", "UsageError"),
    "flatout.merging": ("merge",),
    "flatout.progress": ("RunProgress", "SearchProgress"),
    "flatout.receiver": ("Receiver",),
    "flatout.result": ("LimitResult", "LoadResult", "from_json", "read"),
    "flatout.scenario.model": ("Segment",),
    "flatout.sender": ("Sender",),
    "flatout.server": ("Server",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Batch",
    "FlatoutError",
    "GeneratorError",
    "Interrupted",
    "LimitResult",
    "LoadResult",
    "OutputError",
    "Receiver",
    "RunProgress",
    "SearchProgress",
    "Segment",
    "Sender",
    "Server",
    "TargetError",
    "UsageError",
    "__version__",
    "from_json",
    "limit",
    "limit_async",
    "load",
    "load_async",
    "merge",
    "read",
    "serve",
]


def __getattr__(name: str) -> Any:
    import importlib

    if name == "__version__":
        return importlib.import_module("flatout.host").VERSION
    if name not in _HOME:
        raise AttributeError(f"module 'flatout' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), name)
