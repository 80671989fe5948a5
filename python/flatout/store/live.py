"""What runs now, for who watches it: the types of its files, where they are, and who reads them.

A file that has not been replaced for a while is of a process that was killed or stands still: it is left out, and
removed later.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from flatout.result.model import SCHEMA
from flatout.store.location import sqlite_path, store_url

# After so long without news a run is no longer listed, and its file removed.
_SILENT_S, _REMOVED_S = 15.0, 120.0
# Files of other programs in that folder are not read through.
_LONGEST = 1 << 20


LiveCommand = Literal["load", "limit", "sweep"]


class LiveSecond(msgspec.Struct, frozen=True, kw_only=True):
    """One second of a run; `came` are answers, or the messages that a receiver counted; ns."""

    t_s: float
    planned: int
    sent: int
    came: int | None
    lost: int
    p50: int | None
    p99: int | None
    lateness_p99: int | None


class LiveLatency(msgspec.Struct, frozen=True, kw_only=True):
    """Latencies from due of a second that ended at `t_s` of its run; of a search its `trial`.

    `counts` are requests in bands of a tenth of a decade; the first band begins at 10^(first/10) ns.
    """

    t_s: float
    trial: int | None
    first: int
    counts: list[int]


class LiveHost(msgspec.Struct, frozen=True, kw_only=True):
    """One host of a fleet: counts since its counted start, rate and lateness (ns) of its last second.

    For `silent_s` it has told nothing.
    """

    host: str
    phase: str
    rate_per_s: float | None
    answered: int
    lost: int
    unsent: int
    lateness_p99_ns: int | None
    silent_s: float


class LiveTrial(msgspec.Struct, frozen=True, kw_only=True):
    """A trial of a search that has ended; `load` on the axis of the search, `p99` in ns from due."""

    trial: int
    load: float
    verdict: str
    loss: float | None
    p99: int | None
    why: str


class LiveSearch(msgspec.Struct, frozen=True, kw_only=True):
    """Where a search is; `unit` is that of `load` and of both bounds."""

    trial: int
    phase: str
    load: float
    unit: str
    lower: float | None
    upper: float | None
    elapsed_s: float
    budget_s: float
    limit: float | None
    stopped_by: str | None
    trials: list[LiveTrial]


class LiveRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run in progress: counts since its counted start, times in s; of a search the trial that runs.

    `came` is null where a receiver has not reported; `phase` is `starting` before the first event.
    """

    schema: str = SCHEMA
    kind: Literal["live"] = "live"
    id: str
    command: LiveCommand
    protocol: str
    transport: str
    target: str
    began_at: float
    phase: str = "starting"
    t_s: float = 0.0
    total_s: float = 0.0
    rate_per_s: float | None = None
    planned: int = 0
    sent: int = 0
    unsent: int = 0
    came: int | None = None
    lost: int = 0
    late: int = 0
    refused: int = 0
    invalid: int = 0
    duplicate: int = 0
    connections: int | None = None
    connections_asked: int | None = None
    one_way: bool = False
    seconds: list[LiveSecond] = []
    latency: list[LiveLatency] = []
    hosts: list[LiveHost] = []
    search: LiveSearch | None = None


def live_folder(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The folder of what runs now: beside the store's file, or in the user's data folder; None: nothing is kept."""
    url = store_url(environment)
    if url is None:
        return None
    path = sqlite_path(url)
    if path is None:
        others = {name: value for name, value in environment.items() if name in ("HOME", "XDG_DATA_HOME")}
        path = sqlite_path(store_url(others) or "")
    return None if path is None else path.with_name(f"{path.name}.live")


def live_runs(folder: Path, now: Callable[[], float] = time.time) -> list[LiveRun]:
    """What runs now, the oldest first. Files that cannot be read are left out, those of dead processes removed."""
    found = []
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            with contextlib.suppress(OSError, msgspec.MsgspecError, UnicodeError, RecursionError):
                status = path.stat()
                age = now() - status.st_mtime
                if age > _REMOVED_S and path.suffix in (".json", ".new"):
                    path.unlink()
                elif path.suffix == ".json" and age <= _SILENT_S and status.st_size <= _LONGEST:
                    found.append(msgspec.json.decode(path.read_bytes(), type=LiveRun))
    return sorted(found, key=lambda run: (run.began_at, run.id))
