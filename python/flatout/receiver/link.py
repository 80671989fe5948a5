"""Receiving past the kernel's stack (AF_XDP): from which interface, and which settings do not go with it."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
from typing import Any, NamedTuple

from flatout import arguments
from flatout.errors import UsageError
from flatout.host.xdp import SYS_NET, queues_of
from flatout.plan.listen import listen_address

_SIOCGIFMTU = 0x8921
_USUAL_MTU = 1500
# What the kernel charges a socket's buffer for a small datagram; how many frames a queue has, of how many bytes, and up
# to which MTU: as crates/net/src/xdp/socket.rs has them.
_CHARGED = 768
_FEWEST, _MOST, _FRAME, _SHORT_MTU = 64, 1 << 15, 2048, 1778
# What the engine found: a generic program, zero copy, queues, and why it is not native.
_Found = tuple[bool, bool, int, str] | None


class Link(NamedTuple):
    """An interface: its name and number, how many receive queues it has, its MTU in bytes; frames that wait in each."""

    interface: str
    number: int
    queues: int
    mtu: int
    frames: int

    @property
    def plan(self) -> tuple[int, int, int, int]:
        """As the engine takes it."""
        return self.number, self.queues, self.mtu, self.frames

    @property
    def memory(self) -> int:
        """Bytes of all frames."""
        return self.queues * self.frames * (_FRAME if self.mtu <= _SHORT_MTU else 2 * _FRAME)

    def described(self, found: _Found) -> dict[str, Any]:
        """{link, interface, mode, zero_copy, queues}."""
        generic, zero_copy, queues, _ = found or (True, False, self.queues, "")
        mode = "generic" if generic else "native"
        return {"link": "xdp", "interface": self.interface, "mode": mode, "zero_copy": zero_copy, "queues": queues}

    def notes(self, found: _Found) -> list[str]:
        """How datagrams are taken, and why not faster."""
        generic, zero_copy, queues, why = found or (True, False, self.queues, "")
        gone = self.number not in (number for number, _ in socket.if_nameindex())
        count = "1 queue" if queues == 1 else f"{queues} queues"
        copies = "zero copy" if zero_copy else "the kernel copies each frame"
        return [
            f"xdp: {self.interface}, {'generic' if generic else 'native'}, {count}, {copies}",
            *([f"xdp: not native: {why.removeprefix('native: ')}"] if why else []),
            *(["xdp: the interface is gone"] if gone else []),
        ]


def link_of(link: Any, interface: Any, listen: str, buffer: int, *, one_each: bool, gro: bool) -> Link | None:
    """What `link` asks for; None: sockets. `one_each`: threads and sockets are as they are by default.

    A queue holds as many small datagrams as a socket with so large a buffer.
    Errors: UsageError for what does not go with it, or an interface that is not there.
    """
    if arguments.word("link", link, ("socket", "xdp")) == "socket":
        if interface is not None:
            raise UsageError("interface: goes with link='xdp'; sockets receive by all interfaces")
        return None
    there = [name for _, name in socket.if_nameindex()]
    if interface is None:
        raise UsageError(f"link='xdp' needs interface, the one that records come by: {', '.join(there)}")
    name = arguments.text("interface", interface)
    if name not in there:
        raise UsageError(f"interface={name!r}: this host has {', '.join(there)}")
    if name == "lo" or listen_address(listen).address.is_loopback:
        raise UsageError("link='xdp': loopback has no driver; listen on another address, such as 0.0.0.0:31234")
    if not one_each:
        raise UsageError("link='xdp' has one thread for each receive queue (ethtool -l): leave out threads and shared")
    if not gro:
        raise UsageError("link='xdp' takes datagrams one by one in any case: leave out gro")
    frames = 1 << (min(max(buffer // _CHARGED, _FEWEST), _MOST) - 1).bit_length()
    return Link(name, socket.if_nametoindex(name), queues_of(SYS_NET / name) or 1, _mtu(name), frames)


def _mtu(interface: str) -> int:
    """Bytes of the longest IP packet."""
    request = struct.pack("16si20x", interface.encode()[:15], 0)
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        return int(struct.unpack_from("i", fcntl.ioctl(asker, _SIOCGIFMTU, request), 16)[0])
    return _USUAL_MTU
