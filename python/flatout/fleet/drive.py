"""One run over all hosts of a fleet: split, started at one moment, watched, merged.

The start is a moment of the scheduler's host, given to each host in its own time; the offsets of the clocks are
measured before and after. Results are moved to the scheduler's time before they are merged, so hosts whose clocks are
minutes apart add up. A host that is lost or stalls is named; what the others measured is kept, and the run is invalid.
"""

from __future__ import annotations

import datetime
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from flatout.errors import FlatoutError, GeneratorError, TargetError, UsageError
from flatout.fleet import worker
from flatout.fleet.clocks import ClockOffset, drifted
from flatout.fleet.cluster import MOST_ERROR_NS, Fleet, FleetHost
from flatout.fleet.progress import FleetProgress, short_names
from flatout.plan.resolve import AsTrial
from flatout.result.files import from_json
from flatout.result.merge import merge
from flatout.result.model import LoadResult, Node
from flatout.runner.progress import RunProgress
from flatout.scenario import streams
from flatout.scenario.model import Scenario

# From the order to the start: the way to the hosts, and their preparations.
_LEAD_S = 0.5
# The first run of a process loads and compiles more.
_FIRST_LEAD_S = 1.5
_LEAD_A_HOST_S = 0.005
# Connections may take longer to open than asked.
_OPENING_FACTOR = 1.3
_LOOK_S = 0.05
# A host whose part has not ended so long after all others' is taken for stalled.
_STALLED_S = 15.0
_ERRORS: dict[str, type[FlatoutError]] = {
    kind.__name__: kind for kind in (UsageError, TargetError, GeneratorError, FlatoutError)
}


