"""Counts from /proc/net: what any user may read. Of all ports of a transport together, without bytes and bursts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from flatout.errors import GeneratorError
from flatout.host import counters
from flatout.watch.ports import Transport
from flatout.watch.source import Counted, Reading

# What came to sockets and what could not be delivered to them, over IPv4 and IPv6; what left.
_UDP = (
    ("Udp.InDatagrams", "Udp.InErrors", "Udp.NoPorts"),
    ("Udp6InDatagrams", "Udp6InErrors", "Udp6NoPorts"),
    ("Udp.OutDatagrams",),
    ("Udp6OutDatagrams",),
)
# The kernel counts segments of both families together.
_TCP = (("Tcp.InSegs",), (), ("Tcp.OutSegs",), ())


class MibSource:
    """Reads the counters of this network namespace."""

    kind: Literal["mib"] = "mib"

    def __init__(self, transports: Iterable[Transport], net: Path = Path("/proc/net")) -> None:
        """Errors: GeneratorError where the counters cannot be read."""
        self._net = net
        self._transports = list(dict.fromkeys(transports))
        found = counters.read(net)
        if "Udp.InDatagrams" not in found.values:
            raise GeneratorError(f"nothing to count with: {found.blind.get('snmp', f'{net}/snmp has no counters')}")
        self.labels = [f"{transport} (all ports)" for transport in self._transports]
        self.notes: list[str] = []

    def read(self, second: int) -> Reading:  # noqa: ARG002 - sums have no seconds
        """The counters now."""
        values = counters.read(self._net).values
        tables = [_UDP if transport == "udp" else _TCP for transport in self._transports]
        return Reading([Counted(_sums(values, table), None) for table in tables], {})

    def close(self) -> None:
        """Nothing is open."""


def _sums(values: counters.Values, table: tuple[tuple[str, ...], ...]) -> tuple[int, int, int, int]:
    one, two, three, four = (sum(values.get(name, 0) for name in names) for names in table)
    return one, two, three, four
