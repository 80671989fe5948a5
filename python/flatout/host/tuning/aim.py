"""What a host is to be good at, and what of the machine decides which settings that needs."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

Role = Literal["server", "client"]
Transport = Literal["udp", "tcp"]


class Aim(msgspec.Struct, frozen=True, kw_only=True):
    """The use of a host. `connections`: over UDP, clients or flows; null where the number is not known.

    `rate_per_s`: messages a second; `ports`: those of the service, here (server) or at the far end (client).
    """

    role: Role
    transport: Transport
    connections: int | None = None
    rate_per_s: float | None = None
    ports: list[int] = []


class Machine(NamedTuple):
    """The machine: online CPUs, memory and page size in bytes; whether the kernel tracks connections now."""

    cpus: tuple[int, ...]
    memory_bytes: int
    page_bytes: int
    tracks: bool
