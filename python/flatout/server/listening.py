"""Where a server listens: addresses as text, sockets that systemd hands over, and what this host lacks for them."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any, NamedTuple

from flatout.errors import FlatoutError, UsageError
from flatout.plan.listen import listen_address, why_not
from flatout.plan.targets import Endpoint

INHERITED = "systemd"
_FIRST_DESCRIPTOR = 3
_NO_IPV6 = "this host has no IPv6: only IPv4 is served"


class Listening(NamedTuple):
    """What to bind to, or which sockets to take over; `notes`: what is worth knowing of it."""

    endpoints: list[Endpoint]
    descriptors: list[int]
    notes: list[str]

    @property
    def sockets(self) -> int:
        """How many sockets of one address were handed over; 0: none."""
        names = [_name(descriptor) for descriptor in self.descriptors]
        return max(map(names.count, names), default=0)


def listening(listen: str | Sequence[str], interface: str | None = None, *, free_bind: bool = False) -> Listening:
    """`ADDR:PORT` texts to listen on; `*:PORT`: all addresses of both families; "systemd": the sockets handed over.

    Errors: UsageError for a wrong form, an address or interface that is not there, or sockets that were not handed
    over.
    """
    given: list[Any] = list(listen) if isinstance(listen, list | tuple) else [listen]
    texts = [text for text in given if isinstance(text, str)]
    if not texts or len(texts) < len(given):
        raise UsageError(f"listen address {listen!r}: give one or more, such as 127.0.0.1:1123 or *:123")
    if interface is not None:
        _check_interface(interface)
    if texts == [INHERITED]:
        if interface is not None:
            raise UsageError("interface: the socket unit decides that, by BindToDevice=")
        if free_bind:
            raise UsageError("free_bind: the socket unit decides that, by FreeBind=")
        return Listening([], inherited(), [])
    if INHERITED in texts:
        raise UsageError(f"listen: '{INHERITED}' takes over all sockets; give it alone")
    endpoints = [listen_address(f"[::]:{text[2:]}" if text.startswith("*:") else text) for text in texts]
    if has_ipv6() or not any(endpoint.address.version == 6 for endpoint in endpoints):
        return Listening(_once(endpoints), [], [])
    return Listening(_once([_on_ipv4(endpoint) for endpoint in endpoints]), [], [_NO_IPV6])


def has_ipv6() -> bool:
    """Whether this host has IPv6 at all."""
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()
    except OSError as error:
        return error.errno != errno.EAFNOSUPPORT
    return True


def inherited() -> list[int]:
    """Descriptors of the sockets that this process was started with (sd_listen_fds(3)). Errors: UsageError."""
    if not handed_over():
        raise UsageError(
            f"listen '{INHERITED}': this process was started without sockets (LISTEN_PID and LISTEN_FDS do not name "
            "any); start it by a socket unit"
        )
    count = int(os.environ["LISTEN_FDS"])
    descriptors = list(range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + count))
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    return descriptors


def handed_over() -> bool:
    """Whether this process was started with sockets."""
    count = os.environ.get("LISTEN_FDS", "")
    return os.environ.get("LISTEN_PID") == str(os.getpid()) and count.isdecimal() and int(count) > 0


def refusal(error: OSError, where: Listening) -> FlatoutError:
    """What the kernel's error in binding or taking over means; of several addresses it names the one at fault."""
    if where.descriptors:
        text = error.strerror or str(error)
        return UsageError(f"the sockets handed over cannot be used: {text}; only UDP sockets that are bound can be")
    at_fault = next((at for at in where.endpoints if _fails(at, error.errno)), where.endpoints[0])
    return why_not(error, at_fault)


def _fails(at: Endpoint, number: int | None) -> bool:
    family = socket.AF_INET6 if at.address.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind(
                (str(at.address), at.port, 0, at.scope) if at.address.version == 6 else (str(at.address), at.port)
            )
    except OSError as error:
        return error.errno == number
    return False


def _on_ipv4(at: Endpoint) -> Endpoint:
    if at.address.version == 4:
        return at
    if at.address != IPv6Address("::"):
        raise UsageError(f"cannot listen on {at}: this host has no IPv6")
    return at._replace(address=IPv4Address("0.0.0.0"))


def _once(endpoints: list[Endpoint]) -> list[Endpoint]:
    """Each address once; free ports (0) may be asked for several times."""
    kept: list[Endpoint] = []
    for endpoint in endpoints:
        if endpoint.port == 0 or endpoint not in kept:
            kept.append(endpoint)
    return kept


def _check_interface(interface: str) -> None:
    there = [name for _, name in socket.if_nameindex()]
    if interface not in there:
        raise UsageError(f"interface '{interface}': this host has {', '.join(there) or 'none'}")


def _name(descriptor: int) -> object:
    with socket.socket(fileno=os.dup(descriptor)) as borrowed:
        return borrowed.getsockname()
