"""Which device and next hop lead to an address, and whether these work: /proc/net/route, ipv6_route and arp.

Of policy routing only the main table is looked at.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import socket
import struct
import sys
from pathlib import Path
from typing import NamedTuple

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
NET = Path("/proc/thread-self/net")
_SIOCGIFFLAGS = 0x8913
_UP, _REJECT = 0x1, 0x200
_RUNNING = 0x40


class Route(NamedTuple):
    """The device, and the host that packets are handed to."""

    device: str
    next_hop: Address


def towards(address: Address, scope: int = 0, net: Path = NET) -> Route | None:
    """The route to an address of another host; None where there is none, or it cannot be read.

    scope: the interface's number, for link-local addresses.
    """
    if scope:
        with contextlib.suppress(OSError):
            return Route(socket.if_indextoname(scope), address)
    try:
        if address.version == 4:
            found = [_v4(line.split()) for line in (net / "route").read_text(encoding="ascii").splitlines()[1:]]
        else:
            found = [_v6(line.split()) for line in (net / "ipv6_route").read_text(encoding="ascii").splitlines()]
    except (OSError, ValueError, IndexError):
        return None
    usable = [route for route in found if route is not None and address in route[0]]
    if not usable:
        return None
    _, _, gateway, device = max(usable, key=lambda route: (route[0].prefixlen, -route[1]))
    return Route(device, gateway or address)


_Row = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, int, Address | None, str]


def _v4(words: list[str]) -> _Row | None:
    device, destination, gateway, flags, _, _, metric, mask = words[:8]
    if not int(flags, 16) & _UP or int(flags, 16) & _REJECT:
        return None
    length = int(ipaddress.IPv4Address(_word(mask))).bit_count()
    network = ipaddress.ip_network((_word(destination), length))
    hop = ipaddress.IPv4Address(_word(gateway))
    return network, int(metric), None if hop.is_unspecified else hop, device


def _word(text: str) -> bytes:
    """A word of 32 bits in this machine's byte order."""
    return int(text, 16).to_bytes(4, sys.byteorder)


def _v6(words: list[str]) -> _Row | None:
    destination, length, _, _, gateway, metric, _, _, flags, device = words[:10]
    if not int(flags, 16) & _UP or int(flags, 16) & _REJECT:
        return None
    network = ipaddress.ip_network((bytes.fromhex(destination), int(length, 16)))
    hop = ipaddress.IPv6Address(bytes.fromhex(gateway))
    return network, int(metric, 16), None if hop.is_unspecified else hop, device


def is_up(device: str) -> bool | None:
    """Whether a device is up and has a carrier; None where the kernel does not say."""
    request = struct.pack("16sH22x", device.encode()[:15], 0)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
            flags = struct.unpack_from("H", fcntl.ioctl(asker, _SIOCGIFFLAGS, request), 16)[0]
    except OSError:
        return None
    return bool(flags & _UP) and bool(flags & _RUNNING)


def unresolved(hop: Address, net: Path = NET) -> bool | None:
    """Whether the next hop's hardware address is unknown; None where that cannot be told, as for IPv6."""
    if hop.version == 6:
        return None
    try:
        rows = [line.split() for line in (net / "arp").read_text(encoding="ascii").splitlines()[1:]]
    except OSError:
        return None
    flags = [int(row[2], 16) for row in rows if len(row) > 2 and row[0] == str(hop)]
    return bool(flags) and not any(flags)
