"""What a host is to be good at, and what of the machine decides which settings that needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import msgspec

Role = Literal["server", "client"]
Transport = Literal["udp", "tcp"]


class Aim(msgspec.Struct, frozen=True, kw_only=True):
    """The use of a host. `connections`: over UDP, clients or flows; null where the number is not known.

    `rate_per_s`: messages a second; `ports`: those of the service, here (server) or at the far end (client).
    `interface`: the network device that carries them; null: that of the default route, else all with a link.
    """

    role: Role
    transport: Transport
    connections: int | None = None
    rate_per_s: float | None = None
    ports: list[int] = []
    interface: str | None = None


class Device(NamedTuple):
    """A network device: its driver, its queues by number, its channels by kind and its receive ring (now, most)."""

    driver: str
    receive_queues: int
    send_queues: int
    channels: Mapping[str, tuple[int, int]]
    ring: tuple[int, int] | None


class Machine(NamedTuple):
    """The machine: online CPUs, memory and page size in bytes, the devices that matter.

    `tracks`: whether the kernel tracks connections now; None where only root may see that.
    """

    cpus: tuple[int, ...]
    memory_bytes: int
    page_bytes: int
    tracks: bool | None
    devices: Mapping[str, Device] = {}
