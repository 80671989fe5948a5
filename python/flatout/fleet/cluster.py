"""Connects to a fleet: a Dask scheduler by address or file, or some workers of this host."""

from __future__ import annotations

import contextlib
import getpass
import logging
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from flatout.errors import ArgumentError, FlatoutError, GeneratorError, GeneratorLost, TargetError, UsageError
from flatout.fleet import at_scheduler, clock_server, worker
from flatout.fleet.clocks import ClockOffset, Exchange, clock_offset
from flatout.fleet.host_calls import HERE, HostCalls
from flatout.fleet.worker import Capabilities
from flatout.host.describe import VERSION

_LOCAL = re.compile(r"local:(\d{1,3})")
_NO_MODULE = re.compile(r"No module named '([\w.]+)'")
_CONNECT_S = 10.0
_LOGGERS = ("distributed", "distributed.client", "distributed.core", "distributed.worker", "tornado.application")
# Dask itself waits for ever for a scheduler that hangs.
_ANSWER_S = 15.0
# A worker reports to its scheduler twice a second; of a thousand each every 6 s.
_SILENT_S, _SILENT_S_A_HOST = 6.0, 0.05
# Each time is a line in the scheduler's log.
_LOOK_S = 1.0
_INSTALL = "install flatout[fleet] {} in its environment (pip install 'flatout[fleet]=={}'), and start it again there"
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
            with _without_logs(), _local(distributed, int(local[1])) as cluster, distributed.Client(cluster) as client:
                yield Fleet(client)
            return
        given = {"scheduler_file": where} if Path(where).is_file() else {"address": _address(where)}
        with _without_logs(), distributed.Client(**given, timeout=_CONNECT_S) as client:
            yield Fleet(client)
    except (OSError, TimeoutError) as error:
        raise TargetError(f"the scheduler '{where}' does not answer: {error}") from error


@contextlib.contextmanager
def _without_logs() -> Iterator[None]:
    """Dask logs tracebacks of what is raised here in plain words."""
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    for name in levels:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _address(where: str) -> str:
    if not re.fullmatch(r"(tcp|tls)://.+:\d+|[^/\s]+:\d+", where):
        raise ArgumentError("fleet", f"={where!r}: give tcp://HOST:PORT of a Dask scheduler, its file, or local:N")
    return where


def _local(distributed: Any, workers: int) -> Any:
    if not 1 <= workers <= 200:
        raise ArgumentError("fleet", f"=local:{workers}: give 1 to 200 workers")
    return distributed.LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        dashboard_address=None,
        host="127.0.0.1",
        memory_limit=0,
    )


