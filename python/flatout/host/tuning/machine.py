"""What of a host decides which settings an aim needs: CPUs, memory, network devices, connection tracking."""

from __future__ import annotations

import ipaddress
import os

from flatout import units
from flatout.errors import ArgumentError, UsageError
from flatout.host import route
from flatout.host.tuning import ethtool, netfilter
from flatout.host.tuning.aim import Device, Machine
from flatout.host.tuning.system import System

_NET = "/sys/class/net"
# Addresses of documentation: no route leads there but the default one (RFC 5737, RFC 3849).
_ANYWHERE = (ipaddress.ip_address("192.0.2.1"), ipaddress.ip_address("2001:db8::1"))


def machine(system: System, interface: str | None) -> Machine:
    """The machine, with the devices that carry the messages. Errors: ArgumentError for an interface that is not there.

    `interface`: null for that of the default route; where there is none, cards and veth with a link.
    """
    words = system.seen("/proc/meminfo").partition("MemTotal:")[2].split()
    memory = int(words[0]) * 1024 if words and words[0].isdecimal() else 0
    devices = {name: _device(name, system) for name in _chosen(system, interface)}
    return Machine(_cpus(system), memory, os.sysconf("SC_PAGE_SIZE"), _tracks(system), devices)


def _chosen(system: System, interface: str | None) -> list[str]:
    if system.foreign_devices:
        return []
    there = [folder.rpartition("/")[2] for folder in system.keys(f"{_NET}/*") if system.path(folder).is_dir()]
    if interface is not None:
        if interface not in there:
            names = ", ".join(there) or "none"
            raise ArgumentError("interface", f"={interface!r}: there is no such network device here; there is {names}")
        return [interface]
    routes = [route.towards(address, net=system.path("/proc/net")) for address in _ANYWHERE]
    found = dict.fromkeys(one.device for one in routes if one is not None and one.device in there)
    return list(found) or [name for name in there if _has_queues(name, system) and _has_link(name, system)]


def _has_queues(name: str, system: System) -> bool:
    return system.path(f"{_NET}/{name}/device").exists() or ethtool.driver(name, system.ioctl) == "veth"


def _has_link(name: str, system: System) -> bool:
    return system.seen(f"{_NET}/{name}/carrier") == "1"


def _device(name: str, system: System) -> Device:
    ioctl = system.ioctl
    return Device(
        driver=ethtool.driver(name, ioctl),
        receive_queues=len(system.keys(f"{_NET}/{name}/queues/rx-*")),
        send_queues=len(system.keys(f"{_NET}/{name}/queues/tx-*")),
        channels=ethtool.channels(name, ioctl),
        ring=ethtool.ring(name, ioctl),
    )


def _cpus(system: System) -> tuple[int, ...]:
    """The CPUs that are online."""
    try:
        return units.cpu_list(system.seen("/sys/devices/system/cpu/online"))
    except UsageError:
        return tuple(range(os.cpu_count() or 1))


def _tracks(system: System) -> bool | None:
    """Whether connections are tracked: the module alone costs nothing until a rule needs it."""
    count = system.seen("/proc/sys/net/netfilter/nf_conntrack_count")
    return netfilter.tracked_by(system.run) if count == "0" else count != ""
