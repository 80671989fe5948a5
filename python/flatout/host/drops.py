"""Counts the packets of a run that the kernel drops, by reason: a BPF program on the tracepoint kfree_skb.

Reasons are the running kernel's own names (enum skb_drop_reason), without their prefix; their numbers differ between
kernels. The program sees dropped packets only, so it costs nothing where none are dropped.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from flatout._engine import BpfError, DropCounter

# Where the kernel describes its types.
BTF = Path("/sys/kernel/btf/vmlinux")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Space = Literal["own", "target", "other"]
_MOST_ADDRESSES = 1024

# Reasons for which no message is lost, with what happens there.
HARMLESS = {
    "SKB_CONSUMED": "delivered",
    "QUEUE_PURGE": "a socket was closed with packets in it",
    "SOCKET_CLOSE": "a socket was closed with packets in it",
    "OTHERHOST": "a copy for another host, from a bridge or in promiscuous mode",
    "UNICAST_IN_L2_MULTICAST": "a copy for another host",
    "PACKET_SOCK_ERROR": "a copy for a packet capture",
    "NO_TX_TARGET": "a bridge has no other port to send a copy to",
    "DUP_FRAG": "a duplicate",
    "TCP_OLD_DATA": "a duplicate",
    "TCP_OLD_SEQUENCE": "a duplicate",
    "TCP_OLD_ACK": "a duplicate",
    "TCP_OFOMERGE": "a duplicate",
    "TCP_INVALID_ACK_SEQUENCE": "an acknowledgement of a connection that has ended",
    "TCP_RESET": "a reset that was obeyed",
    "TCP_CLOSE": "the connection has ended",
    "TCP_ABORT_ON_DATA": "the connection has ended",
}
# Reasons whose packets the ledger already has, with the counter that told it.
COUNTED_ELSEWHERE = {
    "SOCKET_RCVBUFF": "drops of the socket",
    "PROTO_MEM": "Udp MemErrors",
    "UDP_CSUM": "Udp InCsumErrors",
    "NO_SOCKET": "Udp NoPorts, and refusals that come back",
    "TCP_LISTEN_OVERFLOW": "TcpExt ListenOverflows",
}


class DropKey(NamedTuple):
    """Where and why packets were dropped.

    namespace: inode number, 0 where not known. towards: on the way to the target, else answers. known: with an address
    of the target, which may have been translated (NAT).
    """

    namespace: int
    reason: str
    towards: bool
    known: bool
    device: str


Counts = dict[DropKey, int]


class Dropped(NamedTuple):
    """So many packets were dropped. `number`: the namespace's inode, where it is neither this one nor the target's."""

    space: Space
    number: int
    reason: str
    towards: bool
    device: str
    packets: int


class DropReader:
    """The program, from when this is made until `stop`. `blind` says why nothing, or not all, is counted."""

    def __init__(self, targets: Sequence[tuple[Address, int]], *, stream: bool, btf: Path = BTF) -> None:
        self.blind = ""
        self._counter: DropCounter | None = None
        if not targets:
            return
        addresses = [_plain(address) for address, _ in targets]
        try:
            self._counter = DropCounter(
                ip_version=addresses[0].version,
                ip_protocol=socket.IPPROTO_TCP if stream else socket.IPPROTO_UDP,
                ports=sorted({port for _, port in targets}),
                addresses=list(dict.fromkeys(addresses))[:_MOST_ADDRESSES],
                ignored=[*HARMLESS, *COUNTED_ELSEWHERE],
                btf=btf,
            )
        except BpfError as error:
            self.blind = str(error.args[1])

    def read(self) -> Counts | None:
        """What was dropped so far; None where that is not known."""
        if self._counter is None:
            return None
        try:
            if self._counter.uncounted():
                self.blind = "there were more different drops than the program has room for"
            found: Counts = {}
            for row in self._counter.counts():
                key = DropKey(*row[:5])
                found[key] = found.get(key, 0) + row[5]
            return found
        except BpfError as error:
            self.stop()
            self.blind = str(error.args[1])
        return None

    def stop(self) -> None:
        """Takes the program out of the kernel."""
        if self._counter is not None:
            self._counter.stop()
            self._counter = None


def namespace(net: Path) -> int:
    """The inode number of the network namespace of a directory such as /proc/PID/net; 0 where it cannot be read."""
    with contextlib.suppress(OSError):
        return os.stat(net.parent / "ns" / "net").st_ino
    return 0


def grown(before: Counts, after: Counts, own: int, target: int | None) -> list[Dropped]:
    """What was dropped between two readings, the most first; `own` and `target` are namespaces.

    In other namespaces only packets with the target's address count: ports alone may be those of other programs.
    """
    sums: dict[Dropped, int] = {}
    for key, packets in after.items():
        space: Space = "own" if key.namespace == own else "target" if key.namespace == target else "other"
        if space != "other" or key.known:
            number = key.namespace if space == "other" else 0
            # One row for what differs in the address only.
            row = Dropped(space, number, key.reason, key.towards, key.device, 0)
            sums[row] = sums.get(row, 0) + packets - before.get(key, 0)
    found = [row._replace(packets=packets) for row, packets in sums.items() if packets > 0]
    return sorted(found, key=lambda one: (-one.packets, one))


def _plain(address: Address) -> Address:
    """As the address is in packets."""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
