"""Finds the processes behind a target on this host: who holds its socket, where their threads run and may run.

Sources: /proc/net/{udp,tcp} for the socket's inode, /proc/PID/fd for its holders, /proc/PID/task for their threads. An
address that is not of this network namespace is looked for in the others (/proc/PID/net). Reading only; what is hidden
from this user (hidepid, another user's descriptors) is said and not guessed.
"""

from __future__ import annotations

import ipaddress
import itertools
import os
import socket
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from flatout import units
from flatout.errors import UsageError

PROC = Path("/proc")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Where = Literal["here", "namespace", "elsewhere", "hidden", "nobody"]
_LISTENING = "0A"
_MOST_DESCRIPTORS = 1 << 14
# Of the fields behind the name.
_LAST_CPU = 36
_OWN_LOAD_THREAD = "flatout-load"
_OWN_THREADS = "flatout-"


class Thread(NamedTuple):
    """A thread of the target: where it may run, and where it ran last."""

    pid: int
    tid: int
    cpus: tuple[int, ...]
    last_cpu: int


class Target(NamedTuple):
    """The processes behind a target.

    where: "here"; "namespace": in another network namespace of this host; "elsewhere": on another host, as far as can
    be seen; "hidden": on this host, but its process may not be looked at; "nobody": on this host, and no socket is
    bound there.
    sockets: how many sockets share the address.
    """

    where: Where
    pids: tuple[int, ...] = ()
    command: str = ""
    threads: tuple[Thread, ...] = ()
    sockets: int = 0


def find(address: Address, port: int, *, stream: bool, proc: Path = PROC, scope: int = 0) -> Target:
    """The processes that answer at an address; `scope`: the interface's number, for link-local addresses."""
    if is_local(address, scope):
        return _holders(proc / "net", address, port, stream=stream, proc=proc, where="here")
    namespace = _namespace_of(address, proc)
    if namespace is None:
        return Target("elsewhere")
    return _holders(namespace, address, port, stream=stream, proc=proc, where="namespace")


def last_cpus(threads: Iterable[Thread], proc: Path = PROC) -> set[int]:
    """The CPUs on which the threads ran last, now."""
    folders = (proc / str(thread.pid) / "task" / str(thread.tid) for thread in threads)
    found = (_stat(folder) for folder in folders)
    return {int(words[_LAST_CPU]) for words in found if len(words) > _LAST_CPU}


def ended(pids: Iterable[int], proc: Path = PROC) -> list[int]:
    """Those of the processes that have ended, also where their parents do not know yet (zombies)."""
    states = {pid: _stat(proc / str(pid))[:1] for pid in pids}
    return [pid for pid, state in states.items() if state in ([], ["Z"], ["X"])]


def is_local(address: Address, scope: int = 0) -> bool:
    """Whether it is an address of this host, in this network namespace: only those can be bound."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0, *((0, scope) if scope else ())))
    except OSError:
        return False
    return True


def _holders(net: Path, address: Address, port: int, *, stream: bool, proc: Path, where: Where) -> Target:
    inodes = _inodes(net, address, port, stream=stream)
    if not inodes:
        return Target("nobody")
    pids = _pids(inodes, proc)
    if not pids:
        return Target("hidden", sockets=len(inodes))
    threads = tuple(thread for pid in pids for thread in _threads(pid, proc))
    return Target(where, pids, _command(pids[0], proc), threads, max(len(inodes), len(pids)))


def _inodes(net: Path, address: Address, port: int, *, stream: bool) -> set[str]:
    """The sockets bound to the address, or to all addresses."""
    return {str(row.inode) for row in bound(net, address, port, stream=stream)}


class BoundSocket(NamedTuple):
    """A line of /proc/net/udp or tcp: `drops` since the socket was made; None for streams.

    `unread_bytes`: what lies in the receive buffer, in the kernel's charge; of streams that listen, how many
    connections wait to be accepted.
    """

    inode: int
    address: str
    unread_bytes: int
    drops: int | None


def bound(net: Path, address: Address, port: int, *, stream: bool) -> list[BoundSocket]:
    """The sockets bound to the address, or to all addresses; of streams those that listen."""
    return receiving(table(net, {port}, stream=stream).get(port, []), address)


Bound = list[tuple[Address, BoundSocket]]


def receiving(rows: Bound, address: Address) -> list[BoundSocket]:
    """Those of a port's sockets that receive what is sent to an address."""
    return [rows[n][1] for n in receivers_of(address, [at for at, _ in rows])]


def table(net: Path, ports: Collection[int], *, stream: bool) -> dict[int, Bound]:
    """The sockets bound to each of the ports, with their addresses; of streams those that listen. Read once for all."""
    kind = "tcp" if stream else "udp"
    found: dict[int, Bound] = {}
    for name in (kind, f"{kind}6"):
        for line in _read(net / name).splitlines()[1:]:
            words = line.split()
            if len(words) <= 9 or words[9] == "0" or (stream and words[3] != _LISTENING):
                continue
            host, _, hex_port = words[1].partition(":")
            port = int(hex_port, 16)
            if port in ports:
                unread = int(words[4].partition(":")[2], 16)
                drops = None if stream or len(words) <= 12 else int(words[12])
                at = _address(host)
                row = BoundSocket(int(words[9]), text_of(at, port), unread, drops)
                found.setdefault(port, []).append((at, row))
    return found