class Fleet:
    """The hosts of a cluster, in a fixed order, which this process alone drives."""

    def __init__(self, client: Any, calls: HostCalls = HERE) -> None:
        """Errors: UsageError where another process drives it, TargetError without workers.

        FlatoutError for a worker without flatout or with another version.
        """
        self.client, self.host_calls = client, calls
        self._missing: dict[str, str] = {}
        self._looked_s = float("-inf")
        self._take()
        found = self._of_workers(calls.capabilities)
        self.hosts = [_host(address, reported) for address, reported in sorted(found.items())]
        if not self.hosts:
            raise TargetError("the scheduler has no workers: start `dask worker` on each host")
        # What a command that was killed has left there would go on until its end.
        self._of_workers(worker.stop_all)
        self._clock_host = urlsplit(client.scheduler.address).hostname or "127.0.0.1"
        self._clock_port = self._asked(lambda: client.run_on_scheduler(clock_server.start, self._clock_host))

    def _take(self) -> None:
        owner = f"{getpass.getuser()}@{os.uname().nodename}, process {os.getpid()}, since {time.strftime('%H:%M:%S')}"
        try:
            driven = self._asked(lambda: self.client.run_on_scheduler(at_scheduler.take, self.client.id, owner))
        except Exception as error:
            if absent := _NO_MODULE.search(str(error)):
                raise FlatoutError(f"the scheduler's Python has no {absent[1]}: {_install()}") from error
            raise
        if driven is not None:
            raise UsageError(f"this fleet is driven by {driven}: wait until that has ended, or use another scheduler")

    def _asked(self, call: Callable[[], Any]) -> Any:
        """What a call through the scheduler returns. Errors: GeneratorLost where it does not in 15 s, or is gone."""
        found: queue.Queue[tuple[bool, Any]] = queue.Queue(1)

        def ask() -> None:
            try:
                found.put((True, call()))
            except BaseException as error:
                found.put((False, error))

        threading.Thread(target=ask, name="flatout-ask", daemon=True).start()
        try:
            good, value = found.get(timeout=_ANSWER_S)
        except queue.Empty:
            raise GeneratorLost(f"the fleet's scheduler has not answered for {_ANSWER_S:.0f} s") from None
        self.check()
        if good:
            return value
        if isinstance(value, OSError | TimeoutError):
            raise GeneratorLost(f"the fleet's scheduler does not answer any more: {value}") from value
        raise value

    def _of_workers(self, function: Callable[[], Any]) -> dict[str, Any]:
        """What a function returns on each. Errors: FlatoutError, with the addresses of those that hang."""
        how = {"on_error": "return", "callback_timeout": _ASK_S}
        try:
            found: dict[str, Any] = self.client.run(function, **how)
        except TimeoutError as error:
            silent = self._asked(lambda: self.client.run_on_scheduler(at_scheduler.silent))
            hanging = [address for address, silent_s in sorted(silent.items()) if silent_s > _ASK_S / 2]
            named = f"no answer from {', '.join(hanging)}" if hanging else "not all of them answer"
            raise GeneratorError(f"workers of the fleet hang: {named} for {_ASK_S:.0f} s") from error
        self.check()
        return found

    def check(self) -> None:
        """Errors: GeneratorLost where the connection to the scheduler is lost, and with it all that runs."""
        if self.client.status != "running":
            raise GeneratorLost("the fleet's scheduler is gone, or the network to it")

    def missing(self) -> dict[str, str]:
        """Why, of each worker's address that cannot be used any more; as of a second ago."""
        if time.monotonic() - self._looked_s >= _LOOK_S:
            silent = self._asked(lambda: self.client.run_on_scheduler(at_scheduler.silent))
            most_s = _SILENT_S + _SILENT_S_A_HOST * len(self.hosts)
            found = {host.address: _why_missing(silent.get(host.address), most_s) for host in self.hosts}
            self._missing = {address: why for address, why in found.items() if why}
            self._looked_s = time.monotonic()
        return self._missing

    def alive(self) -> list[FleetHost]:
        """Those whose worker is there and reports."""
        missing = self.missing()
        return [host for host in self.hosts if host.address not in missing]

    def now_ns(self) -> int:
        """Unix time of the scheduler's host, some ms ago."""
        reported: int = self._asked(lambda: self.client.run_on_scheduler(time.time_ns))
        return reported

    def offsets(self, hosts: list[FleetHost]) -> dict[str, ClockOffset]:
        """Each host's clock against the scheduler's host. Errors: FlatoutError, by name, where it is not known well."""
        try:
            asked = self._exchanges(hosts, _ASK_S)
        except TimeoutError:
            asked = {}
            # Where it is the scheduler that hangs this says so.
            self.missing()
            for host in hosts:
                # Which of them it is: the others answer at once.
                with contextlib.suppress(TimeoutError):
                    asked |= self._exchanges([host], _ASK_ONE_S)
        self.check()
        return {host.address: _offset(host, asked.get(host.address)) for host in hosts}

    def _exchanges(self, hosts: list[FleetHost], within_s: float) -> dict[str, Any]:
        asked: dict[str, Any] = self.client.run(
            self.host_calls.exchanges,
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


def _why_missing(silent_s: float | None, most_s: float) -> str:
    if silent_s is None:
        return "is gone"
    return f"stands still: no word for {silent_s:.0f} s" if silent_s > most_s else ""


def _install() -> str:
    return _INSTALL.format(VERSION, VERSION)


def _host(address: str, reported: Any) -> FleetHost:
    if isinstance(reported, BaseException):
        # Dask hands on what could not be unpickled as another error's text.
        if absent := _NO_MODULE.search(str(reported)):
            raise FlatoutError(f"the Python of worker {address} has no {absent[1]}: {_install()}")
        raise FlatoutError(f"the worker {address} cannot run flatout: {reported}")
    version = reported.get("flatout")
    if version != VERSION:
        name = f"{reported.get('hostname')} ({address})"
        raise FlatoutError(f"{name} has flatout {version}, and this host {VERSION}: {_install()}")
    return FleetHost(address=address, capabilities=msgspec.convert(reported, Capabilities))


def _offset(host: FleetHost, asked: Any) -> ClockOffset:
    if not isinstance(asked, list) or not asked:
        raise FlatoutError(f"{host.name} gets no time from the scheduler's host over UDP: its clock is unknown")
    found = clock_offset([Exchange(*one) for one in asked])
    if found.error_ns > MOST_ERROR_NS:
        raise FlatoutError(f"the clock of {host.name} is known to {found.error_ns / 1e6:.1f} ms only: 1 ms is needed")
    return found
