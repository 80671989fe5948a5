"""Counts from a program in the kernel, which sees each packet of the ports and copies none."""

from __future__ import annotations

import ipaddress
import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from flatout import _engine
from flatout.errors import GeneratorError
from flatout.host import links
from flatout.watch import devices
from flatout.watch.ports import WatchedPort
from flatout.watch.reasons import DropReasons
from flatout.watch.source import Counted, Prefix, Reading

BTF = "/sys/kernel/btf/vmlinux"
# Of each port so many prefixes are taken from the kernel a second.
_PREFIXES = 256
# About so many packets a second are looked at for their prefix.
_SAMPLED = 4096
_LARGEST_GAP = 1 << 16
_DEVICES_EACH_S = 5


class BpfRefusedError(GeneratorError):
    """The kernel does not take the program; the text says why, and what helps."""


class BpfSource:
    """The program and its maps, until `close`."""

    kind: Literal["bpf"] = "bpf"

    def __init__(
        self,
        ports: Sequence[WatchedPort],
        interfaces: Sequence[str] = (),
        *,
        btf: str | os.PathLike[str] = BTF,
        present: Callable[[], list[links.NetworkDevice]] = links.devices,
    ) -> None:
        """Errors: UsageError for interfaces, BpfRefusedError."""
        self.labels = [port.name for port in ports]
        self.notes: list[str] = []
        self._interfaces = interfaces
        self._present = present
        found = self._devices()
        chosen = devices.counted(found, interfaces)
        if hidden := devices.unseen(found):
            self.notes.append(
                f"what comes by {', '.join(hidden)} is not counted: the kernel shows it in the network namespace of "
                "the device below"
            )
        wanted = [(port.ip_protocol, port.number, port.kind.number if port.kind else 0) for port in ports]
        try:
            self._counter = _engine.TrafficCounter(wanted, btf)
        except _engine.BpfError as error:
            raise BpfRefusedError(error.args[1]) from error
        self._counter.set_devices(*chosen)
        self._reasons = DropReasons(ports, Path(btf))
        if self._reasons.blind:
            self.notes.append(f"why the kernel drops is not known: {self._reasons.blind}")
        self._gap = 1
        self._packets = 0
        self._second: int | None = None
        self._devices_at = 0

    def _devices(self) -> list[links.NetworkDevice]:
        try:
            return self._present()
        except (OSError, struct.error) as error:
            raise GeneratorError(f"the network interfaces cannot be listed: {error}") from error

    def read(self, second: int) -> Reading:
        """The counts now, and the bins of a second that is over for 2 s at most."""
        notes = self._look_at_devices(second)
        gap = self._gap
        prefixes = self._counter.talkers(_PREFIXES)
        found = [
            Counted(
                _four(counts, 0),
                _four(counts, 4),
                tuple(counts[8:12]),
                bins_in,
                bins_out,
                (size_in, size_out),
                tuple(Prefix(text(v6, bits), count, size) for at, v6, bits, count, size in prefixes if at == index),
            )
            for index, (counts, bins_in, bins_out, (size_in, size_out)) in enumerate(self._counter.traffic(second))
        ]
        cpus = dict(enumerate(self._counter.by_cpu()))
        self._sample(sum(port.packets[0] + port.packets[1] for port in found), second)
        if gap > 1:
            notes.append(f"prefixes are those of a sample, one in {gap} packets")
        return Reading(found, cpus, tuple(notes), None if self._reasons.blind else self._reasons.read())

    def _look_at_devices(self, second: int) -> list[str]:
        """Takes up devices that have come; says which of the chosen ones are gone."""
        if second - self._devices_at < _DEVICES_EACH_S:
            return []
        self._devices_at = second
        try:
            found = self._present()
        except (OSError, struct.error) as error:
            return [f"the network interfaces cannot be listed: {error}"]
        names = {device.name for device in found}
        gone = [name for name in self._interfaces if name not in names]
        present = [name for name in self._interfaces if name in names]
        if present or not self._interfaces:
            self._counter.set_devices(*devices.counted(found, present))
        return [f"{name} is gone" for name in gone]

    def _sample(self, packets: int, second: int) -> None:
        """So many packets a second are looked at, whatever their rate."""
        if self._second is not None and second > self._second:
            rate = (packets - self._packets) / (second - self._second)
            gap = 1
            while rate / gap > _SAMPLED and gap < _LARGEST_GAP:
                gap *= 2
            if gap != self._gap:
                self._counter.set_sampling(gap)
                self._gap = gap
        self._packets, self._second = packets, second

    def close(self) -> None:
        """Takes the program out of the kernel."""
        self._counter.stop()
        self._reasons.close()


def _four(counts: Sequence[int], at: int) -> tuple[int, int, int, int]:
    one, two, three, four = counts[at : at + 4]
    return one, two, three, four


def text(is_v6: bool, bits: int) -> str:
    """A prefix as it is written: the first 48 bits of an IPv6 address, or 24 of an IPv4 one."""
    if is_v6:
        return f"{ipaddress.IPv6Address(bits << 80)}/48"
    return f"{ipaddress.IPv4Address(bits << 8)}/24"
