"""Ports to be watched, as text: `udp/123`. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from flatout.errors import UsageError
from flatout.protocols import PROTOCOLS
from flatout.protocols.base import TrafficKind

MOST = 16
Transport = Literal["udp", "tcp"]
_FORM = re.compile(r"(udp|tcp)/([0-9]{1,5})(?::([a-z0-9_]+))?")
_NUMBERS = {"udp": 17, "tcp": 6}


class WatchedPort(NamedTuple):
    """A port, and what else is counted of its packets."""

    transport: Transport
    number: int
    kind: TrafficKind | None = None

    @property
    def name(self) -> str:
        """`udp/123`."""
        return f"{self.transport}/{self.number}"

    @property
    def ip_protocol(self) -> int:
        """The number in an IP header."""
        return _NUMBERS[self.transport]


def parse(texts: Sequence[str]) -> list[WatchedPort]:
    """Ports from texts such as `udp/123`, or `udp/11123:ntp` for a protocol on another port. Errors: UsageError."""
    found = {port.name: port for port in map(_port, texts)}
    if not found:
        raise UsageError("which port? Give --port udp/123 or --port tcp/53, several times for several ports")
    if len(found) > MOST:
        raise UsageError(f"--port: {len(found)} ports are too many, at most {MOST} are watched at once")
    return list(found.values())


def _port(text: str) -> WatchedPort:
    given = _FORM.fullmatch(text)
    if given is None or not 1 <= int(given[2]) <= 65_535:
        raise UsageError(f"--port '{text}': write udp/NUMBER or tcp/NUMBER with a port from 1 to 65535, e.g. udp/123")
    transport: Transport = "udp" if given[1] == "udp" else "tcp"
    if given[3] and given[3] not in PROTOCOLS:
        raise UsageError(f"--port '{text}': there is no protocol '{given[3]}' (there are: {', '.join(PROTOCOLS)})")
    return WatchedPort(transport, int(given[2]), _kind(transport, int(given[2]), given[3]))


def _kind(transport: Transport, number: int, named: str | None) -> TrafficKind | None:
    """What can be counted of the protocol that is named, or else of the one that usually has this port."""
    for protocol in PROTOCOLS.values():
        own = protocol.name == named if named else number in (protocol.port, protocol.test_port)
        # The kernel's program reads headers of datagrams; those of a stream are nowhere in particular.
        if own and transport == "udp" and "udp" in protocol.links:
            return protocol.traffic
    return None
