"""What network devices can do for programs in their driver (XDP), as a setting of a check. Changes nothing.

`serve --xdp` and `--link xdp` take an interface as it is: what would make it faster is for people to set.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from flatout.errors import FlatoutError
from flatout.host.tuning.aim import Device, Machine
from flatout.host.tuning.system import System, because
from flatout.host.xdp import LONGEST_NATIVE, XdpInterface

NAME = "XDP"
WHY = "serve --xdp answers and --link xdp asks in the driver, before the kernel makes a packet of each datagram"
RISK = "past packet filters, tcpdump and other programs that look at packets in the kernel"
_ANSWERS = "answers of serve --xdp native need a program at the other end"


class Support(NamedTuple):
    """What one device has now, what would be wanted, and what hinders."""

    key: str
    now: str | None
    wanted: str | None
    state: Literal["ok", "advice", "absent"]
    blocked: str


def support(machine: Machine, system: System) -> list[Support]:
    """One for each device that carries the messages."""
    return [_of(name, device, machine, system) for name, device in machine.devices.items()]


def _of(name: str, device: Device, machine: Machine, system: System) -> Support:
    key = f"xdp:{name}:driver"
    try:
        found = system.xdp(name)
    except FlatoutError as error:
        return Support(key, None, None, "absent", str(error))
    except (OSError, ValueError) as error:
        return Support(key, None, None, "absent", because(error))
    except ImportError:
        return Support(key, None, None, "absent", "the Python package pyroute2 is not installed")
    now = _now(found)
    if found.features is None:
        return Support(key, now, now, "absent", "what its driver can do is not reported before Linux 6.3: try it")
    if not found.features.native:
        return Support(key, now, now, "absent", "its driver runs no programs; the kernel does behind it, more slowly")
    left = _left_to_people(found, device, machine)
    return Support(key, now, "native", "advice" if left else "ok", left or _short(found))


def _now(found: XdpInterface) -> str:
    words = ["native" if found.native else "generic"]
    if found.features is None:
        words = ["unknown"]
    elif found.features.native:
        words += ["sends frames of programs"] if found.features.transmits else []
        words += ["zero copy"] if found.features.zero_copy else []
    words.append(f"{found.queues} queue{'s'[: found.queues > 1]}")
    words += [f"program {found.program}"] if found.program is not None else []
    return ", ".join(words)


def _left_to_people(found: XdpInterface, device: Device, machine: Machine) -> str:
    """What stands in the way of native mode at full speed; empty where nothing shows."""
    if found.program is not None:
        return (
            f"its program (number {found.program}) is left alone, and no second one is attached: `bpftool net` shows "
            f"whose it is, `ip link set dev {found.name} xdp off` detaches it"
        )
    if found.mtu > LONGEST_NATIVE:
        return (
            f"its MTU of {found.mtu:,} may be too large for native mode: ip link set {found.name} mtu {LONGEST_NATIVE}"
        )
    if found.kind == "veth" and found.features is not None and not found.features.transmits:
        return (
            "its other end takes no frames of programs until it has GRO (`ethtool -K DEVICE gro on`, in whichever "
            f"network namespace it is) or a program of its own; {_ANSWERS}"
        )
    return _spare_queues(found, device, machine)


def _short(found: XdpInterface) -> str:
    """What a device does not show."""
    return _ANSWERS if found.kind == "veth" else ""


def _spare_queues(found: XdpInterface, device: Device, machine: Machine) -> str:
    """A virtio card gives programs a queue a CPU to send by, beside those in use; else they share, with a lock."""
    now, most = device.channels.get("combined", (0, 0))
    if device.driver != "virtio_net" or not most or now + len(machine.cpus) <= most:
        return ""
    fewer = most - len(machine.cpus)
    spare = f"virtio needs {len(machine.cpus)} spare queues to send by (one a CPU), and has {most - now}"
    if fewer >= 1:
        return f"{spare}: ethtool -L {found.name} combined {fewer}"
    return f"{spare}: give the machine's network card {now + len(machine.cpus)} queues, or programs share them, slower"
