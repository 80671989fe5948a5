"""Sysctls and limits that matter for an aim: what is wanted of each, why, and what that risks. Data only.

A new setting is one entry here.
"""

from __future__ import annotations

from flatout.host.tuning.aim import Aim, Machine
from flatout.host.tuning.rules import AtLeast, OneOf, Rule, Spanning
from flatout.host.tuning.tunable import Tunable, Wanted, between, power_of_two, sysctl

LIMITS = "/proc/self/limits"
# What the kernel charges a receive buffer for a datagram of up to 128 bytes (6.18, loopback).
_CHARGE = 832
# For how long a reader may be off its CPU without a loss.
_STALL_S = 0.02
_USUAL_RATE = 100_000.0
# The alternative to NOTRACK that tcpscaler gives.
_TRACKED = 1_000_000
# From so many on-link neighbours on the kernel's table of them is too small.
_NEIGHBOURS = 1000


# --- What is wanted, by aim ---


def _files(share: float, more: int) -> Wanted:
    def rule(aim: Aim, _: Machine, __: str) -> Rule | None:
        return AtLeast((int(aim.connections * share) + more,)) if aim.connections else None

    return rule


def _receive_bytes(aim: Aim, most: int) -> int:
    """What a socket has to ask for to hold the messages of a stall; the kernel grants twice what is asked."""
    rate = aim.rate_per_s or _USUAL_RATE
    return between(power_of_two(rate * _STALL_S * _CHARGE / 2), 1 << 20, most)


def _queue(aim: Aim, _: Machine, __: str) -> Rule:
    return AtLeast((between(power_of_two((aim.connections or 0) / 20), 8192, 1 << 17),))


