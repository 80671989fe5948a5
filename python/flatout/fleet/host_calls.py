"""What is called on each host of a fleet. Tests of many hosts give others, which simulate a host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from flatout.fleet import clock_server, worker


class HostCalls(NamedTuple):
    """Functions that can be pickled, with the arguments and results of the default ones."""

    capabilities: Callable[..., Any] = worker.capabilities
    exchanges: Callable[..., Any] = clock_server.exchanges
    measure: Callable[..., Any] = worker.measure


HERE = HostCalls()
