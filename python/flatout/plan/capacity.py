"""What this host has to give: CPUs, source ports, descriptors, memory. Said before anything is sent, with the remedy.

Method: the kernel's own numbers are read from /proc; what is asked is compared with them. Nothing is changed here.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from flatout import arguments
from flatout._engine import kernel
from flatout.errors import UsageError
from flatout.plan import targets
from flatout.scenario.model import Scenario

# Python, its libraries, pipes and the log need some of their own.
_OTHER_DESCRIPTORS = 64
# The most that Linux gives a process unless fs.nr_open is raised.
_MOST_DESCRIPTORS = 1 << 20
# What the kernel keeps for one end of an established connection that is mostly idle.
BYTES_PER_END = 5 * 1024
_WARN_SHARE = 0.6
_MOST_SEARCHED = 100_000


class Room(NamedTuple):
    """What this host has to give. `files`: descriptors that a process may hold; `memory`: bytes available."""

    ports: int
    files: int
    memory: int | None
    io_uring: bool


def room() -> Room:
    """As the kernel says now."""
    return Room(local_ports(), descriptors(), _available_memory(), kernel()["uring"])


def local_ports() -> int:
    """How many ports the kernel gives out for each source address."""
    try:
        low, high = _read("/proc/sys/net/ipv4/ip_local_port_range").split()
        return int(high) - int(low) + 1
    except (OSError, ValueError):
        return 28_232


def descriptors() -> int:
    """How many sockets this process may hold as descriptors."""
    return max(_hard_limit() - _OTHER_DESCRIPTORS, 0)


def _hard_limit() -> int:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return _MOST_DESCRIPTORS if limit == resource.RLIM_INFINITY else limit


def _read(path: str) -> str:
    return Path(path).read_text(encoding="ascii")


def _available_memory() -> int | None:
    try:
        lines = _read("/proc/meminfo").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration, IndexError):
        return None


def cpus_of(wanted: Iterable[int] | str) -> tuple[int, ...]:
    """CPUs to keep threads on, of numbers or text such as "0-3,6". Errors: UsageError where they cannot be had."""
    cpus = arguments.cpus("cpus", wanted)
    allowed = os.sched_getaffinity(0)
    if missing := set(cpus) - allowed:
        raise UsageError(f"CPUs {sorted(missing)} are not among those this process may use: {sorted(allowed)}")
    return cpus


def loopback_sources(connections: int, nodes: int, endpoint: targets.Endpoint, room: Room) -> tuple[str, ...]:
    """A network to send from where one address has too few ports and the target is this host, else none.

    Each address gives out half its ports at most: with more the kernel looks long for a free one.
    """
    each = max(room.ports // 2, 1)
    if endpoint.address.version != 4 or not endpoint.address.is_loopback or connections <= each:
        return ()
    addresses = -(-connections // each) * nodes
    return (f"127.0.0.0/{32 - (addresses + 1).bit_length()}",)


def shares_sockets(flows: int, sources: int, room: Room) -> bool:
    """Whether datagram flows are more than descriptors, and have source addresses by which sockets can be shared."""
    return flows > room.files and sources > 1


def shared_sockets(flows: int, sources: int, threads: int) -> int:
    """How many sockets then carry the flows: on each there is one flow for each source address of the thread."""
    return threads * -(-flows // max(sources, 1))


def check_ports(connections: int, sources: int, room: Room, *, what: str) -> None:
    """Errors: UsageError where there are more `what` than ports."""
    ports = room.ports * max(sources, 1)
    if connections > ports:
        raise UsageError(
            f"{connections:,} {what} need as many source ports, and there are {ports:,}: name more source addresses "
            "with --sources NET (127.0.0.0/24 for a target on loopback), or widen net.ipv4.ip_local_port_range"
        )


def check_files(connections: int, scenario: Scenario, room: Room, *, what: str) -> None:
    """Errors: UsageError where there are more `what` than descriptors; with io_uring the limit holds for each ring."""
    by_ring = scenario.streams and scenario.io != "epoll" and room.io_uring
    if scenario.streams and scenario.io == "io_uring" and not room.io_uring:
        return  # The engine refuses it before anything is sent, with the kernel's reason.
    if not by_ring and connections > room.files:
        fewer = [f"ask for fewer {what}"] if room.files else []
        ring = ["or --io io_uring, whose sockets need none"] if scenario.streams and room.io_uring else []
        raise UsageError(
            f"{connections:,} {what} need as many descriptors, and this process may hold {room.files:,} beside "
            f"flatout's own {_OTHER_DESCRIPTORS}: "
            + ", ".join([*fewer, "raise the hard limit (ulimit -Hn, systemd's LimitNOFILE)", *ring])
        )
    free = _free_files()
    # The kernel does not apply it to processes that may raise it.
    if free is not None and connections > free and os.geteuid() != 0:
        raise UsageError(f"{connections:,} {what}, and this host has only {free:,} files left: raise fs.file-max")


def _free_files() -> int | None:
    try:
        used, _, most = map(int, _read("/proc/sys/fs/file-nr").split())
    except (OSError, ValueError):
        return None
    return max(most - used, 0)


def check_memory(connections: int, endpoint: targets.Endpoint, room: Room) -> str | None:
    """What to say of the kernel memory that they will take. Errors: UsageError where it is not there."""
    if room.memory is None:
        return None
    ends = 2 if endpoint.address.is_loopback else 1
    needed = connections * ends * BYTES_PER_END
    reported = (
        f"{connections:,} connections take about {needed / 2**30:.1f} GiB of kernel memory"
        f"{' (both ends are on this host)' if ends == 2 else ''}, and {room.memory / 2**30:.1f} GiB are available"
    )
    if needed > room.memory:
        raise UsageError(f"{reported}: ask for fewer connections")
    return reported if needed > _WARN_SHARE * room.memory else None


def most_connections(scenario: Scenario, endpoint: targets.Endpoint, room: Room) -> int:
    """How many a search may try unless told: what ports, descriptors and memory allow."""
    found = targets.sources(scenario.sources, _MOST_SEARCHED)
    unbounded = not found and bool(loopback_sources(room.ports, 1, endpoint, room))
    bounds = [_MOST_SEARCHED, _MOST_SEARCHED if unbounded else room.ports * max(len(found), 1)]
    if scenario.io == "epoll" or not room.io_uring:
        bounds.append(room.files)
    if room.memory is not None:
        ends = 2 if endpoint.address.is_loopback else 1
        bounds.append(int(_WARN_SHARE * room.memory) // (ends * BYTES_PER_END))
    return max(min(bounds) - scenario.hold, 2)
