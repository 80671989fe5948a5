"""Decides on which CPUs the threads of a load run, so that they leave those of the target alone. Pure but for `place`.

A load thread that spins takes its CPU whole. Where the target has threads confined to a CPU, or as many busy threads
as there are CPUs left, no CPU is free of it: then the CPUs are shared, and load threads yield instead of spinning.
How many of the target's threads will be busy is taken from the number of its sockets: servers have one for each worker.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from flatout.host import target as find_target
from flatout.host.target import Address, Target, Thread
from flatout.result.machine import Placement, PlacementTarget

_UNKNOWN = {
    "here": "the target is in this process, in a thread that is no server's of flatout",
    "elsewhere": "the target is not on this host",
    "hidden": "the target's process cannot be read: run as its user or as root to keep off its CPUs",
    "nobody": "no process of this host listens there",
}


def place(
    address: Address,
    port: int,
    *,
    scope: int = 0,
    stream: bool,
    threads: int,
    cpus: Sequence[int],
    share: bool = False,
) -> tuple[Placement, Target]:
    """Looks for the target on this host and decides. `cpus`: the user's choice; `share`: the target needs them too."""
    target = find_target.find(address, port, stream=stream, scope=scope)
    allowed = sorted(os.sched_getaffinity(0))
    return decide(target, allowed=allowed, threads=threads, chosen=cpus, share=share), target


def decide(
    target: Target, *, allowed: Sequence[int], threads: int, chosen: Sequence[int] = (), share: bool = False
) -> Placement:
    """The CPUs for so many load threads of those `allowed`; `chosen`: the user has named them."""
    if not target.threads:
        return Placement(cpus=list(chosen), why=_UNKNOWN.get(target.where, _UNKNOWN["nobody"]))
    about = _about(target)
    confined, may = _confined(target.threads), _all_cpus(target.threads)
    ours = list(chosen) or _apart(target, allowed, threads, confined, may)
    shared = sorted(set(chosen or allowed) & may)
    enough = len(ours) >= min(threads, len(chosen) or threads)
    if not shared or (enough and _leaves_room(target, ours, confined, may)):
        if not (share and shared):
            return Placement(target=about, cpus=ours, why=f"apart from {_named(about)}")
        why = f"shared with {_named(about)}, which waited for a CPU before: threads yield instead of spinning"
        return Placement(target=about, cpus=ours, shared_cpus=shared, why=why + _pin_it(about, ours))
    why = f"shared with {_named(about)}, so threads yield instead of spinning: {_remedy(chosen, allowed)}"
    return Placement(target=about, cpus=list(chosen), shared_cpus=shared, why=why)


def shared_after(placement: Placement, waited: float) -> Placement:
    """The placement once the target was seen to wait for CPUs, for a share of the time: shared."""
    about = placement.target
    if about is None:
        return placement
    cpus = sorted(set(about.cpus) & os.sched_getaffinity(0))
    why = f"shared with {_named(about)}, which waited {waited:.0%} of the warm-up for a CPU: threads yield"
    why = f"{why} instead of spinning{_pin_it(about, placement.cpus)}"
    return Placement(target=about, cpus=placement.cpus, shared_cpus=cpus, why=why)


def _apart(target: Target, allowed: Sequence[int], threads: int, confined: set[int], may: set[int]) -> list[int]:
    """The CPUs that suit best: where the target may not run, then where it ran least lately."""
    last = [thread.last_cpu for thread in target.threads]
    free = [cpu for cpu in allowed if cpu not in confined]
    return sorted(sorted(free, key=lambda cpu: (cpu in may, last.count(cpu), cpu))[:threads])


def _leaves_room(target: Target, ours: Iterable[int], confined: set[int], may: set[int]) -> bool:
    """Whether the target's busy threads have CPUs of their own."""
    taken = set(ours)
    if taken & confined:
        return False
    pinned = sum(len(thread.cpus) == 1 for thread in target.threads)
    floating = max(target.sockets - pinned, 0) if pinned else max(target.sockets, 1)
    return floating == 0 or len(may - taken - confined) >= min(floating, len(target.threads))


def _confined(threads: Iterable[Thread]) -> set[int]:
    return {thread.cpus[0] for thread in threads if len(thread.cpus) == 1}


def _all_cpus(threads: Iterable[Thread]) -> set[int]:
    return {cpu for thread in threads for cpu in thread.cpus}


def _about(target: Target) -> PlacementTarget:
    return PlacementTarget(
        pids=list(target.pids),
        command=target.command,
        threads=len(target.threads),
        sockets=target.sockets,
        cpus=sorted(_all_cpus(target.threads)),
        namespace="other" if target.where == "namespace" else "same",
    )


def _named(about: PlacementTarget) -> str:
    where = " in another network namespace" if about.namespace == "other" else ""
    return f"{about.command or 'the target'} (process {about.pids[0]}{where})"


def _pin_it(about: PlacementTarget, ours: Sequence[int]) -> str:
    """How to keep the scheduler from putting the target on the load threads' CPUs."""
    others = ",".join(str(cpu) for cpu in about.cpus if cpu not in ours)
    if not others:
        return ""
    return f" (to keep it apart: {'; '.join(f'taskset -acp {others} {pid}' for pid in about.pids)})"


def _remedy(chosen: Sequence[int], allowed: Sequence[int]) -> str:
    if chosen:
        return "choose other CPUs with --cpus"
    if len(allowed) == 1:
        return "this process may use one CPU only"
    return "keep the server on fewer CPUs (taskset, its own settings), or ask from a second host"
