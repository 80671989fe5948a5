"""Answers in the network driver (XDP): which interface, how, and what is said when it is not possible."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Literal, NamedTuple

from flatout import arguments
from flatout._engine import Server as _Server
from flatout.errors import UsageError
from flatout.host import route
from flatout.host.tuning import ethtool
from flatout.protocols.base import Protocol
from flatout.server.listening import Listening

Xdp = Literal["off", "auto", "native", "generic"]
# A peer of veth without a program of its own does not take what the driver sends (Linux 6.18: even with GRO).
_UNSURE_PEERS = ("veth",)
# Why the driver gives no answer, as the sockets name it.
_REFUSED = ("denied", "rate_limited", "over_budget")
_ANYWHERE = (IPv4Address("192.0.2.1"), IPv6Address("2001:db8::1"))


class Choice(NamedTuple):
    """What to start: `plan` as the engine takes it (interface, generic or not in turn, required, replace) or None.

    `interface`: its name; `notes`: why it is so.
    """

    plan: tuple[int, list[bool], bool, bool] | None = None
    interface: str | None = None
    notes: tuple[str, ...] = ()


def choice(xdp: str, protocol: Protocol, where: Listening, interface: str | None, *, replace: bool = False) -> Choice:
    """What `xdp` asks for; `replace`: a program of others is detached.

    Errors: UsageError where it is asked for by name and cannot be had.
    """
    wanted = arguments.word("xdp", xdp, ("off", "auto", "native", "generic"))
    replace = arguments.switch("xdp_replace", replace)
    if wanted == "off":
        if replace:
            raise UsageError("xdp_replace: there is nothing to attach: give xdp, too")
        return Choice()
    if not protocol.driver:
        raise UsageError(f"xdp: {protocol.name} is not answered in the network driver")
    try:
        return _chosen(wanted, where, interface, replace)
    except UsageError as error:
        if wanted != "auto":
            raise
        return Choice(notes=(f"xdp: sockets answer: {str(error).removeprefix('xdp: ')}",))


def _chosen(wanted: str, where: Listening, interface: str | None, replace: bool) -> Choice:
    """Errors: UsageError."""
    if where.endpoints and all(at.address.is_loopback for at in where.endpoints):
        raise UsageError("xdp: 127.0.0.1 and ::1 are reached by no driver: listen on another address")
    if any(_is_bound(descriptor) for descriptor in where.descriptors):
        raise UsageError("xdp: sockets with BindToDevice= answer by one interface: leave that out of the socket unit")
    name = interface or _interface()
    driver = driver_of(name)
    if name == "lo" or (not driver and wanted == "native"):
        raise UsageError(f"xdp: interface '{name}' has no driver")
    notes: tuple[str, ...] = ()
    if wanted == "auto":
        modes = [True] if driver in _UNSURE_PEERS else [False, True]
        if driver in _UNSURE_PEERS:
            notes = (f"xdp: {name} is {driver}: native would need an XDP program at its peer, so it is generic",)
    else:
        modes = [wanted == "generic"]
        if driver in _UNSURE_PEERS and wanted == "native":
            notes = (f"xdp: {name} is {driver}: without an XDP program at its peer answers are lost there",)
    try:
        index = socket.if_nametoindex(name)
    except OSError as error:
        raise UsageError(f"xdp: interface '{name}' is gone") from error
    return Choice((index, modes, wanted != "auto", replace), name, notes)


def driver_of(interface: str) -> str:
    """The interface's driver; empty where it has none."""
    return ethtool.driver(interface, ethtool.ioctl)


def _is_bound(descriptor: int) -> bool:
    with socket.socket(fileno=os.dup(descriptor)) as borrowed:
        return any(borrowed.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16))


def _interface(net: Path = route.NET) -> str:
    """The interface of this host that is not named: its only one, or that of its default route. Errors: UsageError."""
    below = _vlans(net)
    names = [name for _, name in socket.if_nameindex()]
    there = [name for name in names if name != "lo" and name not in below]
    up = [name for name in there if route.is_up(name)]
    if len(there) == 1 or len(up) == 1:
        return (up or there)[0]
    routes = (route.towards(address, net=net) for address in _ANYWHERE)
    devices = (below.get(found.device, found.device) for found in routes if found is not None)
    default = next((device for device in devices if device in there), None)
    if not there:
        raise UsageError("xdp: this host has no interface but lo")
    if default is None:
        raise UsageError(f"xdp: name the interface; this host has {', '.join(there)}")
    return default


def _vlans(net: Path) -> dict[str, str]:
    """Of each VLAN's device the one below, whose frames have the tags."""
    try:
        table = (net / "vlan" / "config").read_text(encoding="ascii")
    except OSError:
        return {}
    rows = [[word.strip() for word in line.split("|")] for line in table.splitlines()[2:]]
    return {row[0]: row[2] for row in rows if len(row) == 3}


def explained(why: str) -> str:
    """The engine's reason, and the flag that helps."""
    return f"{why}; --xdp-replace detaches it" if "another XDP program is attached" in why else why


class Driver:
    """The program of one running server, where `xdp` was asked for."""

    def __init__(self, choice: Choice, engine: _Server) -> None:
        self._choice = choice
        self._engine = engine

    @property
    def notes(self) -> list[str]:
        """How it runs and why, or why it does not."""
        mode, why = self._engine.driver
        if self._choice.plan is None:
            return list(self._choice.notes)
        if not mode:
            return [f"xdp: sockets answer: {explained(why)}"]
        return [*self._choice.notes, f"xdp: {self._choice.interface}, {mode}", *([f"xdp: {why}"] if why else [])]

    def stats(self) -> dict[str, Any]:
        """{interface, mode, answered, kissed, sent_bytes, clients_forgotten, dropped {}, passed {}}; both by reason.

        `mode` "off": sockets answer everything.
        """
        counted = dict(self._engine.driver_counters() or {})
        refused = dict(self._engine.driver_refusals() or {})
        mode, _ = self._engine.driver
        numbers = {name: counted.pop(name, 0) for name in ("answered", "sent_bytes")}
        numbers |= {name: refused.pop(name, 0) for name in ("kissed", "clients_forgotten")}
        dropped = {reason: refused.get(reason, 0) for reason in _REFUSED}
        return {
            "interface": self._choice.interface,
            "mode": mode or "off",
            **numbers,
            "dropped": dropped,
            "passed": counted,
        }


def of_driver(engine: _Server) -> dict[str, int]:
    """The driver's part of an engine's sums; empty where it has none. What it passed up, the sockets have received."""
    counted = engine.driver_counters()
    if counted is None:
        return {}
    refused = dict(engine.driver_refusals() or {})
    dropped = sum(refused.get(reason, 0) for reason in _REFUSED)
    sums = {name: counted[name] for name in ("answered", "sent_bytes")}
    sums |= {name: refused.get(name, 0) for name in ("kissed", "clients_forgotten")}
    return {**sums, "received": counted["answered"] + dropped, "dropped": dropped}


def joined(totals: Mapping[str, int], added: Mapping[str, int]) -> dict[str, int]:
    """Counters of the sockets and the driver's with the same names."""
    return {name: count + added.get(name, 0) for name, count in totals.items()}
