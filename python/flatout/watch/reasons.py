"""Why the kernel drops packets of the watched ports: a program on the tracepoint kfree_skb, which sees drops only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flatout._engine import BpfError, DropCounter
from flatout.host.drops import BTF, HARMLESS, namespace
from flatout.watch.ports import WatchedPort


class DropReasons:
    """One program for each IP version and transport, until `close`. `blind` says why nothing is counted."""

    def __init__(self, ports: Sequence[WatchedPort], btf: Path = BTF) -> None:
        self.blind = ""
        self._namespace = namespace(Path("/proc/self/net"))
        self._counters: list[DropCounter] = []
        try:
            for protocol in dict.fromkeys(port.ip_protocol for port in ports):
                numbers = [port.number for port in ports if port.ip_protocol == protocol]
                for version in (4, 6):
                    self._counters.append(_counter(version, protocol, numbers, btf))
        except BpfError as error:
            self.close()
            self.blind = str(error.args[1])

    def read(self) -> dict[str, int]:
        """Packets to and from the ports that were dropped in this namespace since the start, by the kernel's reason."""
        found: dict[str, int] = {}
        try:
            for counter in self._counters:
                for number, reason, _, _, _, packets in counter.counts():
                    if number == self._namespace:
                        found[reason] = found.get(reason, 0) + packets
        except BpfError as error:
            self.close()
            self.blind = str(error.args[1])
        return found

    def close(self) -> None:
        """Takes the programs out of the kernel."""
        for counter in self._counters:
            counter.stop()
        self._counters = []


def _counter(version: int, protocol: int, ports: list[int], btf: Path) -> DropCounter:
    return DropCounter(
        ip_version=version, ip_protocol=protocol, ports=ports, addresses=[], ignored=list(HARMLESS), btf=btf
    )
