"""Asks the kernel for the sockets bound to a port: buffers, drops, queues (sock_diag(7), over netlink).

It needs no privilege, and sees this network namespace only. Where the kernel does not answer there is None.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Collection, Iterator
from typing import NamedTuple

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_DUMP = 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_SKMEMINFO = 7
_LISTEN = 10
_ALL_STATES = 0xFFFFFFFF
_HEADER = struct.Struct("=IHHII")
# Family, state, timer, retransmissions; then ports and addresses in the network's order.
_MESSAGE = struct.Struct("=BBBB2s2s16s16sI8sIIIII")
_ATTRIBUTE = struct.Struct("=HH")
_WAIT_S = 1.0
_ANY_PORT, _FEW_PORTS = 0, 8


class Found(NamedTuple):
    """A socket: `queue` and `limit` are those of connections to be accepted, where it listens.

    `meminfo`: in the order of SO_MEMINFO; empty where this kernel does not tell.
    """

    inode: int
    address: Address
    queue: int
    limit: int
    meminfo: tuple[int, ...]

    @property
    def unread_bytes(self) -> int | None:
        """The kernel's charge for what lies in the receive buffer."""
        return self.meminfo[0] if self.meminfo else None

    @property
    def buffer_bytes(self) -> int | None:
        """The size of the receive buffer."""
        return self.meminfo[1] if self.meminfo else None

    @property
    def drops(self) -> int | None:
        """What was dropped at this socket since it was made."""
        return self.meminfo[8] if len(self.meminfo) > 8 else None


def bound_to(ports: Collection[int], *, stream: bool) -> dict[int, list[Found]] | None:
    """The sockets bound to each of the ports, of streams those that listen; None where the kernel does not tell."""
    found: dict[int, list[Found]] = {}
    try:
        for family in (socket.AF_INET, socket.AF_INET6):
            # The kernel looks at all sockets for each port asked for.
            for asked in ports if len(ports) <= _FEW_PORTS else (_ANY_PORT,):
                for port, each in _dump(family, asked, stream=stream):
                    if port in ports:
                        found.setdefault(port, []).append(each)
    except (OSError, struct.error):
        return None
    return found


def _dump(family: int, port: int, *, stream: bool) -> list[tuple[int, Found]]:
    protocol, states = (socket.IPPROTO_TCP, 1 << _LISTEN) if stream else (socket.IPPROTO_UDP, _ALL_STATES)
    body = struct.pack("=BBBBI", family, protocol, 1 << (_SKMEMINFO - 1), 0, states)
    body += struct.pack(">HH", port, 0) + bytes(32) + struct.pack("=I", 0) + b"\xff" * 8
    header = _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(_WAIT_S)
        kernel.sendall(header + body)
        return list(_answers(kernel))


def _answers(kernel: socket.socket) -> Iterator[tuple[int, Found]]:
    while True:
        data = kernel.recv(1 << 16)
        at = 0
        while at < len(data):
            length, kind, *_ = _HEADER.unpack_from(data, at)
            if kind == _NLMSG_DONE:
                return
            if kind == _NLMSG_ERROR:
                raise OSError(-struct.unpack_from("=i", data, at + _HEADER.size)[0], "sock_diag")
            yield _socket(data[at + _HEADER.size : at + length])
            at += (length + 3) & ~3


def _socket(message: bytes) -> tuple[int, Found]:
    """Its port, and the rest."""
    family, _, _, _, port, _, source, _, _, _, _, queue, limit, _, inode = _MESSAGE.unpack_from(message)
    address = ipaddress.ip_address(source[: 4 if family == socket.AF_INET else 16])
    return int.from_bytes(port, "big"), Found(inode, address, queue, limit, _meminfo(message[_MESSAGE.size :]))


def _meminfo(attributes: bytes) -> tuple[int, ...]:
    at = 0
    while at + _ATTRIBUTE.size <= len(attributes):
        length, kind = _ATTRIBUTE.unpack_from(attributes, at)
        if kind == _SKMEMINFO:
            words = (length - _ATTRIBUTE.size) // 4
            return struct.unpack_from(f"={words}I", attributes, at + _ATTRIBUTE.size)
        at += max((length + 3) & ~3, _ATTRIBUTE.size)
    return ()


def charge(payload_bytes: int) -> int | None:
    """What a receive buffer is charged for one datagram of so many bytes over loopback; None where that is not told."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.bind(("127.0.0.1", 0))
            one.sendto(bytes(payload_bytes), one.getsockname())
            # SO_MEMINFO, Linux 4.12.
            return int(struct.unpack_from("=I", one.getsockopt(socket.SOL_SOCKET, 55, 36))[0]) or None
    except OSError:
        return None
