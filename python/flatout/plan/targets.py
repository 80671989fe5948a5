"""Targets resolved: names to addresses, and the guard against load on public addresses."""

from __future__ import annotations

import ipaddress
import socket
from typing import NamedTuple

from flatout.errors import TargetError, UsageError
from flatout.scenario.target import split

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Endpoint(NamedTuple):
    """An address, a port, and for link-local IPv6 the interface's number."""

    address: Address
    port: int
    scope: int

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{host}:{self.port}"


def resolve(text: str, default_port: int) -> Endpoint:
    """The first address of the target. Errors as `addresses`."""
    return addresses(text, default_port)[0]


def addresses(text: str, default_port: int) -> list[Endpoint]:
    """All addresses of the target, the preferred first: at least one.

    Errors: UsageError for its form, TargetError for an unknown name.
    """
    host, port = split(text, default_port)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except (socket.gaierror, UnicodeError) as error:
        raise TargetError(f"target '{host}' is not known: {error}") from error
    endpoints = [_endpoint(sockaddr, port) for *_, sockaddr in found]
    # "localhost" has both loopback addresses; servers under test listen on the v4 one far more often.
    if all(endpoint.address.is_loopback for endpoint in endpoints):
        endpoints.sort(key=lambda endpoint: endpoint.address.version)
    return endpoints


def _endpoint(sockaddr: tuple[object, ...], port: int) -> Endpoint:
    address = ipaddress.ip_address(str(sockaddr[0]).split("%")[0])
    return Endpoint(address, port, int(str(sockaddr[3])) if len(sockaddr) == 4 else 0)


def guard(endpoint: Endpoint, allow_public: bool) -> None:
    """Refuses to load an address that is neither loopback, link-local nor private, unless that is allowed."""
    address = endpoint.address
    plain = (address.ipv4_mapped if address.version == 6 else None) or address
    if plain.is_unspecified or plain.is_multicast or plain == _BROADCAST:
        raise UsageError(f"target {address} is no single host")
    # Documentation and shared ranges count as private to Python's library, but no own host has such an address.
    private = any(plain in network for network in _OWN if network.version == plain.version)
    if not private and not allow_public:
        raise UsageError(
            f"target {address} is a public address: this load could harm somebody else's server or be taken for an "
            "attack. If it is yours, or its owner agreed, add --allow-public"
        )


_BROADCAST = ipaddress.IPv4Address("255.255.255.255")
_OWN = [
    ipaddress.ip_network(text)
    for text in (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
        *("::1/128", "fc00::/7", "fe80::/10"),
    )
]


def sources(texts: tuple[str, ...], flows: int, node: tuple[int, int] | None = None) -> list[Address]:
    """Up to `flows` addresses of the networks or addresses named, in order, without network and broadcast addresses.

    Of several nodes each takes a stretch of its own. Where there are fewer addresses than nodes they are this node's.
    """
    ranges = [_range(text) for text in texts]
    total = sum(count for _, count in ranges)
    index, of = (node[0] - 1, node[1]) if node and total >= node[1] else (0, 1)
    begin, end = total * index // of, total * (index + 1) // of
    found: list[Address] = []
    for first, count in ranges:
        wanted = range(max(begin, 0), min(end, count, max(begin, 0) + flows - len(found)))
        found += [first + offset for offset in wanted]
        begin, end = begin - count, end - count
    return found


def _range(text: str) -> tuple[Address, int]:
    """The first address for hosts and how many follow from it on."""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise UsageError(f"sources '{text}': write an address or a network such as 127.0.0.0/24") from error
    if network.num_addresses <= 2:
        return network.network_address, network.num_addresses
    # Without the network's own address (IPv6: the routers' anycast), and IPv4's broadcast.
    return network.network_address + 1, network.num_addresses - (2 if network.version == 4 else 1)
