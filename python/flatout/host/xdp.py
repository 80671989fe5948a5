"""What an interface can do for XDP, and what frames to a target need: its route, its next hop's hardware address.

Sources: rtnetlink (RTM_GETROUTE, RTM_GETNEIGH, RTM_GETLINK with IFLA_XDP) and the netdev family's NETDEV_CMD_DEV_GET
(include/uapi/linux/netdev.h, Linux 6.3), read by pyroute2; queues from /sys/class/net. All of this thread's network
namespace, without privileges.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from flatout.errors import TargetError, UsageError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
SYS_NET = Path("/sys/class/net")
# enum netdev_xdp_act.
_BASIC, _REDIRECT, _NDO_XMIT, _ZERO_COPY = 0x01, 0x02, 0x04, 0x08
_UP, _LOOPBACK, _LOWER_UP = 0x1, 0x8, 0x10000
# NUD_REACHABLE, STALE, DELAY, PROBE, NOARP, PERMANENT: a hardware address is known.
_KNOWN = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80
_ETHERNET = 1
_DISCARD = 9
_RESOLVE_S, _LOOK_S = 1.0, 0.02
# The largest MTU of native mode in drivers with a page a packet, such as veth and virtio, bytes.
LONGEST_NATIVE = 3506
# Devices on top of others, which programs do not see as a driver's.
_UPPER = ("vlan", "bridge", "bond", "team", "macvlan", "ipvlan", "macsec")


class Features(NamedTuple):
    """What a driver says that it has."""

    native: bool
    transmits: bool
    zero_copy: bool


class XdpInterface(NamedTuple):
    """An interface as XDP sees it; `features` None: the kernel does not say; `program` is one that is attached."""

    name: str
    number: int
    kind: str
    mac: bytes
    mtu: int
    up: bool
    queues: int
    program: int | None
    features: Features | None

    @property
    def native(self) -> bool:
        """Whether its driver runs programs, as far as is known."""
        return self.features is None or self.features.native

    @property
    def text(self) -> str:
        """What it can do, in one line."""
        if self.features is None:
            can = "what its driver can do is unknown (Linux before 6.3)"
        elif not self.features.native:
            can = "its driver has no XDP: programs run above it (generic)"
        else:
            copies = "zero copy" if self.features.zero_copy else "no zero copy"
            sends = "sends others' frames" if self.features.transmits else "sends no others' frames"
            can = f"native, {sends}, {copies}"
        queues = f"{self.queues} receive queue{'s'[: self.queues > 1]}"
        return f"{self.name} ({self.kind or 'device'}): {can}; {queues}"


class Hop(NamedTuple):
    """The way to a target: the interface's number, the address to send from, whom frames are handed to."""

    interface: int
    source: Address | None
    next_hop: Address
    local: bool


class Netlink:
    """The questions to the kernel; tests have others."""

    def route(self, target: Address, interface: int | None) -> Hop | None:
        """The way to a target, over an interface or as the kernel chooses; None: there is none."""
        from pyroute2 import IPRoute

        only = {} if interface is None else {"oif": interface}
        kernel: Any
        with IPRoute() as kernel:
            try:
                found = kernel.route("get", dst=str(target), **only)
            except Exception:  # pyroute2's own errors are of no common kind
                return None
        return hop_of(target, found[0]) if found else None

    def link(self, index: int) -> Any:
        """The message of a link."""
        from pyroute2 import IPRoute

        kernel: Any
        with IPRoute() as kernel:
            return next(iter(kernel.get_links(index)))

    def mac(self, hop: Address, interface: int) -> bytes | None:
        """The hardware address of a neighbour, if it is known."""
        from pyroute2 import IPRoute

        family = socket.AF_INET if hop.version == 4 else socket.AF_INET6
        kernel: Any
        with IPRoute() as kernel:
            found = list(kernel.get_neighbours(family=family, ifindex=interface))
        return mac_of(hop, found)

    def features(self, index: int) -> Features | None:
        """What the driver says; None where the kernel has no such family."""
        try:
            return _features(index)
        except Exception:  # pyroute2's own errors are of no common kind
            return None

    def ask(self, hop: Address, interface: str) -> None:
        """Has the kernel look for a neighbour's hardware address: by a datagram to its discard port (RFC 863)."""
        family = socket.AF_INET if hop.version == 4 else socket.AF_INET6
        with socket.socket(family, socket.SOCK_DGRAM) as asking, contextlib.suppress(OSError):
            scope = (0, socket.if_nametoindex(interface)) if hop.version == 6 else ()
            asking.sendto(b"", (str(hop), _DISCARD, *scope))


def hop_of(target: Address, route: Any) -> Hop:
    """The way in the kernel's answer."""
    gateway, source = route.get_attr("RTA_GATEWAY"), route.get_attr("RTA_PREFSRC")
    return Hop(
        interface=route.get_attr("RTA_OIF"),
        source=ipaddress.ip_address(source) if source else None,
        next_hop=ipaddress.ip_address(gateway) if gateway else target,
        # RTN_LOCAL.
        local=route["type"] == 2,
    )


