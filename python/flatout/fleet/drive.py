"""One run over all hosts of a fleet: split, started at one moment, watched, merged.

The start is a moment of the scheduler's host, told to each host in its own time once all are ready (`parts.py`); the
clocks' offsets are measured before and after. Results are moved to the scheduler's time before they are merged, so
hosts whose clocks are minutes apart add up. A host that is lost or stalls is named; what the others measured is kept,
and the run is invalid.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import msgspec

from flatout.errors import GeneratorError, GeneratorLost, UsageError
from flatout.fleet import common_time, whole
from flatout.fleet.clocks import ClockOffset, drifted
from flatout.fleet.cluster import MOST_ERROR_NS, Fleet, FleetHost
from flatout.fleet.parts import Parts
from flatout.fleet.split import split
from flatout.plan.resolve import AsTrial
from flatout.result.merge import merge
from flatout.result.model import LoadResult, Node
from flatout.runner.progress import RunProgress
from flatout.scenario.model import Scenario


class FleetRun:
    """Runs scenarios over a fleet, one after the other; hosts that were lost take no part in the next run."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._lost: set[str] = set()

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
        hosts = self._left()
        _check(scenario, hosts)
        parts = Parts(self._fleet, hosts, split(scenario, hosts))
        with whole.watched(scenario, as_trial, len(hosts), progress) as watched:
            try:
                measured = parts.run(as_trial, watched, stop)
            finally:
                self._lost |= parts.lost.keys()
        missing = [host for host in hosts if host.address in parts.lost]
        left = [host for host in hosts if host not in missing]
        after = self._fleet.offsets(left) if left and parts.offsets else {}
        if not measured:
            raise GeneratorError(f"no host of the fleet has a result: {_names(missing, parts.lost)}")
        found = whole.with_findings(list(measured.values()))
        results = {address: one.result for address, one in zip(measured, found, strict=True)}
        return whole.explained(_merged(hosts, results, parts, after), found, watched.sampled)

    def check(self, scenario: Scenario) -> None:
        """Errors: UsageError for what this fleet cannot drive, GeneratorLost without a host."""
        hosts = self._left()
        _check(scenario, hosts)
        split(scenario, hosts)

    def _left(self) -> list[FleetHost]:
        hosts = [host for host in self._fleet.alive() if host.address not in self._lost]
        if not hosts:
            raise GeneratorLost("no host of the fleet is left")
        return hosts


def _check(scenario: Scenario, hosts: list[FleetHost]) -> None:
    if scenario.node is not None or scenario.start_at is not None:
        raise UsageError("a fleet splits the load and sets its start: leave --node and --start-at out")
    if scenario.ping_pong:
        raise UsageError("ping-pong has one request under way: it is for one host")
    if scenario.log is not None:
        raise UsageError("each host of a fleet would write the log to its own disk: leave --log out")
    if scenario.askers < len(hosts):
        raise UsageError(f"{scenario.askers} flows or connections for {len(hosts)} hosts: ask for more of them")


def _merged(
    hosts: list[FleetHost],
    results: dict[str, LoadResult],
    parts: Parts,
    after: dict[str, ClockOffset],
) -> LoadResult:
    """One result, in the scheduler's time."""
    before, missing = parts.offsets, [host for host in hosts if host.address in parts.lost]
    moved = common_time.moved(results, before, parts.start_ns)
    together = merge(list(moved.values()))
    first = min(common_time.unix_ns(result) for result in moved.values())
    numbered = {n: host.address for n, host in enumerate(hosts, 1)}
    nodes = [_node(node, moved[numbered[node.node]], first, before.get(numbered[node.node])) for node in together.nodes]
    skew = max((node.start_late_ns or 0 for node in nodes), default=0)
    jumped = [host.name for host in hosts if host.address in after and _jumped(before, after, host.address)]
    late = [f"hosts began {skew / 1e6:.1f} ms apart; 1 ms is wanted"] if skew > MOST_ERROR_NS else []
    drift = [f"the clock of {name} was set or drifted by over 1 ms during the run" for name in jumped]
    together = msgspec.structs.replace(together, nodes=nodes, warnings=[*together.warnings, *late, *drift])
    if missing:
        why = f"lost during the run: {_names(missing, parts.lost)}"
        lost = [host.name for host in missing]
        together = msgspec.structs.replace(together, verdict="generator-limited", why=why, lost_hosts=lost)
    return together


def _jumped(before: dict[str, ClockOffset], after: dict[str, ClockOffset], address: str) -> bool:
    return drifted(before[address], after[address]) > MOST_ERROR_NS


def _node(node: Node, result: LoadResult, first_ns: int, offset: ClockOffset | None) -> Node:
    return msgspec.structs.replace(
        node,
        clock_offset_ns=None if offset is None else offset.offset_ns,
        clock_error_ns=None if offset is None else offset.error_ns,
        start_late_ns=common_time.unix_ns(result) - first_ns,
        lateness_p99_ns=result.lateness_ns.p99 if result.lateness_ns else None,
    )


def _names(hosts: list[FleetHost], reasons: dict[str, str]) -> str:
    return ", ".join(f"{host.name} {reasons[host.address]}" for host in hosts)
