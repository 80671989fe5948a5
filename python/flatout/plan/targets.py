"""Targets resolved: names to addresses, and the guard against load on public addresses; and the sources of a load."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable

from flatout.errors import TargetError, UsageError
from flatout.plan import addresses as ip
from flatout.plan.addresses import Address, Endpoint
from flatout.scenario.target import split

__all__ = ["Address", "Endpoint", "addresses", "check_sources", "guard", "resolve", "sources"]


def resolve(text: str, default_port: int) -> Endpoint:
    """The first address of the target. Errors as `addresses`."""
    return addresses(text, default_port)[0]


def addresses(text: str, default_port: int) -> list[Endpoint]:
    """All addresses of the target, the preferred first: at least one.

    Errors: UsageError for its form and for a link-local address without interface, TargetError for an unknown name.
    """
    host, port = split(text, default_port)
    return named(host, port, what="target")


def named(host: str, port: int, *, what: str, own: bool = False) -> list[Endpoint]:
    """All addresses of a host, given as name or address.

    what: "target" and the like, for errors.
    own: it is to be an address of this host.
    Errors: as for `addresses`.
    """
    if literal := ip.literal(host, what=what, own=own):
        return [Endpoint(literal[0], port, literal[1])]
    if ":" in host:
        raise UsageError(f"{what} '{host}' is no IPv6 address")
    if "/" in host:
        raise UsageError(f"{what} '{host}': name one host, not a network, a path or a URL")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except (socket.gaierror, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "this can be no host's name"
        raise TargetError(f"{what} '{host}' is not known: {why}") from error
    endpoints = [_endpoint(sockaddr, port) for *_, sockaddr in found]
    whole = [endpoint for endpoint in endpoints if endpoint.scope or not ip.needs_zone(endpoint.address)]
    if not whole:
        ip.missing_zone(endpoints[0].address, text=f"{host} ({endpoints[0].address})", what=what, own=own)
    # "localhost" has both loopback addresses; servers under test listen on the v4 one far more often.
    if all(endpoint.address.is_loopback for endpoint in whole):
        whole.sort(key=lambda endpoint: endpoint.address.version)
    return whole


def _endpoint(sockaddr: tuple[object, ...], port: int) -> Endpoint:
    address = ipaddress.ip_address(str(sockaddr[0]).split("%")[0])
    return Endpoint(address, port, int(str(sockaddr[3])) if ip.needs_zone(address) else 0)


def guard(endpoint: Endpoint, allow_public: bool) -> None:
    """Refuses to load an address that is neither loopback, link-local nor private, unless that is allowed."""
    address = endpoint.address
    plain = (address.ipv4_mapped if address.version == 6 else None) or address
    if plain.is_unspecified or plain.is_multicast or plain == _BROADCAST:
        raise UsageError(f"target {endpoint.host} is no single host")
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


def sources(texts: tuple[str, ...], flows: int, node: tuple[int, int] | None = None) -> list[Endpoint]:
    """Up to `flows` addresses of the networks or addresses named, in order, without network and broadcast addresses.

    Of several nodes each takes a stretch of its own. Where there are fewer addresses than nodes they are this node's.
    Their port is 0: the kernel's choice.
    """
    ranges = [_range(text) for text in texts]
    total = sum(count for _, count in ranges)
    index, of = (node[0] - 1, node[1]) if node and total >= node[1] else (0, 1)
    begin, end = total * index // of, total * (index + 1) // of
    found: list[Endpoint] = []
    for first, count in ranges:
        wanted = range(max(begin, 0), min(end, count, max(begin, 0) + flows - len(found)))
        found += [Endpoint(first.address + offset, 0, first.scope) for offset in wanted]
        begin, end = begin - count, end - count
    return found


def _range(text: str) -> tuple[Endpoint, int]:
    """The first address for hosts and how many follow from it on."""
    parts = _SOURCE.fullmatch(text) if isinstance(text, str) else None
    host, zone, length = parts.groups() if parts else ("", None, "")
    try:
        network = ipaddress.ip_network(host + length, strict=False)
    except ValueError as error:
        raise UsageError(f"sources '{text}': write an address or a network such as 127.0.0.0/24") from error
    whole = network.num_addresses == 1
    scope = ip.scope(network.network_address, zone, text=text, what="sources", own=whole)
    if network.num_addresses <= 2:
        return Endpoint(network.network_address, 0, scope), network.num_addresses
    # Without the network's own address (IPv6: the routers' anycast), and IPv4's broadcast.
    count = network.num_addresses - (2 if network.version == 4 else 1)
    return Endpoint(network.network_address + 1, 0, scope), count


# RFC 4007, section 11.7: the zone comes before the length.
_SOURCE = re.compile(r"([^%/]*)(?:%([^/]*))?(/.*|)")


def check_sources(sources: Iterable[Endpoint], targets: Iterable[Endpoint]) -> None:
    """Errors: UsageError where the targets cannot be reached from these sources."""
    kinds = {(source.address.version, source.scope): source for source in sources}
    for source in kinds.values():
        for target in targets:
            if source.address.version != target.address.version:
                raise UsageError(f"sources and target {target.host} must both be IPv4 or both IPv6")
            if source.scope and target.scope and source.scope != target.scope:
                raise UsageError(f"sources {source.host} and target {target.host} must be of one interface")
