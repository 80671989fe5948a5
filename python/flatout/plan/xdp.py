"""What the engine needs to send by the driver of an interface: who sends how, from where, over which next hop."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from flatout.errors import ArgumentError, UsageError
from flatout.host import xdp as host
from flatout.plan.addresses import Endpoint
from flatout.result.machine import XdpLink
from flatout.scenario.model import Scenario

_PROC_NET = Path("/proc/thread-self/net")
_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST_PORT, _END = 1024, 65536


class XdpPlan(msgspec.Struct, frozen=True, kw_only=True):
    """An interface and what frames need; `crates/engine/src/plan.rs` has the same names."""

    interface: int
    mode: Literal["native", "generic"]
    queues: int
    source_mac: list[int]
    next_hop_macs: list[list[int]]
    sources: list[str]
    first_port: int
    ports: int
    mtu: int
    transmit: Literal["live", "af_xdp"]


def check(scenario: Scenario) -> None:
    """Errors: UsageError for settings that do not go with a link."""
    if scenario.link == "socket":
        for name in ("interface", "gateway_mac"):
            if getattr(scenario, name) is not None:
                raise UsageError(f"--{name.replace('_', '-')} is for frames that the driver sends: add --link xdp")
        return
    unfit = [
        ("connections", scenario.streams),
        ("--arrivals ping-pong", scenario.ping_pong),
        ("--gso", scenario.gso),
        ("--stamps user", scenario.stamps == "user"),
        ("--threads", scenario.threads != 1),
    ]
    for what, asked in unfit:
        if asked:
            raise UsageError(f"--link xdp sends datagrams on a schedule, from one thread: leave {what} out")


def resolve(
    scenario: Scenario, targets: Sequence[Endpoint], sources: Sequence[Endpoint], netlink: host.Netlink | None = None
) -> tuple[XdpPlan | None, XdpLink | None, list[str]]:
    """The plan, what the result says of it, and notes; none of them over sockets.

    Errors: UsageError, TargetError where no next hop is found.
    """
    if scenario.link == "socket":
        return None, None, []
    netlink = netlink or host.Netlink()
    hops = [_hop(target, scenario, netlink) for target in targets]
    if len({hop.interface for hop in hops}) > 1:
        raise UsageError("the targets are reached by several interfaces, and --link xdp sends by one: name one target")
    interface = host.look(hops[0].interface, netlink)
    _check_interface(interface)
    mode, transmit = _chosen(interface)
    macs = [_mac(hop, scenario, interface, netlink) for hop in hops]
    addresses = [source.address for source in sources] or [_own(hops[0], targets[0])]
    each = -(-scenario.flows // len(addresses))
    first = free_ports(each, _used_ports(), _local_ports())
    plan = XdpPlan(
        interface=interface.number,
        mode=mode,
        queues=interface.queues,
        source_mac=list(interface.mac),
        next_hop_macs=[list(mac) for mac in macs],
        sources=[str(address) for address in addresses],
        first_port=first,
        ports=each,
        mtu=interface.mtu,
        transmit=transmit,
    )
    link = XdpLink(
        interface=interface.name,
        kind=interface.kind,
        mode=mode,
        transmit=transmit,
        queues=interface.queues,
        next_hops=[mac.hex(":") for mac in macs],
        ports=[first, first + each - 1],
    )
    return plan, link, _notes(interface, mode, transmit)


def _hop(target: Endpoint, scenario: Scenario, netlink: host.Netlink) -> host.Hop:
    index = target.scope or None
    if scenario.interface is not None:
        try:
            index = socket.if_nametoindex(scenario.interface)
        except OSError as error:
            raise ArgumentError("interface", f"={scenario.interface!r}: there is no such interface here") from error
    hop = netlink.route(target.address, index)
    if hop is None:
        over = f" over {scenario.interface}" if scenario.interface else ""
        raise UsageError(f"there is no route to {target.host}{over}")
    if hop.local or target.address.is_loopback:
        raise UsageError(f"{target.host} is this host's own: frames to it do not leave by a driver; use --link socket")
    return hop


def _check_interface(interface: host.XdpInterface) -> None:
    if not interface.up:
        raise UsageError(f"{interface.name} is down, or has no carrier")
    if interface.program is not None:
        raise UsageError(
            f"{interface.name} has an XDP program already (number {interface.program}), which is left alone: "
            f"`ip link set dev {interface.name} xdp off`, or `bpftool net` shows whose it is"
        )


def _chosen(interface: host.XdpInterface) -> tuple[Literal["native", "generic"], Literal["live", "af_xdp"]]:
    """Native where the driver has it; live frames where it sends others', unless it reads ours without a copy."""
    if not interface.native:
        return "generic", "af_xdp"
    features = interface.features
    live = features is not None and features.transmits and not features.zero_copy
    return "native", "live" if live else "af_xdp"


def _mac(hop: host.Hop, scenario: Scenario, interface: host.XdpInterface, netlink: host.Netlink) -> bytes:
    if scenario.gateway_mac is None:
        return host.resolved(hop.next_hop, interface, netlink)
    return host.parse_mac(scenario.gateway_mac)


def _own(hop: host.Hop, target: Endpoint) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    if hop.source is None:
        raise UsageError(f"the route to {target.host} names no address to send from: give --sources")
    return hop.source


def free_ports(count: int, used: set[int], local: tuple[int, int]) -> int:
    """The first of `count` ports in a row that no socket has, outside the kernel's own range where they fit there.

    Errors: UsageError where there are none.
    """
    low, high = local
    for begin, end in ((high + 1, _END), (_FIRST_PORT, low), (_FIRST_PORT, _END)):
        first = begin
        for port in (*sorted(port for port in used if begin <= port < end), end):
            if port - first >= count:
                return first
            first = port + 1
    raise UsageError(f"no {count:,} ports in a row are free: more --sources need fewer each")


def _local_ports() -> tuple[int, int]:
    try:
        low, high = map(int, _PORT_RANGE.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return 32768, 60999
    return low, high


def _used_ports() -> set[int]:
    """Ports of this host's UDP sockets, in this network namespace."""
    used: set[int] = set()
    for name in ("udp", "udp6"):
        try:
            rows = (_PROC_NET / name).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        used |= {int(row.split()[1].rpartition(":")[2], 16) for row in rows}
    return used


def _notes(interface: host.XdpInterface, mode: str, transmit: str) -> list[str]:
    how = "live frames" if transmit == "live" else "an AF_XDP socket"
    notes = [f"--link xdp: {interface.text}. Chosen: {mode} mode, sent by {how}"]
    if interface.kind == "veth" and transmit != "live":
        notes.append(
            "the other end of this veth has no XDP program and no GRO, so its driver takes no frames past the kernel's "
            "queues: with either of them (ethtool -K DEVICE gro on) it is several times faster"
        )
    if interface.mtu > host.LONGEST_NATIVE and mode == "native":
        notes.append(f"the MTU of {interface.mtu} may be too large for native mode")
    return notes
