"""The topology of this machine: NUMA nodes, CPUs, and the receive queues of the network card behind an address.

It bounds how many packets can be received: one queue is served by one CPU, and memory of another node is slow.
Everything is read from /sys and /proc; what is missing there is left out.
"""

from __future__ import annotations

import fcntl
import ipaddress
import re
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from flatout import units
from flatout.errors import UsageError

SYS, PROC = Path("/sys"), Path("/proc")
_SIOCGIFADDR = 0x8915
# For a wildcard address on a machine with many interfaces the first ones are enough.
_MOST_INTERFACES = 4


class Node(NamedTuple):
    """A NUMA node and its CPUs, as the kernel writes lists."""

    number: int
    cpus: str


class Interface(NamedTuple):
    """A network interface: receive queues, and the NUMA node of its card where it has one."""

    name: str
    queues: int
    node: int | None


def nodes(sys: Path = SYS) -> list[Node]:
    """The NUMA nodes of this machine."""
    found = []
    for folder in (sys / "devices/system/node").glob("node[0-9]*"):
        cpus = _read(folder / "cpulist")
        if cpus:
            found.append(Node(int(folder.name.removeprefix("node")), cpus))
    return sorted(found)


def interfaces(address: str, sys: Path = SYS, proc: Path = PROC) -> list[Interface]:
    """Those that carry packets to an address of this host; for a wildcard all that have a link, without loopback."""
    host, _, zone = address.partition("%")
    at = ipaddress.ip_address(host)
    names = sorted(path.name for path in (sys / "class/net").glob("*") if zone in ("", path.name))
    if at.is_unspecified:
        linked = [name for name in names if name != "lo" and _read(sys / "class/net" / name / "carrier") == "1"]
        return [_interface(name, sys) for name in linked]
    if at.is_loopback:
        return [_interface(name, sys) for name in names if name == "lo"]
    has = _has_v4 if at.version == 4 else _has_v6
    return [_interface(name, sys) for name in names if has(name, at.packed, proc)]


def _interface(name: str, sys: Path) -> Interface:
    queues = len(list((sys / "class/net" / name / "queues").glob("rx-*")))
    node = _read(sys / "class/net" / name / "device/numa_node")
    # -1: the card belongs to no node.
    return Interface(name, queues, int(node) if re.fullmatch(r"\d+", node) else None)


def _has_v4(name: str, packed: bytes, _: Path) -> bool:
    """Whether it is the interface's first address; this call returns no others."""
    asked = struct.pack("256s", name.encode()[:15])
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            return fcntl.ioctl(any_socket.fileno(), _SIOCGIFADDR, asked)[20:24] == packed
    except OSError:
        return False


def _has_v6(name: str, packed: bytes, proc: Path) -> bool:
    lines = (line.split() for line in _read(proc / "net/if_inet6").splitlines())
    return any(len(words) == 6 and words[5] == name and words[0] == packed.hex() for words in lines)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError):
        return ""


def sentence(address: str, sys: Path = SYS, proc: Path = PROC) -> str:
    """All of it in one line; empty where nothing is known."""
    reported = [f"NUMA node {node.number} has CPUs {node.cpus}" for node in nodes(sys)]
    for interface in interfaces(address, sys, proc)[:_MOST_INTERFACES]:
        queues = "1 RX queue" if interface.queues == 1 else f"{interface.queues} RX queues"
        node = "" if interface.node is None else f" on node {interface.node}"
        reported.append(f"{interface.name} has {queues}{node}")
    return "; ".join(reported)


def far_cpus(address: str, cpus: Sequence[int], sys: Path = SYS, proc: Path = PROC) -> list[int]:
    """Which of the CPUs lie on another node than every card that carries packets to the address."""
    near = {interface.node for interface in interfaces(address, sys, proc)} - {None}
    at = {cpu: node.number for node in nodes(sys) for cpu in _cpus(node.cpus)}
    return [cpu for cpu in cpus if near and cpu in at and at[cpu] not in near]


def _cpus(text: str) -> tuple[int, ...]:
    try:
        return units.cpu_list(text)
    except UsageError:
        return ()