def text_of(address: Address, port: int) -> str:
    """Address and port as text."""
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def receivers_of(address: Address, bound_to: Sequence[Address]) -> list[int]:
    """Which of the sockets, by the addresses they are bound to, receive what is sent to an address.

    As the kernel chooses (compute_score in net/ipv4/udp.c): a socket of that very address comes before those of all
    addresses, and for IPv4 a socket of that family before one of IPv6. Several of one kind share (SO_REUSEPORT).
    """
    ranks = [_rank(each, address) for each in bound_to]
    best = max(ranks, default=0)
    return [n for n, rank in enumerate(ranks) if rank and rank == best]


def _rank(bound_to: Address, address: Address) -> int:
    """How well a socket's address fits; 0 where it does not."""
    mapped = bound_to.ipv4_mapped if isinstance(bound_to, ipaddress.IPv6Address) else None
    if (mapped or bound_to) == address:
        return 4 - (mapped is not None)
    if not bound_to.is_unspecified or (bound_to.version == 4 and address.version == 6):
        return 0
    return 2 if bound_to.version == address.version else 1


def holders_of(inodes: Iterable[int], pids: Iterable[int], proc: Path = PROC) -> dict[int, int]:
    """Which of the processes holds each socket, as far as their descriptors may be looked at.

    A server opens the sockets at which it listens first: those are not looked for among more than some descriptors.
    """
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, int] = {}
    for pid in pids:
        if not wanted:
            break
        try:
            with os.scandir(proc / str(pid) / "fd") as entries:
                for entry in itertools.islice(entries, _MOST_DESCRIPTORS):
                    inode = wanted.pop(_link(entry.path), None)
                    if inode is not None:
                        found[inode] = pid
                    if not wanted:
                        break
        except OSError:
            continue
    return found


def state(pid: int, proc: Path = PROC) -> str:
    """The letter of a process's state (proc_pid_stat(5)); empty where it has ended or is hidden."""
    return next(iter(_stat(proc / str(pid))), "")


def _address(text: str) -> Address:
    """As /proc writes it: words of 32 bits in this machine's byte order."""
    words = (int(text[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(text), 8))
    return ipaddress.ip_address(b"".join(words))


def _pids(inodes: set[str], proc: Path) -> tuple[int, ...]:
    """Those that hold one of the sockets, without parents that only passed it to their children."""
    links = {f"socket:[{inode}]" for inode in inodes}
    holders = {pid for pid in _numbers(proc) if _holds(proc / str(pid) / "fd", links)}
    parents = {pid: _parent(pid, proc) for pid in holders}
    passed_on: set[int] = set()
    for pid in holders:
        parent = parents[pid]
        while parent in holders and parent not in passed_on:
            passed_on.add(parent)
            parent = parents[parent]
    return tuple(sorted(holders - passed_on))


def _holds(folder: Path, links: set[str]) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(_link(entry.path) in links for entry in entries)
    except OSError:
        return False  # it has ended, or is not ours to look at


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _parent(pid: int, proc: Path) -> int:
    words = _stat(proc / str(pid))
    return int(words[1]) if len(words) > 1 else 0


def _stat(folder: Path) -> list[str]:
    """The fields of proc_pid_stat(5) behind the name, which may hold blanks; none where it has ended or is hidden."""
    return _read(folder / "stat").rpartition(")")[2].split()


def _threads(pid: int, proc: Path) -> Iterator[Thread]:
    """Of this very process only those of servers, not its loads and not Python's."""
    own = pid == os.getpid()
    for tid in _numbers(proc / str(pid) / "task"):
        folder = proc / str(pid) / "task" / str(tid)
        name = _read(folder / "comm").strip()
        if own and (not name.startswith(_OWN_THREADS) or name == _OWN_LOAD_THREAD):
            continue
        words = _stat(folder)
        cpus = _allowed(_read(folder / "status"))
        if cpus and len(words) > _LAST_CPU:
            yield Thread(pid, tid, cpus, int(words[_LAST_CPU]))


def _allowed(status: str) -> tuple[int, ...]:
    for line in status.splitlines():
        if line.startswith("Cpus_allowed_list:"):
            try:
                return units.cpu_list(line.partition(":")[2].strip())
            except UsageError:
                return ()
    return ()


def _command(pid: int, proc: Path) -> str:
    return _read(proc / str(pid) / "comm").strip()


def _namespace_of(address: Address, proc: Path) -> Path | None:
    """/proc/PID/net of a process in another network namespace of this host that has the address; None: none has."""
    seen = {_link(str(proc / "self/ns/net"))}
    for pid in _numbers(proc):
        namespace = _link(str(proc / str(pid) / "ns/net"))
        if namespace and namespace not in seen:
            seen.add(namespace)
            if has_address(proc / str(pid) / "net", address):
                return proc / str(pid) / "net"
    return None


def has_address(net: Path, address: Address) -> bool:
    """Whether a network namespace has an address of its own; `net`: its /proc/PID/net."""
    if address.version == 6:
        return any(line.split()[:1] == [address.packed.hex()] for line in _read(net / "if_inet6").splitlines())
    lines = (line.strip() for line in _read(net / "fib_trie").splitlines())
    own = f"|-- {address}"
    return any(line == own and "host LOCAL" in after for line, after in itertools.pairwise(lines))


def _numbers(folder: Path) -> Iterable[int]:
    try:
        with os.scandir(folder) as entries:
            return sorted(int(entry.name) for entry in entries if entry.name.isdecimal())
    except OSError:
        return []


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
