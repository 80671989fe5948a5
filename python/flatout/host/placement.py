"""Decides on which CPUs the threads of a load run, so that they leave those of the target alone. Pure but for `place`.

A load thread that spins takes its CPU whole. Where the target has threads confined to a CPU, or as many busy threads
as there are CPUs left, no CPU is free of it: then the CPUs are shared, and load threads yield instead of spinning.
How many of the target's threads will be busy is taken from the number of its sockets: servers have one for each worker.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import msgspec

from flatout.host import target as find_target
from flatout.host.target import Address, Target, Thread
from flatout.result.machine import Placement, PlacementTarget

_UNKNOWN = {
    "here": "the target is in this process, in a thread that is no server's of flatout",
    "elsewhere": "the target is not on this host, as far as this process can see",
    "hidden": "the process that holds the target's socket cannot be seen from here (another user's, or outside this "
    "container): run as its user or as root, outside of containers",
    "nobody": "no socket of this host is bound there (a port that is forwarded, as into a container, is not followed)",
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
    careful: bool = False,
) -> tuple[Placement, Target]:
    """Looks for the target on this host and decides.

    cpus: the user's choice. share: the target needs them too. careful: load threads must not keep a target of this host
    that cannot be seen from its CPUs.
    """
    target = find_target.find(address, port, stream=stream, scope=scope)
    allowed = sorted(os.sched_getaffinity(0))
    return decide(target, allowed=allowed, threads=threads, chosen=cpus, share=share, careful=careful), target


def decide(
    target: Target,
    *,
    allowed: Sequence[int],
    threads: int,
    chosen: Sequence[int] = (),
    share: bool = False,
    careful: bool = False,
) -> Placement:
    """The CPUs for so many load threads of those `allowed`; `chosen`: the user has named them."""
    if not target.threads:
        # Who names CPUs knows that the target does not need them.
        yields = target.where in ("hidden", "nobody") and not chosen and (careful or len(allowed) <= threads)
        return _unseen(target, chosen, list(allowed) if yields else [])
    about = _about(target)
    confined, may = _confined(target.threads), _all_cpus(target.threads)
    ours = list(chosen) or _apart(target, allowed, threads, confined, may)
    shared = sorted(set(chosen or allowed) & may)
    enough = len(ours) >= min(threads, len(chosen) or threads)
    if not shared or (enough and _leaves_room(target, ours, confined, may)):
        shared = sorted(set(ours) & may)
        if not (share and shared):
            return Placement(target=about, cpus=ours, why=f"apart from {about.name}", where=target.where)
        why = f"shared with {about.name}, which waited for a CPU before: threads yield instead of spinning"
        why += _pin_it(about, ours)
        return Placement(target=about, cpus=ours, shared_cpus=shared, why=why, where=target.where)
    why = f"shared with {about.name}, so threads yield instead of spinning: {_remedy(chosen, allowed)}"
    return Placement(target=about, cpus=list(chosen), shared_cpus=shared, why=why, where=target.where)


def _unseen(target: Target, chosen: Sequence[int], shared: list[int]) -> Placement:
    """Where nothing is known of the target's threads; `shared`: the CPUs that it may need."""
    why = _UNKNOWN.get(target.where, _UNKNOWN["nobody"])
    if shared:
        why = f"perhaps shared with the target, so threads yield instead of spinning: {why}"
    return Placement(cpus=list(chosen), shared_cpus=shared, why=why, where=target.where)


def shared_after(placement: Placement, waited: float, window_s: float) -> Placement:
    """The placement once the target was seen to wait for CPUs, for a share of some time: shared, if it can be."""
    about = placement.target
    cpus = load_cpus(placement) & set(about.cpus) if about else set()
    if about is None or not cpus:
        return placement
    why = f"shared with {about.name}, which in the warm-up waited for a CPU for {waited:.0%} of {window_s:.1f} s: "
    why += f"threads yield instead of spinning{_pin_it(about, placement.cpus)}"
    return msgspec.structs.replace(placement, shared_cpus=sorted(cpus), why=why)


def load_cpus(placement: Placement) -> set[int]:
    """The CPUs that load threads may run on."""
    return set(placement.cpus) or os.sched_getaffinity(0)


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
