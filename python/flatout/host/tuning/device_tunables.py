"""Settings of network devices and CPUs: channels, rings, flow hash, interrupts, RPS, XPS. Data only.

A new setting is one entry here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from flatout.host.tuning import ethtool
from flatout.host.tuning.aim import Aim, Device, Machine
from flatout.host.tuning.rules import AtLeast, CpuMask, Letters, Moderated, Named, OneCpu, OneOf, Rule
from flatout.host.tuning.system import IRQBALANCE, System
from flatout.host.tuning.tunable import Tunable, between, power_of_two, sysctl

Keys = Callable[[System, Machine], Sequence[str]]

_RFS_FLOWS = 32_768
# What a ring has to hold while its CPU does something else.
_RING_STALL_S, _RING_LEAST = 0.002, 1024
_QUEUE_STALL_S = 0.01
_USUAL_RATE = 100_000.0
# Of the interrupts of a device those of a queue, as drivers name them: eth0-TxRx-0, virtio2-input.0, mlx5_comp0@pci:…
_QUEUE = re.compile(
    r"(?:tx-?rx|rx-?tx|rx|tx|comp|input|output|ntfy-block|ntfy-blk|fp|queue|q)[-.]?(\d+)", re.I | re.ASCII
)


# --- What is wanted ---


def _channels(_: Aim, machine: Machine, key: str) -> Rule | None:
    """A queue for each CPU, as far as the device has them; where it has two kinds in use somebody has chosen."""
    kinds = machine.devices[_interface(key)].channels
    mixed = kinds.get("combined", (0, 0))[0] and (kinds.get("rx", (0, 0))[0] or kinds.get("tx", (0, 0))[0])
    cpus = 0 if mixed else len(machine.cpus)
    return Named(tuple((kind, min(cpus, most)) for kind, (_, most) in kinds.items()))


def _ring(aim: Aim, machine: Machine, key: str) -> Rule | None:
    device = machine.devices[_interface(key)]
    most = device.ring[1] if device.ring else 0
    packets = power_of_two((aim.rate_per_s or _USUAL_RATE) * _RING_STALL_S / max(_receive_queues(device, machine), 1))
    return Named((("rx", min(between(packets, _RING_LEAST, 8192), most)),))


def _flow_hash(_: Aim, machine: Machine, key: str) -> Rule | None:
    """Ports matter where there are several queues to spread over."""
    return Letters("sdfn") if _receive_queues(machine.devices[_interface(key)], machine) > 1 else None


def _irq(_: Aim, machine: Machine, key: str) -> Rule | None:
    found = _QUEUE.search(key.split(":", 2)[2])
    if found is None or len(machine.cpus) < 2:
        return None
    return OneCpu(machine.cpus[int(found[1]) % len(machine.cpus)], machine.cpus)


def _rps(_: Aim, machine: Machine, __: str) -> Rule | None:
    return CpuMask(machine.cpus) if len(machine.cpus) > 1 else None


def _xps(_: Aim, machine: Machine, key: str) -> Rule | None:
    """There are as many queues as CPUs: each has one, by its number in the key."""
    found = re.search(r"/tx-(\d+)/", key)
    number = int(found[1]) if found else 0
    own = machine.cpus[number : number + 1]
    return CpuMask(own) if own else None


def _send_queue(aim: Aim, _: Machine, __: str) -> Rule:
    return AtLeast((between(int((aim.rate_per_s or _USUAL_RATE) * _QUEUE_STALL_S), 1000, 10_000),))


def _few_channels(machine: Machine, key: str) -> str:
    most = max((most for _, most in machine.devices[_interface(key)].channels.values()), default=0)
    cpus = len(machine.cpus)
    return f"the device has {most} at most, and this host {cpus} CPUs" if most < cpus else ""


def _short_ring(machine: Machine, key: str) -> str:
    ring = machine.devices[_interface(key)].ring
    return f"the device holds {ring[1]:,} at most" if ring is not None and ring[1] < _RING_LEAST else ""


# --- Where it is ---


def _interface(key: str) -> str:
    return key.split(":")[1]


def _receive_queues(device: Device, machine: Machine) -> int:
    """Receive queues of a device once its channels are as wanted."""
    now, most = max((device.channels.get(kind, (0, 0)) for kind in ("rx", "combined")), default=(0, 0))
    return max(device.receive_queues, now, min(most, len(machine.cpus)))


def _by_ethtool(what: str) -> Keys:
    return lambda _, machine: [f"ethtool:{name}:{what}" for name in machine.devices]


def _of_receive_queues(file: str) -> Keys:
    """A file of each receive queue, where CPUs are more than queues.

    A veth has no interrupt: what it receives is handled by the CPU of the sender, however many queues there are.
    """

    def keys(system: System, machine: Machine) -> list[str]:
        cpus = len(machine.cpus)
        few = [
            name
            for name, one in machine.devices.items()
            if one.driver == "veth" or _receive_queues(one, machine) < cpus
        ]
        return [key for name in few for key in system.keys(f"/sys/class/net/{name}/queues/rx-*/{file}")]

    return keys


def _of_send_queues(system: System, machine: Machine) -> list[str]:
    """The map of each queue where there is one for each of several CPUs."""
    names = [name for name, one in machine.devices.items() if 1 < one.send_queues == len(machine.cpus)]
    return [key for name in names for key in system.keys(f"/sys/class/net/{name}/queues/tx-*/xps_cpus")]


def _interrupts(system: System, machine: Machine) -> list[str]:
    return [key for name in machine.devices for key in system.interrupts(name)]


def _balancer(system: System, machine: Machine) -> list[str]:
    return [IRQBALANCE] if _interrupts(system, machine) else []


_WHY_HASH = "clients of one address, and one client by many ports, are spread over all queues"
_RISK_HASH = "fragments of a datagram may be reordered"

TUNABLES = (
    # First: the queues of the others follow from them.
    Tunable(
        "channels",
        _by_ethtool(ethtool.CHANNELS),
        _channels,
        "a queue and an interrupt for each CPU: otherwise one CPU receives all packets",
        "the link may be down for a second; a table of RSS that somebody has set may be reset",
        short=_few_channels,
    ),
    Tunable(
        "receive ring",
        _by_ethtool(ethtool.RX_RING),
        _ring,
        "packets that wait in the device while its CPU is busy, 2 ms of the rate; more are dropped (rx_missed_errors)",
        "the link may be down for a second; a ring that is larger than the cache is slower to read",
        short=_short_ring,
    ),
    *(
        Tunable(
            f"{what.replace('-', ' flow ')}",
            _by_ethtool(what),
            _flow_hash,
            _WHY_HASH,
            _RISK_HASH,
            ("server",),
            ("udp",),
        )
        for what in ethtool.HASHES
    ),
    Tunable(
        "IRQ affinity",
        _interrupts,
        _irq,
        "each queue is handled by a CPU of its own, and stays there: in its cache, and where measured",
        "this CPU has to do it, however busy it is",
    ),
    Tunable(
        "irqbalance",
        _balancer,
        lambda *_: OneOf(("not running",)),
        "it moves interrupts while you measure, and undoes their affinity",
        "interrupts stay where they are",
        advice="left to you: systemctl stop irqbalance",
    ),
    Tunable(
        "interrupt coalescing",
        _by_ethtool(ethtool.COALESCING),
        lambda *_: Moderated(50),
        "fewer interrupts, each for more packets",
        "a packet waits as long; for the lowest latency it is 0 to 10",
        advice="left to you, for it trades latency for rate: ethtool -C IF rx-usecs 50",
    ),
    Tunable(
        "rps_cpus",
        _of_receive_queues("rps_cpus"),
        _rps,
        "one queue keeps one CPU busy with the kernel's part: RPS spreads it over all",
        "interrupts between CPUs; where another CPU is left to the application alone, undo it",
        roles=("server",),
    ),
    Tunable(
        "net.core.rps_sock_flow_entries",
        sysctl("net.core.rps_sock_flow_entries"),
        lambda _, machine, __: AtLeast((_RFS_FLOWS,)) if len(machine.cpus) > 1 else None,
        "RFS: packets of a connection go to the CPU where its thread runs",
        "4 B each",
        roles=("server",),
        transports=("tcp",),
    ),
    Tunable(
        "rps_flow_cnt",
        _of_receive_queues("rps_flow_cnt"),
        lambda *_: AtLeast((_RFS_FLOWS,)),
        "RFS, the part of each receive queue",
        "memory",
        roles=("server",),
        transports=("tcp",),
    ),
    Tunable(
        "xps_cpus",
        _of_send_queues,
        _xps,
        "each CPU sends by a queue of its own, without a shared lock",
        "none known",
    ),
    Tunable(
        "txqueuelen",
        lambda _, machine: [f"/sys/class/net/{name}/tx_queue_len" for name in machine.devices],
        _send_queue,
        "a burst waits in the qdisc instead of being dropped, 10 ms of the rate; fq and noqueue take no notice of it",
        "latency of what waits",
        roles=("client",),
    ),
    Tunable(
        "scaling_governor",
        lambda system, _: system.keys("/sys/devices/system/cpu/cpufreq/policy*/scaling_governor"),
        lambda *_: OneOf(("performance",)),
        "the clock of a CPU does not have to rise first",
        "power",
    ),
)
