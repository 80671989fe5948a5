"""Reads what a second of traffic did to this host: drops by place, sockets, CPUs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from flatout.host import contention, counters, sock_diag
from flatout.host import target as holders
from flatout.host.contention import CpuTimes
from flatout.watch.ports import WatchedPort

PROC = Path("/proc")
# Looking for the holders of sockets reads the descriptors of all processes.
_HOLDERS_EACH_S = 30.0


class PortSockets(NamedTuple):
    """The sockets bound to a port: drops since each was made by inode (None: not told), the fullest, who holds them."""

    drops: dict[int, int | None]
    filled: float | None
    processes: list[str]


class HostReading(NamedTuple):
    """Counters at one moment; of sockets by the port's name."""

    at_s: float
    counters: counters.Counters
    backlog: int | None
    cpus: dict[int, CpuTimes]
    sockets: dict[str, PortSockets | None]


class HostReader(Protocol):
    """Reads this host, now."""

    def read(self, now_s: float) -> HostReading:
        """The counters; `now_s` is the monotonic clock's."""


class KernelReader:
    """Reads the kernel's files, and its sockets by netlink."""

    def __init__(self, ports: Sequence[WatchedPort], proc: Path = PROC) -> None:
        self._ports = ports
        self._proc = proc
        self._processes: dict[str, list[str]] = {}
        self._inodes: dict[str, frozenset[int]] = {}
        self._looked_s = float("-inf")

    def read(self, now_s: float) -> HostReading:
        """The counters; `now_s` is the monotonic clock's."""
        # Of this process's own network namespace, whatever `proc` is a picture of.
        found = counters.read(self._proc / "net")
        times = contention.sample((), self._proc)
        sockets: dict[str, PortSockets | None] = {}
        for transport in dict.fromkeys(port.transport for port in self._ports):
            ports = [port for port in self._ports if port.transport == transport]
            bound = sock_diag.bound_to({port.number for port in ports}, stream=transport == "tcp")
            for port in ports:
                sockets[port.name] = None if bound is None else self._of(port, bound.get(port.number, []), now_s)
        return HostReading(now_s, found, times.backlog_drops, times.cpus, sockets)

    def _of(self, port: WatchedPort, bound: Sequence[sock_diag.Found], now_s: float) -> PortSockets:
        inodes = frozenset(one.inode for one in bound)
        if inodes != self._inodes.get(port.name, frozenset()) and now_s - self._looked_s >= _HOLDERS_EACH_S:
            self._inodes[port.name] = inodes
            self._processes[port.name] = self._names(inodes)
            # Several ports begin together.
            self._looked_s = now_s if len(self._inodes) == len(self._ports) else self._looked_s
        return PortSockets(
            {one.inode: one.drops for one in bound},
            max((_filled(one, port) for one in bound), default=None),
            self._processes.get(port.name, []),
        )

    def _names(self, inodes: Iterable[int]) -> list[str]:
        try:
            pids = sorted(int(entry.name) for entry in self._proc.iterdir() if entry.name.isdigit())
        except OSError:
            return []
        found = set(holders.holders_of(inodes, pids, self._proc).values())
        return [f"{_command(pid, self._proc)} ({pid})" for pid in sorted(found)]


def _filled(one: sock_diag.Found, port: WatchedPort) -> float:
    if port.transport == "tcp":
        return one.queue / one.limit if one.limit else 0.0
    return (one.unread_bytes or 0) / one.buffer_bytes if one.buffer_bytes else 0.0


def _command(pid: int, proc: Path) -> str:
    try:
        return (proc / str(pid) / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "?"
