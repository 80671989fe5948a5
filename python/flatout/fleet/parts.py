"""The parts of one run, one on each host: opened, started together once all stand, awaited.

The start is decided when the connections of all hosts are open: a moment of the scheduler's host a little ahead, told
to each host in its own time. The clocks' offsets are measured right before, so that a long opening lets none drift.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Set
from typing import Any

import msgspec

from flatout.errors import FlatoutError, GeneratorError, HostLost, TargetError, UsageError
from flatout.fleet import whole, worker
from flatout.fleet.clocks import ClockOffset
from flatout.fleet.cluster import Fleet, FleetHost
from flatout.fleet.progress import FleetProgress, short_names
from flatout.plan.resolve import AsTrial
from flatout.runner.ledger_of_hosts import HostPart
from flatout.runner.progress import RunProgress
from flatout.scenario import streams
from flatout.scenario.model import Scenario

# From the decision to the start: the way to the hosts.
_LEAD_S = 0.2
_LEAD_A_HOST_S = 0.002
_LOOK_S = 0.02
# A host that has not opened its connections, or not ended, so long after it should have is taken for stalled.
_STALLED_S = 15.0
_STOP_AGAIN_S = 1.0
_ERROR = b'{"error"'
_ERRORS: dict[str, type[FlatoutError]] = {
    kind.__name__: kind for kind in (UsageError, TargetError, GeneratorError, FlatoutError)
}


class Parts:
    """One run in progress.

    `start_ns`: when it began, by the scheduler's clock; None: not. `offsets`: each host's clock at the start. `lost`:
    why, by the address of a host without a result.
    """

    def __init__(self, fleet: Fleet, hosts: list[FleetHost], scenarios: list[Scenario]) -> None:
        self.start_ns: int | None = None
        self.offsets: dict[str, ClockOffset] = {}
        self.lost: dict[str, str] = {}
        self._fleet, self._hosts, self._name = fleet, hosts, uuid.uuid4().hex
        self._scenarios = {host.address: scenario for host, scenario in zip(hosts, scenarios, strict=True)}
        self._futures: dict[str, Any] = {}
        self._ended: dict[str, bytes] = {}
        self._broken_off = False
        one = scenarios[0]
        self._opening_s = streams.longest_opening_s(one) + _STALLED_S
        self._late_s = time.monotonic() + self._opening_s

    def run(
        self, as_trial: AsTrial | None, progress: Callable[[RunProgress], None], stop: threading.Event
    ) -> dict[str, HostPart]:
        """Runs them to their end; returns what was measured by address.

        Errors: as `run`, with the host's name; HostLost where hosts were lost before the start; FlatoutError
        where a host's clock is not known well enough.
        """
        names = short_names(self._hosts)
        watched = FleetProgress(self._fleet.client, self._name, names, progress)
        with watched:
            self._submit(msgspec.json.encode(as_trial))
            try:
                self._drive(watched, stop)
            except KeyboardInterrupt:
                stop.set()
                self._drive(watched, stop)
            except FlatoutError:
                self._broken_off = True
                self._until_ended(stop)
                raise
        results = {address: _part(names[address], self._host(address), data) for address, data in self._ended.items()}
        if self.lost and self.start_ns is None and not stop.is_set():
            why = "; ".join(f"{self._host(address).name} {text}" for address, text in self.lost.items())
            raise HostLost(f"the load has not begun: {why}")
        return results

    def _submit(self, as_trial: bytes) -> None:
        for host in self._hosts:
            self._futures[host.address] = self._fleet.client.submit(
                self._fleet.host_calls.measure,
                self._name,
                msgspec.json.encode(self._scenarios[host.address]),
                as_trial,
                # Its own limit, where nothing ever tells it the start.
                self._opening_s + 2 * _STALLED_S,
                workers=[host.address],
                allow_other_workers=False,
                pure=False,
                retries=0,
            )

    def _host(self, address: str) -> FleetHost:
        return next(host for host in self._hosts if host.address == address)

    def _drive(self, watched: FleetProgress, stop: threading.Event) -> None:
        if self.start_ns is None and self._all_stand(watched, stop):
            self._start()
        self._until_ended(stop)

    def _all_stand(self, watched: FleetProgress, stop: threading.Event) -> bool:
        """Waits until each host's connections are open or its part is over; returns whether the load may begin."""
        while not stop.is_set():
            standing = watched.standing()
            self._look("had not opened its flows or connections in time", standing)
            if self.lost or self._failed or not self._waiting():
                return False
            if standing.issuperset(self._waiting()):
                return True
            time.sleep(_LOOK_S)
        return False

    def _start(self) -> None:
        """Decides the start and tells it to all; a host that hears it too late begins late, which its result shows."""
        self.offsets = self._fleet.offsets(self._hosts)
        lead_s = _LEAD_S + _LEAD_A_HOST_S * len(self._hosts)
        self.start_ns = self._fleet.now_ns() + round(lead_s * 1e9)
        moments = {address: self.start_ns + offset.offset_ns for address, offset in self.offsets.items()}
        one = next(iter(self._scenarios.values()))
        whole_s = lead_s + one.warmup_s + one.duration_s + one.timeout_s
        self._late_s = time.monotonic() + whole_s + _STALLED_S
        self._fleet.tell(worker.begin_at, self._name, moments, to=list(moments))

    def _until_ended(self, stop: threading.Event) -> None:
        """Until each part has ended or its host is gone; the others then end early."""
        again_s = 0.0
        if self.start_ns is None:
            # Its time was that of opening.
            self._late_s = time.monotonic() + _STALLED_S
        while True:
            self._look("has no result in time")
            if not self._waiting():
                return
            early = stop.is_set() or self.lost or self._failed or self._broken_off
            if early and not again_s:
                self._late_s = min(self._late_s, time.monotonic() + _STALLED_S)
            # A part that has just come to its host may not have heard of it.
            if early and time.monotonic() >= again_s:
                again_s = time.monotonic() + _STOP_AGAIN_S
                running = [address for address in self._futures if address not in self._ended]
                self._fleet.tell(worker.stop, self._name, to=running)
            time.sleep(_LOOK_S)

    def _waiting(self) -> list[str]:
        return [one for one in self._futures if one not in self.lost and one not in self._ended]

    @property
    def _failed(self) -> bool:
        """Whether a part has ended with an error."""
        return any(data.startswith(_ERROR) for data in self._ended.values())

    def _look(self, stalled: str, excused: Set[str] = frozenset()) -> None:
        """Collects what has ended; notes hosts that are gone, and those not `excused` that have used up their time."""
        missing = self._fleet.missing()
        late = time.monotonic() > self._late_s
        for address in self._waiting():
            future = self._futures[address]
            if future.status == "finished":
                self._ended[address] = future.result(timeout=_STALLED_S)
            elif future.done():
                # Where the scheduler is gone all of them are.
                self._fleet.check()
                self.lost[address] = "died"
            elif address in missing or (late and address not in excused):
                self.lost[address] = missing.get(address, stalled)
                future.cancel(force=True)


def _part(name: str, host: FleetHost, data: bytes) -> HostPart:
    if data.startswith(_ERROR):
        error = msgspec.json.decode(data, type=dict[str, str])
        raise _ERRORS.get(error["error"], FlatoutError)(f"{host.name}: {error['text']}")
    return whole.part(name, data)
