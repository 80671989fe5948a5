"""Reads the target's sockets on this host: drops, what lies unread, which process holds each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from flatout.host import sock_diag
from flatout.host import target as find_target
from flatout.host.counters import grew
from flatout.host.target import Address
from flatout.result.ledger import TargetSocket

PROC = Path("/proc")
# A table of descriptors that takes long to count.
_MANY = 1 << 16
At = tuple[Address, int]


class SocketCounters(NamedTuple):
    """One socket at one moment; the fields of `TargetSocket`, drops since it was made."""

    address: str
    drops: int | None
    unread_bytes: int | None
    buffer_bytes: int | None = None
    queue: int | None = None
    queue_limit: int | None = None


Sockets = dict[int, SocketCounters]


def read(targets: Sequence[At], *, stream: bool, net: Path, same_namespace: bool) -> Sockets:
    """The sockets bound to addresses of the target, by inode; of streams those that listen.

    sock_diag tells buffers and a listener's drops, for this namespace only; /proc/net/udp tells the drops of datagrams.
    """
    found = _by_sock_diag(targets, stream=stream) if same_namespace else None
    if found is not None or stream:
        # /proc/net/tcp counts no drops, and may have a million lines.
        return found or {}
    table = find_target.table(net, {port for _, port in targets}, stream=False)
    return {
        row.inode: SocketCounters(row.address, row.drops, row.unread_bytes)
        for address, port in targets
        for row in find_target.receiving(table.get(port, []), address)
    }


def _by_sock_diag(targets: Sequence[At], *, stream: bool) -> Sockets | None:
    found: Sockets = {}
    by_port = sock_diag.bound_to({port for _, port in targets}, stream=stream)
    if by_port is None or any(not each.meminfo for bound in by_port.values() for each in bound):
        return None
    for address, port in targets:
        bound = by_port.get(port, [])
        for n in find_target.receivers_of(address, [each.address for each in bound]):
            each = bound[n]
            found[each.inode] = SocketCounters(
                find_target.text_of(each.address, port),
                each.drops,
                None if stream else each.unread_bytes,
                None if stream else each.buffer_bytes,
                each.queue if stream else None,
                each.limit if stream else None,
            )
    return found


def changed(
    before: Sockets, after: Sockets, pids: Iterable[int], command: str, proc: Path = PROC
) -> list[TargetSocket]:
    """The sockets that were there before and after, with the drops between, and their processes."""
    both = {inode: (before[inode], now) for inode, now in after.items() if inode in before}
    holders = find_target.holders_of(both, pids, proc) if both else {}
    found = []
    for inode, (was, now) in both.items():
        drops = None if was.drops is None or now.drops is None else grew(was.drops, now.drops)
        pid = holders.get(inode)
        process = f"{command} (process {pid})" if pid is not None else ""
        found.append(TargetSocket(process=process, **{**now._asdict(), "drops": drops}))
    return found


def is_stopped(pid: int, proc: Path = PROC) -> bool:
    """Whether a signal or a debugger has stopped a process."""
    return find_target.state(pid, proc) in ("T", "t")


def files(pid: int, proc: Path = PROC) -> tuple[int, int] | None:
    """How many descriptors a process holds, and may hold; None where that is hidden.

    Linux 6.2 tells the number. Before, counting many is slow: it is the size of the table, which is no less, where that
    is below half of the limit or large.
    """
    try:
        words = (line.split() for line in (proc / str(pid) / "limits").read_text(encoding="ascii").splitlines())
        limit = next(int(word[3]) for word in words if word[:3] == ["Max", "open", "files"])
        words = (line.split() for line in (proc / str(pid) / "status").read_text(encoding="utf-8").splitlines())
        table = next(int(word[1]) for word in words if word[:1] == ["FDSize:"])
        folder = proc / str(pid) / "fd"
        known = os.stat(folder).st_size
        if known or table < limit // 2 or table > _MANY:
            # A table grows to powers of two, also beyond the limit.
            return known or min(table, limit), limit
        return len(os.listdir(folder)), limit
    except (OSError, ValueError, StopIteration):
        return None
