"""What runs in the scheduler's process: which command drives the fleet, and how long each worker has been silent."""

from __future__ import annotations

import time
from typing import Any

# A client reports to its scheduler every 5 s; one that was cut off may still have work on the hosts.
_SILENT_S = 30.0

# The client that drives, and what it said of itself.
_held: dict[str, str] = {}


def take(client: str, owner: str, dask_scheduler: Any = None) -> str | None:
    """Takes the fleet for a client, whose id this is, as long as that lives; returns the owner that it has instead."""
    for other, text in _held.items():
        if other != client and _lives(other, dask_scheduler):
            return text
    _held.clear()
    _held[client] = owner
    return None


def _lives(client: str, scheduler: Any) -> bool:
    """Whether its connection stands and it reported lately."""
    known = scheduler.clients.get(client)
    return known is not None and time.time() - known.last_seen < _SILENT_S


def silent(dask_scheduler: Any = None) -> dict[str, float]:
    """For how many s each worker that is connected has not reported, by its address."""
    now = time.time()
    return {address: now - worker.last_seen for address, worker in dask_scheduler.workers.items()}
