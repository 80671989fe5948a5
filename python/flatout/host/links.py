"""Asks the kernel for the network devices of this namespace: index, name, kind, what each is part of (rtnetlink(7))."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

_NEW_LINK, _GET_LINK = 16, 18
_REQUEST_DUMP = 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_IFNAME, _LINK, _MASTER, _LINKINFO, _LINK_NETNSID = 3, 5, 10, 18, 37
_INFO_KIND = 1
_LOOPBACK = 0x8
_HEADER = struct.Struct("=IHHII")
_MESSAGE = struct.Struct("=BxHiII")
_ATTRIBUTE = struct.Struct("=HH")
_WAIT_S = 1.0
# The kernel asks for so much room, or cuts devices with many queues.
_ROOM = 1 << 16


class NetworkDevice(NamedTuple):
    """A device. `kind`: "veth", "bridge" and the like; empty for hardware and loopback.

    `number`: its index, as the kernel calls it. `master`: that of the bridge, bond or other device that it is part of;
    `below`: that of the device that it lies on; 0: none. `elsewhere`: the latter is in another network namespace.
    """

    number: int
    name: str
    kind: str = ""
    is_loopback: bool = False
    master: int = 0
    below: int = 0
    elsewhere: bool = False


def devices() -> list[NetworkDevice]:
    """All devices of this network namespace. Errors: OSError."""
    request = _HEADER.pack(_HEADER.size + _MESSAGE.size, _GET_LINK, _REQUEST_DUMP, 1, 0) + _MESSAGE.pack(0, 0, 0, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(_WAIT_S)
        kernel.sendall(request)
        return list(_answers(kernel))


def _answers(kernel: socket.socket) -> Iterator[NetworkDevice]:
    while True:
        data = kernel.recv(_ROOM)
        at = 0
        while at + _HEADER.size <= len(data):
            length, kind, *_ = _HEADER.unpack_from(data, at)
            if kind == _NLMSG_DONE or length < _HEADER.size:
                return
            if kind == _NLMSG_ERROR:
                raise OSError(-struct.unpack_from("=i", data, at + _HEADER.size)[0], "the devices cannot be listed")
            if kind == _NEW_LINK:
                yield parsed(data[at + _HEADER.size : at + length])
            at += (length + 3) & ~3


def parsed(message: bytes) -> NetworkDevice:
    """A device from the kernel's message (struct ifinfomsg and attributes). Errors: struct.error."""
    _, _, index, flags, _ = _MESSAGE.unpack_from(message)
    found = dict(_attributes(message[_MESSAGE.size :]))
    info = dict(_attributes(found.get(_LINKINFO, b"")))
    return NetworkDevice(
        index,
        _text(found.get(_IFNAME, b"")),
        _text(info.get(_INFO_KIND, b"")),
        bool(flags & _LOOPBACK),
        _number(found.get(_MASTER)),
        _number(found.get(_LINK)),
        _LINK_NETNSID in found,
    )


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        yield kind & 0x3FFF, data[at + _ATTRIBUTE.size : at + length]
        at += max((length + 3) & ~3, _ATTRIBUTE.size)


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode("utf-8", "replace")


def _number(value: bytes | None) -> int:
    return int(struct.unpack("=I", value)[0]) if value is not None and len(value) == 4 else 0