class FleetRun:
    """Runs scenarios over a fleet, one after the other; hosts that were lost take no part in the next run."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._lost: set[str] = set()
        self._lead_s = _FIRST_LEAD_S

    def __call__(
        self,
        scenario: Scenario,
        progress: Callable[[RunProgress], None],
        stop: threading.Event,
        as_trial: AsTrial | None = None,
    ) -> LoadResult:
        """Runs a scenario, which is that of all hosts together.

        Errors: as `run`, with the host's name; FlatoutError where a host's clock is not known well enough.
        """
        hosts = [host for host in self._fleet.alive() if host.address not in self._lost]
        if not hosts:
            raise GeneratorError("no host of the fleet is left")
        _check(scenario, hosts)
        before = self._fleet.offsets(hosts)
        lead_s, self._lead_s = self._lead_s, _LEAD_S
        part = _Part(self._fleet, scenario, hosts, before, (as_trial, lead_s))
        results, missing = part.run(progress, stop)
        self._lost |= {host.address for host in missing}
        left = [host for host in hosts if host not in missing]
        after = self._fleet.offsets(left) if left else {}
        if not results:
            raise GeneratorError(f"no host of the fleet has a result: {_names(missing)} lost")
        return _merged(hosts, results, before, after, missing)


def _check(scenario: Scenario, hosts: list[FleetHost]) -> None:
    if scenario.node is not None or scenario.start_at is not None:
        raise UsageError("a fleet splits the load and sets its start: leave --node and --start-at out")
    if scenario.ping_pong:
        raise UsageError("ping-pong has one request under way: it is for one host")
    if scenario.log is not None:
        raise UsageError("each host of a fleet would write the log to its own disk: leave --log out")
    if scenario.askers < len(hosts):
        raise UsageError(f"{scenario.askers} flows or connections for {len(hosts)} hosts: ask for more of them")


class _Part:
    """One run in progress."""

    def __init__(
        self,
        fleet: Fleet,
        scenario: Scenario,
        hosts: list[FleetHost],
        offsets: dict[str, ClockOffset],
        how: tuple[AsTrial | None, float],
    ) -> None:
        self._fleet, self._hosts, self._name = fleet, hosts, uuid.uuid4().hex
        as_trial, lead_s = how
        lead_s += _LEAD_A_HOST_S * len(hosts) + _OPENING_FACTOR * streams.opening_s(scenario) / len(hosts)
        # The scheduler's time by this host's clock would need another offset: the first host's time leads to it.
        start_ns = fleet.now_ns() + round(lead_s * 1e9)
        trial = msgspec.json.encode(as_trial)
        self._futures = {}
        for n, host in enumerate(hosts, 1):
            start = start_ns + offsets[host.address].offset_ns
            own = msgspec.structs.replace(scenario, node=(n, len(hosts)), start_at=f"{start / 1e9:.9f}")
            self._futures[host.address] = fleet.client.submit(
                fleet.calls.measure,
                self._name,
                msgspec.json.encode(own),
                trial,
                workers=[host.address],
                allow_other_workers=False,
                pure=False,
                retries=0,
            )
        whole_s = lead_s + scenario.warmup_s + scenario.duration_s + scenario.timeout_s
        self._late_s = time.monotonic() + whole_s + _STALLED_S

    def run(
        self, progress: Callable[[RunProgress], None], stop: threading.Event
    ) -> tuple[dict[str, LoadResult], list[FleetHost]]:
        """Waits; returns the results by address, and the hosts without one."""
        with FleetProgress(self._fleet.client, self._name, short_names(self._hosts), progress):
            try:
                lost = self._wait(stop)
            except KeyboardInterrupt:
                stop.set()
                lost = self._wait(stop)
        done = {address: future for address, future in self._futures.items() if address not in lost}
        results = {address: _result(self._host(address), future) for address, future in done.items()}
        return results, [host for host in self._hosts if host.address in lost]

    def _host(self, address: str) -> FleetHost:
        return next(host for host in self._hosts if host.address == address)

    def _wait(self, stop: threading.Event) -> set[str]:
        """Until each part has ended or its host is gone; returns the addresses of those that are gone."""
        reported, lost = False, set[str]()
        while waiting := [one for one, future in self._futures.items() if one not in lost and not future.done()]:
            there = {host.address for host in self._fleet.alive()}
            gone = [one for one in waiting if one not in there or time.monotonic() > self._late_s]
            for address in gone:
                lost.add(address)
                self._futures[address].cancel(force=True)
            if (stop.is_set() or lost) and not reported:
                reported = True
                rest = [one for one in waiting if one not in lost]
                self._fleet.client.run(worker.stop, self._name, workers=rest, wait=False, on_error="ignore")
            time.sleep(_LOOK_S)
        # A worker that died made its part fail.
        return lost | {one for one, future in self._futures.items() if one not in lost and future.status != "finished"}


def _result(host: FleetHost, future: Any) -> LoadResult:
    data = future.result()
    head = msgspec.json.decode(data, type=dict[str, Any])
    if "error" in head:
        raise _ERRORS.get(head["error"], FlatoutError)(f"{host.name}: {head['text']}")
    result = from_json(data)
    assert isinstance(result, LoadResult)
    return result


def _merged(
    hosts: list[FleetHost],
    results: dict[str, LoadResult],
    before: dict[str, ClockOffset],
    after: dict[str, ClockOffset],
    missing: list[FleetHost],
) -> LoadResult:
    """One result, in the scheduler's time."""
    moved = {address: _moved(result, before[address]) for address, result in results.items()}
    whole = merge(list(moved.values()))
    first = min(_unix_ns(result) for result in moved.values())
    numbered = {n: host.address for n, host in enumerate(hosts, 1)}
    nodes = [_node(node, moved[numbered[node.node]], first, before[numbered[node.node]]) for node in whole.nodes]
    skew = max((node.start_late_ns or 0 for node in nodes), default=0)
    jumped = [host.name for host in hosts if host.address in after and _jumped(before, after, host.address)]
    late = [f"hosts began {skew / 1e6:.1f} ms apart; 1 ms is wanted"] if skew > MOST_ERROR_NS else []
    drift = [f"the clock of {name} was set or drifted by over 1 ms during the run" for name in jumped]
    whole = msgspec.structs.replace(whole, nodes=nodes, warnings=[*whole.warnings, *late, *drift])
    if missing:
        why = f"lost during the run: {_names(missing)}"
        whole = msgspec.structs.replace(whole, verdict="generator-limited", why=why)
    return whole


def _jumped(before: dict[str, ClockOffset], after: dict[str, ClockOffset], address: str) -> bool:
    return drifted(before[address], after[address]) > MOST_ERROR_NS


def _moved(result: LoadResult, offset: ClockOffset) -> LoadResult:
    """The result with the scheduler's time of its start, and without its own share's start."""
    moment = datetime.datetime.fromisoformat(result.started_at) - datetime.timedelta(
        microseconds=offset.offset_ns / 1e3
    )
    started_at = moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
    scenario = msgspec.structs.replace(result.scenario, start_at=None)
    return msgspec.structs.replace(result, started_at=started_at, scenario=scenario)


def _unix_ns(result: LoadResult) -> int:
    return round(datetime.datetime.fromisoformat(result.started_at).timestamp() * 1e6) * 1000


def _node(node: Node, result: LoadResult, first_ns: int, offset: ClockOffset) -> Node:
    return msgspec.structs.replace(
        node,
        clock_offset_ns=offset.offset_ns,
        clock_error_ns=offset.error_ns,
        start_late_ns=_unix_ns(result) - first_ns,
        lateness_p99_ns=result.lateness_ns.p99 if result.lateness_ns else None,
    )


def _names(hosts: list[FleetHost]) -> str:
    return ", ".join(host.name for host in hosts)
