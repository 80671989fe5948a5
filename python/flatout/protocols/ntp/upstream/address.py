"""Where a daemon is asked over UDP: on this host, or beside it in another container; never at a public address."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

from flatout.protocols.ntp.state import Unusable

_NEAR = [
    ipaddress.ip_network(text)
    for text in (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
        *("::1/128", "fc00::/7", "fe80::/10"),
    )
]


def is_near(text: str) -> bool:
    """Whether an address (not a name) is a private one, or one of this host's own: only that clock is ours."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if any(address in network for network in _NEAR if network.version == address.version):
        return True
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


class Address:
    """A host and a port; the name is resolved at the first question, and again after one without an answer."""

    def __init__(self, host: str, port: int) -> None:
        self._at = (host, port)
        self._found: tuple[int, Any] | None = None

    def __str__(self) -> str:
        return f"{self._at[0]}:{self._at[1]}"

    def connect(self) -> socket.socket:
        """A socket connected to it. Errors: OSError, Unusable (a public address)."""
        family, at = self._found or self._resolved()
        self._found = None
        connected = socket.socket(family, socket.SOCK_DGRAM)
        try:
            connected.connect(at)
        except OSError:
            connected.close()
            raise
        return connected

    def keep(self, answered: socket.socket) -> None:
        """What the next question goes to: the address that answered this one."""
        self._found = (answered.family, answered.getpeername())

    def _resolved(self) -> tuple[int, Any]:
        # Of both families IPv4 first: daemons allow "localhost" over IPv4 far more often.
        found = sorted(socket.getaddrinfo(*self._at, type=socket.SOCK_DGRAM), key=lambda one: one[0] != socket.AF_INET)
        family, _, _, _, at = found[0]
        if not is_near(str(at[0])):
            raise Unusable(f"{at[0]} is neither private nor of this host: its clock is another one")
        return family, at
