"""Where packets were dropped between two readings of a host. Pure."""

from __future__ import annotations

from collections.abc import Collection

from flatout.host.counters import Growth, grew, growth
from flatout.watch.host import HostReading, PortSockets
from flatout.watch.model import DropPlace

_WORD = 2**32
# The kernel's counters of a network namespace, by place.
_COUNTERS: dict[DropPlace, tuple[str, ...]] = {
    "receive_buffer": ("Udp.RcvbufErrors", "Udp6RcvbufErrors"),
    "udp_memory": ("Udp.MemErrors", "Udp6MemErrors"),
    "udp_checksum": ("Udp.InCsumErrors", "Udp6InCsumErrors"),
    "port_closed": ("Udp.NoPorts", "Udp6NoPorts"),
    "answer_send_buffer": ("Udp.SndbufErrors", "Udp6SndbufErrors"),
    "accept_queue": ("TcpExt.ListenOverflows",),
    "listen_drops": ("TcpExt.ListenDrops",),
    "conntrack": ("conntrack.drop", "conntrack.insert_failed"),
}
_DEVICES: dict[DropPlace, tuple[str, str]] = {
    "device_in": ("rx_dropped", "rx_errors"),
    "device_out": ("tx_dropped", "tx_errors"),
}


def dropped(
    before: HostReading, after: HostReading, interfaces: Collection[str] = ()
) -> tuple[dict[DropPlace, int], dict[str, str]]:
    """Packets by place, and why some places cannot be read. `interfaces`: those that count; none: all."""
    grown = growth(before.counters, after.counters)
    found: dict[DropPlace, int] = {}
    blind: dict[str, str] = {}
    for place, names in _COUNTERS.items():
        if why := grown.unknown(*names):
            blind[place] = why
        else:
            found[place] = sum(grown[name] for name in names)
    for place, fields in _DEVICES.items():
        if why := grown.unknown("dev"):
            blind[place] = why
        else:
            found[place] = _of_devices(grown, fields, interfaces)
    if before.backlog is None or after.backlog is None:
        blind["backlog"] = "/proc/net/softnet_stat cannot be read"
    else:
        found["backlog"] = (after.backlog - before.backlog) % _WORD
    return found, blind


def _of_devices(grown: Growth, fields: tuple[str, str], interfaces: Collection[str]) -> int:
    total = 0
    for name, count in grown.values.items():
        # Names of devices may have dots.
        device, _, field = name.removeprefix("dev.").rpartition(".")
        if name.startswith("dev.") and field in fields and (not interfaces or device in interfaces):
            total += count
    return total


def socket_drops(before: PortSockets | None, after: PortSockets | None) -> int | None:
    """Drops at the sockets of a port; those of a socket that has come since count from 0. None: not known."""
    if before is None or after is None:
        return None
    total = 0
    for inode, now in after.drops.items():
        was = before.drops.get(inode, 0)
        if now is None or was is None:
            return None
        total += grew(was, now) or 0
    return total
