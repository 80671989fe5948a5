"""How full each resource was in one trial: a level, and from which level on it is saturated. Pure.

A measure is None where it was not read; 0 where it was, and nothing happened.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from flatout.analysis.troubles import busiest_share, share_of_load
from flatout.result.knee import Resource
from flatout.result.ledger import Place
from flatout.result.model import LoadResult, Trial
from flatout.result.thresholds import UNSENT_SHARE


class Measure(NamedTuple):
    """One resource. `what` names its level in words; the level is a share of 1, of time or of requests."""

    resource: Resource
    what: Callable[[LoadResult], str]
    level: Callable[[Trial], float | None]
    saturated_from: float


def _name(run: LoadResult) -> str:
    about = run.placement.target if run.placement else None
    return (about.command if about else "") or "the target"


def _generator(trial: Trial) -> float | None:
    """1 in a trial that this generator could not drive."""
    return float(trial.run_verdict == "generator-limited")


def _steal(trial: Trial) -> float | None:
    about = trial.contention
    if about is None or about.steal_s is None or about.elapsed_s <= 0:
        return None
    return about.steal_s / (about.elapsed_s * max(trial.host.cpus, 1))


def _throttled(trial: Trial) -> float | None:
    about = trial.contention
    known = [s for s in (about.throttled_s, about.target_throttled_s) if s is not None] if about else []
    return max(known) / about.elapsed_s if about and known and about.elapsed_s > 0 else None


def _softirq(trial: Trial) -> float | None:
    about = trial.contention
    if about is None or not about.softirq_s:
        return None
    return max(share_of_load(trial, seconds) for seconds in about.softirq_s.values())


def _one_thread(trial: Trial) -> float | None:
    """The busiest thread, where the target has more CPUs than that thread can use."""
    return busiest_share(trial)


def _all_cpus(trial: Trial) -> float | None:
    """The least busy CPU of the target's; unknown where a load thread that spins keeps one of them busy."""
    about, placement = trial.contention, trial.placement
    if about is None or about.target is None or placement is None or placement.target is None:
        return None
    if about.target.busy_threads < 2:
        return 0.0
    cpus = [str(cpu) for cpu in placement.target.cpus if cpu not in placement.cpus or cpu in placement.shared_cpus]
    shares = [share_of_load(trial, about.busy_s[cpu]) for cpu in cpus if cpu in about.busy_s]
    return min(shares) if shares else None


def _no_port(trial: Trial) -> float | None:
    about = trial.connections
    return about.no_port / max(about.opened, 1) if about else None


def _place(*places: Place) -> Callable[[Trial], float | None]:
    """The share of what was planned that ended at places; None where a line of them is blind, or without a ledger."""

    def level(trial: Trial) -> float | None:
        ledger = trial.ledger
        if ledger is None:
            return None
        lines = [line for line in ledger.lines if line.place in places]
        if lines and all(line.count is None for line in lines):
            return None
        return sum(line.count or 0 for line in lines) / max(trial.outcomes.planned, 1)

    return level


def _events(*places: Place) -> Callable[[Trial], float | None]:
    """The same of events of handshakes, as a share of attempts to connect; None without connections."""
    of_places = _place(*places)

    def level(trial: Trial) -> float | None:
        share = of_places(trial)
        if share is None or trial.connections is None:
            return None
        return share * max(trial.outcomes.planned, 1) / max(trial.connections.opened, 1)

    return level


def _said(text: str) -> Callable[[LoadResult], str]:
    return lambda _run: text


_LOST = UNSENT_SHARE
# Where two saturate at the same load the first here is named: what others follow from comes before them.
MEASURES: tuple[Measure, ...] = (
    Measure("steal", _said("CPU time that the hypervisor gave to others"), _steal, 0.02),
    Measure("CPU quota", _said("time taken by a CPU quota"), _throttled, 0.005),
    Measure("ephemeral ports", _said("connections without a port"), _no_port, _LOST),
    Measure("soft interrupts", _said("soft interrupts of the busiest CPU"), _softirq, 0.8),
    Measure("CPU", lambda run: f"the least busy CPU that {_name(run)} has", _all_cpus, 0.97),
    Measure("single thread", lambda run: f"CPU of {_name(run)}'s busiest thread", _one_thread, 0.95),
    Measure("generator", _said("trials that this generator could not drive"), _generator, 0.5),
    Measure("own queue", _said("dropped at this host's own queue"), _place("own_queue"), _LOST),
    Measure("queue (qdisc)", _said("dropped at a queue (qdisc)"), _place("qdisc"), _LOST),
    Measure("device", _said("dropped at a device"), _place("device", "device_ring"), _LOST),
    Measure("softnet backlog", _said("dropped at the softnet backlog"), _place("backlog"), _LOST),
    Measure("conntrack", _said("dropped by connection tracking"), _place("conntrack"), _LOST),
    Measure("socket memory", _said("dropped for want of socket memory"), _place("udp_memory"), _LOST),
    Measure("SYN queue", _said("SYN cookies and dropped SYNs"), _events("syn_queue", "syn_cookies"), _LOST),
    Measure("accept queue", _said("handshakes dropped at the accept queue"), _events("accept_queue"), _LOST),
    Measure("receive buffer", _said("dropped at the receive buffer"), _place("receive_buffer"), _LOST),
)
