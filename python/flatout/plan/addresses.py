"""IP addresses and their zones: a link-local IPv6 address means a host only together with an interface (RFC 4007).

A zone is written as in `fe80::1%eth0`, by the interface's name or number, and printed so that it reads back.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from pathlib import Path
from typing import NamedTuple

from flatout.errors import UsageError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_IF_INET6 = Path("/proc/net/if_inet6")
_LINK_LOCAL = 0x20
# Multicast of one interface, and of one link: ff01::/16, ff02::/16, whatever their flags.
_NARROW_SCOPES = (1, 2)
# What an interface's name must not hold to stand in an address, a list of addresses, or a network.
_AWKWARD = re.compile(r"[\s,\[\]%:/]")


class Endpoint(NamedTuple):
    """An address, a port, and for link-local IPv6 the interface's number."""

    address: Address
    port: int
    scope: int = 0

    @property
    def host(self) -> str:
        """The address with its zone, as text that reads back."""
        return f"{self.address}%{_zone(self.scope)}" if self.scope else str(self.address)

    def __str__(self) -> str:
        host = f"[{self.host}]" if self.address.version == 6 else self.host
        return f"{host}:{self.port}"


def _zone(scope: int) -> str:
    """The interface's name; its number where it has gone, or where the name would not read back."""
    try:
        name = socket.if_indextoname(scope)
    except OSError:
        return str(scope)
    return str(scope) if _AWKWARD.search(name) else name


def needs_zone(address: Address) -> bool:
    """Whether the address says nothing without an interface."""
    if address.version == 4:
        return False
    narrow = address.is_multicast and address.packed[1] & 0x0F in _NARROW_SCOPES
    return address.is_link_local or narrow


def literal(text: str, *, what: str, own: bool) -> tuple[Address, int] | None:
    """An address given as such, and its interface's number; None: it is none, but perhaps a name.

    what: "target" and the like, for errors.
    own: it is to be an address of this host.
    Errors: UsageError for a missing zone, an interface that is not there, or a zone that the address cannot have.
    """
    host, percent, zone = text.partition("%")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return address, scope(address, zone if percent else None, text=text, what=what, own=own)


def scope(address: Address, zone: str | None, *, text: str, what: str, own: bool) -> int:
    """The number of the interface of an address, 0 where it has none. Arguments and errors as for `literal`.

    zone: an interface's name or number; None: none was given.
    """
    if needs_zone(address):
        return missing_zone(address, text=text, what=what, own=own) if zone is None else _interface(zone, text, what)
    if zone is not None:
        raise UsageError(
            f"{what} '{text}': only link-local addresses (fe80::/10) take an interface, so leave out %{zone}"
        )
    return 0


def missing_zone(address: Address, *, text: str, what: str, own: bool) -> int:
    """Says which interfaces may be meant. Errors: always UsageError."""
    having = _interfaces(address)
    if own and not having and not address.is_multicast:
        link_local = ", ".join(f"{other}%{name}" for other, name in _link_local()) or "none"
        raise UsageError(
            f"{what} '{text}' is link-local, and no interface of this host has it; those that it has: {link_local}"
        )
    names = having or list(dict.fromkeys(name for _, name in _link_local()))
    known = f"those that have {'it' if having else 'a link-local address'}: {', '.join(names) or 'none'}"
    raise UsageError(
        f"{what} '{text}' is link-local: say which interface, as in {address}%{names[0] if names else 'eth0'} ({known})"
    )


def _interface(zone: str, text: str, what: str) -> int:
    if ":" in zone:
        raise UsageError(f"{what} '{text}': write a port behind brackets, as in [fe80::1%eth0]:53")
    try:
        return socket.if_nametoindex(zone)
    except (OSError, ValueError):
        pass
    if re.fullmatch(r"[0-9]{1,9}", zone):
        try:
            socket.if_indextoname(int(zone))
            return int(zone)
        except OSError:
            pass
    names = ", ".join(name for _, name in socket.if_nameindex())
    raise UsageError(f"{what} '{text}': this host has no interface '{zone}'; it has {names or 'none'}")


def _interfaces(address: Address) -> list[str]:
    """The interfaces that have this link-local address."""
    return [name for other, name in _link_local() if other == address]


def _link_local() -> list[tuple[Address, str]]:
    """The link-local addresses of this host, each with its interface."""
    try:
        lines = [line.split() for line in _IF_INET6.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return []
    found = [
        (bytes.fromhex(words[0]), words[5]) for words in lines if len(words) == 6 and int(words[3], 16) == _LINK_LOCAL
    ]
    return sorted(((ipaddress.IPv6Address(packed), name) for packed, name in found), key=lambda pair: pair[1])
