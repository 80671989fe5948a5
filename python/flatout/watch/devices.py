"""Which devices count what, so that each packet counts once. Pure.

A packet passes several devices where one lies on another. It is counted where it comes from the lowest one, except that
of a bridge's ports only what is for this host comes from the bridge itself; and where it goes to the lowest one.
"""

from __future__ import annotations

from collections.abc import Sequence

from flatout.errors import UsageError
from flatout.host.links import NetworkDevice

# The bits of bpf/watch.bpf.c.
COUNT_IN, COUNT_OUT_RECEIVED, COUNT_OUT = 1, 2, 4
USUAL = COUNT_IN | COUNT_OUT
# Loopback's packets come back from where they go: both directions are seen at once there, for half the cost.
_LOOPBACK = COUNT_IN | COUNT_OUT_RECEIVED
_SWITCHES = ("bridge", "openvswitch")
# What they send goes to a device below once more.
_ABOVE = ("bond", "team", "vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "vrf", "dsa", *_SWITCHES)
# What comes to them is seen at the device below only.
_UNSEEN = ("vlan", "macvlan", "macvtap", "ipvlan", "ipvtap")
_GROUPS = ("bond", "team")


def counted(devices: Sequence[NetworkDevice], chosen: Sequence[str] = ()) -> tuple[list[tuple[int, int]], int]:
    """What counts at each device by its index, and at devices that are not listed. `chosen`: names; none: all.

    Errors: UsageError for a name that is not there, or that sees no packets come.
    """
    if not chosen:
        kinds = {device.number: device.kind for device in devices}
        return [(device.number, _bits(device, kinds)) for device in devices], USUAL
    by_name = {device.name: device for device in devices}
    found: dict[int, int] = {}
    for name in chosen:
        if name not in by_name:
            raise UsageError(f"--interface {name}: there is no such interface (there are: {', '.join(by_name)})")
        found |= _of_chosen(by_name[name], devices)
    return list(found.items()), 0


def _bits(device: NetworkDevice, kinds: dict[int, str]) -> int:
    if device.is_loopback:
        return _LOOPBACK
    bits = USUAL
    if device.kind in _ABOVE and not device.elsewhere:
        bits &= ~COUNT_OUT
    if kinds.get(device.master) in _SWITCHES:
        bits &= ~COUNT_IN
    return bits


def _of_chosen(device: NetworkDevice, devices: Sequence[NetworkDevice]) -> dict[int, int]:
    if device.is_loopback:
        return {device.number: _LOOPBACK}
    if device.kind in _GROUPS:
        return {part.number: USUAL for part in devices if part.master == device.number}
    if device.kind in _UNSEEN:
        below = next((other.name for other in devices if other.number == device.below and not device.elsewhere), None)
        other = f": give --interface {below}" if below else ", which is not in this network namespace"
        raise UsageError(
            f"--interface {device.name}: packets to this {device.kind} are counted where they come from, at the device "
            f"below{other}"
        )
    return {device.number: USUAL}


def unseen(devices: Sequence[NetworkDevice]) -> list[str]:
    """Devices that packets come to without being seen, as those that they lie on are in another namespace."""
    return [device.name for device in devices if device.kind in _UNSEEN and device.elsewhere]