def mac_of(hop: Address, neighbours: list[Any]) -> bytes | None:
    """The hardware address in the kernel's list of neighbours."""
    for one in neighbours:
        if one["state"] & _KNOWN and one.get_attr("NDA_DST") == str(hop) and one.get_attr("NDA_LLADDR"):
            return parse_mac(one.get_attr("NDA_LLADDR"))
    return None


def _features(index: int) -> Features | None:
    from pyroute2.netlink import NLM_F_REQUEST, genlmsg
    from pyroute2.netlink.generic import GenericNetlinkSocket

    class Device(genlmsg):  # type: ignore[misc]
        nla_map = (
            ("NETDEV_A_DEV_UNSPEC", "none"),
            ("NETDEV_A_DEV_IFINDEX", "uint32"),
            ("NETDEV_A_DEV_PAD", "none"),
            ("NETDEV_A_DEV_XDP_FEATURES", "uint64"),
        )

    with GenericNetlinkSocket() as kernel:
        kernel.bind("netdev", Device)
        question = Device()
        # NETDEV_CMD_DEV_GET.
        question["cmd"], question["version"] = 1, 1
        question["attrs"] = [("NETDEV_A_DEV_IFINDEX", index)]
        reported = list(kernel.nlm_request(question, msg_type=kernel.prid, msg_flags=NLM_F_REQUEST))
    return features_of(reported[0].get_attr("NETDEV_A_DEV_XDP_FEATURES")) if reported else None


def features_of(bits: int | None) -> Features | None:
    """The driver's features from enum netdev_xdp_act."""
    if bits is None:
        return None
    both = _BASIC | _REDIRECT
    return Features(bits & both == both, bool(bits & _NDO_XMIT), bool(bits & _ZERO_COPY))


def parse_mac(text: str) -> bytes:
    """Six bytes of `02:00:00:00:00:01`. Errors: ValueError."""
    parts = text.replace("-", ":").split(":")
    if len(parts) != 6 or not all(1 <= len(part) <= 2 for part in parts):
        raise ValueError(text)
    return bytes(int(part, 16) for part in parts)


def look(index: int, netlink: Netlink, sys_net: Path = SYS_NET) -> XdpInterface:
    """An interface. Errors: UsageError where it can carry no frames of ours."""
    link = netlink.link(index)
    name, flags = link.get_attr("IFLA_IFNAME"), link["flags"]
    information = link.get_attr("IFLA_LINKINFO")
    kind = (information.get_attr("IFLA_INFO_KIND") if information else None) or ""
    if flags & _LOOPBACK:
        raise UsageError(f"{name} is the loopback interface, which frames do not leave: use --link socket")
    if kind in _UPPER:
        raise UsageError(f"{name} is a {kind} on top of another interface: name that one by --interface")
    if link["ifi_type"] != _ETHERNET or not link.get_attr("IFLA_ADDRESS"):
        raise UsageError(f"{name} is no Ethernet interface: use --link socket")
    attached = link.get_attr("IFLA_XDP")
    return XdpInterface(
        name=name,
        number=index,
        kind=kind,
        mac=parse_mac(link.get_attr("IFLA_ADDRESS")),
        mtu=link.get_attr("IFLA_MTU"),
        up=bool(flags & _UP) and bool(flags & _LOWER_UP),
        queues=queues_of(sys_net / name) or link.get_attr("IFLA_NUM_RX_QUEUES") or 1,
        program=attached.get_attr("IFLA_XDP_PROG_ID") if attached else None,
        features=netlink.features(index),
    )


def named(name: str) -> XdpInterface:
    """An interface of this network namespace. Errors: OSError without one, UsageError as `look`."""
    return look(socket.if_nametoindex(name), Netlink())


def queues_of(directory: Path) -> int:
    """The receive queues in use, by a directory in /sys/class/net; 0: not reported here."""
    return len(list((directory / "queues").glob("rx-*")))


def resolved(
    hop: Address,
    interface: XdpInterface,
    netlink: Netlink,
    clock: Callable[[], float] = time.monotonic,
    rest: Callable[[float], object] = time.sleep,
) -> bytes:
    """The hardware address of a next hop; the kernel is made to ask for it. Errors: TargetError after 1 s."""
    end = clock() + _RESOLVE_S
    asked = False
    while True:
        found = netlink.mac(hop, interface.number)
        if found is not None:
            return found
        if not asked:
            netlink.ask(hop, interface.name)
            asked = True
        if clock() >= end:
            raise TargetError(
                f"{hop} does not tell its hardware address on {interface.name} (by "
                f"{'ARP' if hop.version == 4 else 'NDP'}): is it there? --gateway-mac gives one"
            )
        rest(_LOOK_S)
