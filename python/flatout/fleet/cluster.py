"""Connects to a fleet: a Dask scheduler by address or file, or some workers of this host."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from flatout.errors import ArgumentError, FlatoutError, TargetError, UsageError
from flatout.fleet import clock_server
from flatout.fleet.clocks import ClockOffset, Exchange, clock_offset
from flatout.fleet.host_calls import HERE, HostCalls
from flatout.fleet.worker import Capabilities
from flatout.host.describe import VERSION

_LOCAL = re.compile(r"local:(\d{1,3})")
_CONNECT_S = 10.0
# Hosts that do not answer within so long hang.
_ASK_S = 10.0
_ASK_ONE_S = 2.0
# A worse known clock cannot start within a millisecond.
MOST_ERROR_NS = 1_000_000


class FleetHost(msgspec.Struct, frozen=True, kw_only=True):
    """A Dask worker that drives its host's part of a load."""

    address: str
    capabilities: Capabilities

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.capabilities.hostname} ({self.address})"


@contextlib.contextmanager
def connected(where: str) -> Iterator[Fleet]:
    """The fleet behind a scheduler's address, a scheduler file, or `local:N`.

    Errors: UsageError for a text that is none of them and without the extra; TargetError where no scheduler answers, or
    it has no workers.
    """
    try:
        import distributed
    except ModuleNotFoundError as error:
        raise UsageError("a fleet needs the extra: pip install 'flatout[fleet]'") from error
    local = _LOCAL.fullmatch(where)
    try:
        if local:
            with _local(distributed, int(local[1])) as cluster, distributed.Client(cluster) as client:
                yield Fleet(client)
            return
        given = {"scheduler_file": where} if Path(where).is_file() else {"address": _address(where)}
        with distributed.Client(**given, timeout=_CONNECT_S) as client:
            yield Fleet(client)
    except (OSError, TimeoutError) as error:
        raise TargetError(f"the scheduler '{where}' does not answer: {error}") from error


def _address(where: str) -> str:
    if not re.fullmatch(r"(tcp|tls)://.+:\d+|[^/\s]+:\d+", where):
        raise ArgumentError("fleet", f"={where!r}: give tcp://HOST:PORT of a Dask scheduler, its file, or local:N")
    return where


def _local(distributed: Any, workers: int) -> Any:
    if not 1 <= workers <= 200:
        raise ArgumentError("fleet", f"=local:{workers}: give 1 to 200 workers")
    return distributed.LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    )


class Fleet:
    """The hosts of a cluster, in a fixed order."""

    def __init__(self, client: Any, calls: HostCalls = HERE) -> None:
        """Errors: TargetError without workers, FlatoutError for one with another version of flatout."""
        self.client, self.calls = client, calls
        found = client.run(calls.capabilities, on_error="return")
        self.hosts = [_host(address, reported) for address, reported in sorted(found.items())]
        if not self.hosts:
            raise TargetError("the scheduler has no workers: start `dask worker` on each host")
        self._check_versions()
        self._clock_host = urlsplit(client.scheduler.address).hostname or "127.0.0.1"
        self._clock_port = client.run_on_scheduler(clock_server.start, self._clock_host)

    def _check_versions(self) -> None:
        for host in self.hosts:
            if host.capabilities.flatout != VERSION:
                raise FlatoutError(f"{host.name} has flatout {host.capabilities.flatout}, and this host {VERSION}")

    def alive(self) -> list[FleetHost]:
        """Those whose worker is still there."""
        there = set(self.client.run_on_scheduler(_addresses))
        return [host for host in self.hosts if host.address in there]

    def now_ns(self) -> int:
        """Unix time of the scheduler's host, some ms ago."""
        reported: int = self.client.run_on_scheduler(time.time_ns)
        return reported

    def offsets(self, hosts: list[FleetHost]) -> dict[str, ClockOffset]:
        """Each host's clock against the scheduler's host. Errors: FlatoutError, by name, where it is not known well."""
        try:
            asked = self._exchanges(hosts, _ASK_S)
        except TimeoutError:
            asked = {}
            for host in hosts:
                # Which of them it is: the others answer at once.
                with contextlib.suppress(TimeoutError):
                    asked |= self._exchanges([host], _ASK_ONE_S)
        return {host.address: _offset(host, asked.get(host.address)) for host in hosts}

    def _exchanges(self, hosts: list[FleetHost], within_s: float) -> dict[str, Any]:
        asked: dict[str, Any] = self.client.run(
            self.calls.exchanges,
            self._clock_host,
            self._clock_port,
            workers=[host.address for host in hosts],
            on_error="return",
            callback_timeout=within_s,
        )
        return asked

    def tell(self, function: Callable[..., Any], *arguments: Any, to: list[str]) -> None:
        """Calls a function on those hosts' event loops; waits for none of them, as one may hang."""
        how = {"workers": to, "wait": False, "on_error": "ignore"}
        threading.Thread(
            target=self._tell, args=(function, *arguments), kwargs=how, name="flatout-tell", daemon=True
        ).start()

    def _tell(self, *what: Any, **how: Any) -> None:
        # A host that is gone is noticed elsewhere; the client may be closed before the call ends.
        with contextlib.suppress(Exception):
            self.client.run(*what, **how)


def _addresses(dask_scheduler: Any = None) -> list[str]:
    """Of the scheduler's workers. The client's `scheduler_info` may be that of another call, without workers."""
    return list(dask_scheduler.workers)


def _host(address: str, reported: Any) -> FleetHost:
    if isinstance(reported, BaseException):
        raise FlatoutError(f"the worker {address} cannot run flatout: {reported}")
    return FleetHost(address=address, capabilities=msgspec.convert(reported, Capabilities))


def _offset(host: FleetHost, asked: Any) -> ClockOffset:
    if not isinstance(asked, list) or not asked:
        raise FlatoutError(f"{host.name} gets no time from the scheduler's host over UDP: its clock is unknown")
    found = clock_offset([Exchange(*one) for one in asked])
    if found.error_ns > MOST_ERROR_NS:
        raise FlatoutError(f"the clock of {host.name} is known to {found.error_ns / 1e6:.1f} ms only: 1 ms is needed")
    return found
