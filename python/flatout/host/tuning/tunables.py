"""Every setting that matters for an aim: where it is, what is wanted of it, why, and what that risks. Data only.

A new setting is one entry here. Left out on purpose: what has no measured gain for small messages, what trades
throughput for latency unasked, and what would have to be lowered (docs/host.md lists them).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from flatout.host.tuning.aim import Aim, Machine
from flatout.host.tuning.rules import AtLeast, CpuMask, OneOf, Rule, Spanning
from flatout.host.tuning.system import System

BOTH = ("server", "client")
ANY = ("udp", "tcp")
LIMITS = "/proc/self/limits"
# What the kernel charges a receive buffer for a datagram of up to 128 bytes (6.18, loopback).
_CHARGE = 832
# For how long a reader may be off its CPU without a loss.
_STALL_S = 0.02
_USUAL_RATE = 100_000.0
_RFS_FLOWS = 32_768


class Tunable(NamedTuple):
    """One setting, or one of each queue or CPU.

    `rule`: what is wanted, by aim, machine and key; None where it does not matter. `parse`: from the file's text to the
    value. `remedy`: for what cannot be changed from outside, who can.
    """

    name: str
    keys: Callable[[System], Sequence[str]]
    rule: Callable[[Aim, Machine, str], Rule | None]
    why: str
    risk: str
    roles: Sequence[str] = BOTH
    transports: Sequence[str] = ANY
    parse: Callable[[str], str] = str.strip
    remedy: str = ""

    def matters(self, aim: Aim) -> bool:
        """Whether hosts with this aim need it at all."""
        return aim.role in self.roles and aim.transport in self.transports


def sysctl(name: str) -> Callable[[System], Sequence[str]]:
    """The key of a sysctl, whether it is there or not."""
    return lambda _: ["/proc/sys/" + name.replace(".", "/")]


# --- What is wanted, by aim ---


def _files(share: float, more: int) -> Callable[[Aim, Machine, str], Rule | None]:
    def rule(aim: Aim, _: Machine, __: str) -> Rule | None:
        return AtLeast((int(aim.connections * share) + more,)) if aim.connections else None

    return rule


def _receive_bytes(aim: Aim, most: int) -> int:
    """What a socket has to ask for to hold the messages of a stall; the kernel grants twice what is asked."""
    rate = aim.rate_per_s or _USUAL_RATE
    return _between(_power_of_two(rate * _STALL_S * _CHARGE / 2), 1 << 20, most)


def _queue(aim: Aim, _: Machine, __: str) -> Rule:
    return AtLeast((_between(_power_of_two((aim.connections or 0) / 20), 8192, 65_536),))


def _udp_pages(aim: Aim, machine: Machine, _: str) -> Rule:
    """All receive buffers of a server with a worker a CPU, at half of where the kernel begins to hold back."""
    pages = 2 * len(machine.cpus) * 2 * _receive_bytes(aim, 1 << 28) // machine.page_bytes
    return AtLeast((pages, pages, 2 * pages))


def _tcp_pages(aim: Aim, machine: Machine, _: str) -> Rule | None:
    """A page and a half for each connection, and never more than half of the memory."""
    pages = int(1.5 * (aim.connections or 0))
    half = machine.memory_bytes // machine.page_bytes // 2
    most = min(2 * pages, half)
    return AtLeast((min(pages, most) // 2, min(pages, most), most)) if pages else None


def _ports(aim: Aim, _: Machine, __: str) -> Rule:
    # The kernel looks long for a free port once half of them are taken.
    return Spanning(1024, 65_535, None if aim.connections is None else 2 * aim.connections)


def _tracked(aim: Aim, machine: Machine, _: str) -> Rule | None:
    return AtLeast((2 * aim.connections,)) if aim.connections and machine.tracks else None


def _rps(_: Aim, machine: Machine, __: str) -> Rule:
    return CpuMask(machine.cpus)


def _xps(_: Aim, machine: Machine, key: str) -> Rule | None:
    """There are as many queues as CPUs: each has one, by its number in the key."""
    found = re.search(r"/tx-(\d+)/", key)
    number = int(found[1]) if found else 0
    own = machine.cpus[number : number + 1]
    return CpuMask(own) if own else None


def _power_of_two(least: float) -> int:
    return 1 << max(int(least) - 1, 0).bit_length()


def _between(value: int, least: int, most: int) -> int:
    return min(max(value, least), most)


# --- Where settings of interfaces and CPUs are ---


def interfaces(system: System) -> list[str]:
    """Interfaces with a link that are cards or veth: the others have no queue of their own."""
    folders = system.keys("/sys/class/net/*")
    return [folder for folder in folders if _has_queues(folder, system) and system.seen(f"{folder}/carrier") == "1"]


def _has_queues(folder: str, system: System) -> bool:
    return system.path(f"{folder}/device").exists() or system.driver(folder.rpartition("/")[2]) == "veth"


def _receive_queues(file: str) -> Callable[[System], Sequence[str]]:
    """A file of each receive queue, where CPUs are more than queues."""

    def keys(system: System) -> list[str]:
        cpus = len(system.cpus())
        found = [system.keys(f"{folder}/queues/rx-*/{file}") for folder in interfaces(system)]
        return [key for queues in found if len(queues) < cpus for key in queues]

    return keys


def _transmit_queues(system: System) -> list[str]:
    """The map of each queue where there is one for each of several CPUs."""
    found = [system.keys(f"{folder}/queues/tx-*/xps_cpus") for folder in interfaces(system)]
    return [key for queues in found if 1 < len(queues) == len(system.cpus()) for key in queues]


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
        lambda aim, _, __: AtLeast((_between(int((aim.rate_per_s or 0) * 0.01), 5000, 30_000),)),
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
        "kernel memory",
        transports=("tcp",),
    ),
    Tunable(
        "fs.nr_open",
        sysctl("fs.nr_open"),
        _files(1.1, 0),
        "the most that a process's limit on descriptors may be set to",
        "memory of descriptor tables",
        transports=("tcp",),
    ),
    Tunable(
        "limit on descriptors",
        lambda _: [LIMITS],
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
        "rps_cpus",
        _receive_queues("rps_cpus"),
        _rps,
        "one queue keeps one CPU busy with the kernel's part: RPS spreads it over all",
        "interrupts between CPUs; where another CPU is left to the application alone, undo it",
    ),
    Tunable(
        "net.core.rps_sock_flow_entries",
        sysctl("net.core.rps_sock_flow_entries"),
        lambda _, machine, __: AtLeast((_RFS_FLOWS,)) if len(machine.cpus) > 1 else None,
        "RFS: packets of a connection go to the CPU where its thread runs",
        "4 B each",
        roles=("server",),
        transports=("tcp",),
    ),
    Tunable(
        "rps_flow_cnt",
        _receive_queues("rps_flow_cnt"),
        lambda *_: AtLeast((_RFS_FLOWS,)),
        "RFS, the part of each receive queue",
        "memory",
        roles=("server",),
        transports=("tcp",),
    ),
    Tunable(
        "xps_cpus",
        _transmit_queues,
        _xps,
        "each CPU sends by a queue of its own, without a shared lock",
        "none known",
    ),
    Tunable(
        "scaling_governor",
        lambda system: system.keys("/sys/devices/system/cpu/cpufreq/policy*/scaling_governor"),
        lambda *_: OneOf(("performance",)),
        "the clock of a CPU does not have to rise first",
        "power",
    ),
)