def _udp_pages(aim: Aim, machine: Machine, _: str) -> Rule:
    """All receive buffers of a server with a worker a CPU, at half of where the kernel begins to hold back."""
    pages = 2 * len(machine.cpus) * 2 * _receive_bytes(aim, 1 << 28) // machine.page_bytes
    pages = min(pages, _half(machine) // 2)
    return AtLeast((pages, pages, 2 * pages))


def _tcp_pages(aim: Aim, machine: Machine, _: str) -> Rule | None:
    """A page and a half for each connection, and never more than half of the memory."""
    pages = int(1.5 * (aim.connections or 0))
    most = min(2 * pages, _half(machine))
    return AtLeast((min(pages, most) // 2, min(pages, most), most)) if pages else None


def _half(machine: Machine) -> int:
    """Half of the memory in pages."""
    return machine.memory_bytes // machine.page_bytes // 2


def _ports(aim: Aim, _: Machine, __: str) -> Rule:
    # The kernel looks long for a free port once half of them are taken.
    return Spanning(1024, 65_535, None if aim.connections is None else 2 * aim.connections)


def _tracked(aim: Aim, machine: Machine, _: str) -> Rule | None:
    """Two for each connection; where no port is known that need not be tracked, a million at least."""
    least = max(2 * (aim.connections or 0), 0 if aim.ports else _TRACKED)
    return AtLeast((least,)) if machine.tracks and least else None


def _neighbours(entries: int) -> Wanted:
    def rule(aim: Aim, _: Machine, __: str) -> Rule | None:
        return AtLeast((entries,)) if (aim.connections or 0) > _NEIGHBOURS else None

    return rule


def _hard_limit(text: str) -> str:
    """The hard limit on descriptors, from a process's table of limits."""
    words = text.partition("Max open files")[2].split()
    return str(2**63 - 1) if words[1] == "unlimited" else words[1]


TUNABLES = (
    Tunable(
        "net.core.rmem_max",
        sysctl("net.core.rmem_max"),
        lambda aim, _, __: AtLeast((_receive_bytes(aim, 1 << 28),)),
        "a reader that waits 20 ms for a CPU loses nothing; 832 B are charged for each small datagram",
        "memory for each socket that asks for it; an overload shows as latency first",
        transports=("udp",),
    ),
    Tunable(
        "net.core.rmem_default",
        sysctl("net.core.rmem_default"),
        lambda aim, _, __: AtLeast((_receive_bytes(aim, 1 << 22),)),
        "for servers that ask for no size: the usual buffer holds 256 small datagrams; start them again afterwards",
        "every new UDP socket of the host may hold as much",
        roles=("server",),
        transports=("udp",),
    ),
    Tunable(
        "net.core.wmem_max",
        sysctl("net.core.wmem_max"),
        lambda *_: AtLeast((1 << 20,)),
        "bursts wait in the socket instead of failing with EAGAIN",
        "memory for each socket that asks for it",
        transports=("udp",),
    ),
    Tunable(
        "net.ipv4.udp_mem",
        sysctl("net.ipv4.udp_mem"),
        _udp_pages,
        "pages for all UDP sockets together: above, datagrams are dropped (MemErrors)",
        "memory",
        roles=("server",),
        transports=("udp",),
    ),
    Tunable(
        "net.core.netdev_max_backlog",
        sysctl("net.core.netdev_max_backlog"),
        lambda aim, _, __: AtLeast((between(int((aim.rate_per_s or 0) * 0.01), 5000, 30_000),)),
        "packets that wait for a CPU on loopback, on veth and with RPS; more are dropped (softnet_stat, column 2)",
        "latency and memory under overload",
    ),
    Tunable(
        "net.core.somaxconn",
        sysctl("net.core.somaxconn"),
        _queue,
        "bounds the accept queue: connects beyond it are dropped and repeated after 1, 3 and 7 s",
        "hides a server that accepts slowly; start the server again afterwards",
        roles=("server",),
        transports=("tcp",),
    ),
    Tunable(
        "net.ipv4.tcp_max_syn_backlog",
        sysctl("net.ipv4.tcp_max_syn_backlog"),
        _queue,
        "half-open connections of a storm of connects",
        "320 B each",
        roles=("server",),
        transports=("tcp",),
    ),
    Tunable(
        "net.ipv4.tcp_syncookies",
        sysctl("net.ipv4.tcp_syncookies"),
        lambda *_: OneOf(("1", "2")),
        "a full SYN queue drops no client",
        "options are lost while cookies are sent",
        roles=("server",),
        transports=("tcp",),
    ),
    Tunable(
        "net.ipv4.tcp_mem",
        sysctl("net.ipv4.tcp_mem"),
        _tcp_pages,
        "pages for all TCP sockets together: each connection with data holds one at least",
        "the host can run out of memory where it would have slowed down",
        transports=("tcp",),
    ),
    Tunable(
        "net.ipv4.tcp_max_tw_buckets",
        sysctl("net.ipv4.tcp_max_tw_buckets"),
        lambda aim, _, __: AtLeast((aim.connections,)) if aim.connections else None,
        "connections that are closed at once wait 60 s each in TIME_WAIT",
        "256 B each",
        transports=("tcp",),
    ),
    Tunable(
        "net.ipv4.ip_local_port_range",
        sysctl("net.ipv4.ip_local_port_range"),
        _ports,
        "64,512 source ports for each address and target instead of 28,232",
        "may take the port of a service that starts later: list those in net.ipv4.ip_local_reserved_ports",
        roles=("client",),
    ),
    Tunable(
        "net.ipv4.tcp_tw_reuse",
        sysctl("net.ipv4.tcp_tw_reuse"),
        lambda *_: OneOf(("1",)),
        "ports in TIME_WAIT are used again after a second",
        "needs TCP timestamps at both ends",
        roles=("client",),
        transports=("tcp",),
    ),
    Tunable(
        "fs.file-max",
        sysctl("fs.file-max"),
        _files(1.0, 65_536),
        "open files of the whole host, for all but root",
        "kernel memory; counts for the whole host, also where it is set in a container",
        transports=("tcp",),
    ),
    Tunable(
        "fs.nr_open",
        sysctl("fs.nr_open"),
        _files(1.1, 0),
        "the most that a process's limit on descriptors may be set to",
        "memory of descriptor tables; counts for the whole host, also where it is set in a container",
        transports=("tcp",),
    ),
    Tunable(
        "limit on descriptors",
        lambda *_: [LIMITS],
        _files(1.1, 0),
        "one descriptor a connection, unless the program uses io_uring's own table, as flatout does",
        "programs that use select()",
        transports=("tcp",),
        parse=_hard_limit,
        remedy="only the starter of a program can: LimitNOFILE= in its unit, or ulimit -Hn",
    ),
    Tunable(
        "net.netfilter.nf_conntrack_max",
        sysctl("net.netfilter.nf_conntrack_max"),
        _tracked,
        "connections beyond it are dropped while they are tracked",
        "256 B each",
    ),
    Tunable(
        "net.netfilter.nf_conntrack_buckets",
        sysctl("net.netfilter.nf_conntrack_buckets"),
        _tracked,
        "as many as connections may be tracked: a look-up then finds one entry, and no chain of them",
        "8 B each",
    ),
    *(
        Tunable(
            f"net.{family}.neigh.default.gc_thresh{number}",
            sysctl(f"net.{family}.neigh.default.gc_thresh{number}"),
            _neighbours(entries),
            "addresses on the same link take an entry of the neighbour table each; one that has no room gets no answer",
            "memory, only while so many neighbours are there",
        )
        for family in ("ipv4", "ipv6")
        for number, entries in ((3, 16_384), (2, 8192), (1, 4096))
    ),
)
