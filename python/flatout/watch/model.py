"""The types of `flatout watch --json`: what happened in one second, or in all."""

from __future__ import annotations

from typing import Literal

import msgspec

Direction = Literal["in", "out"]
# Where the kernel drops what comes or goes: the ledger's words where it has one.
DropPlace = Literal[
    "receive_buffer",
    "udp_memory",
    "udp_checksum",
    "port_closed",
    "answer_send_buffer",
    "accept_queue",
    "listen_drops",
    "backlog",
    "device_in",
    "device_out",
    "conntrack",
]


class TalkingPrefix(msgspec.Struct, frozen=True, kw_only=True):
    """A prefix that packets came from (IPv4: /24, IPv6: /48). `share`: of all packets in of that time."""

    prefix: str
    packets: int
    bytes: int
    share: float


class WatchedSocket(msgspec.Struct, frozen=True, kw_only=True):
    """The sockets bound to a port, all together.

    `drops`: what their receive buffers, or accept queues, were too full for. `filled`: how full the fullest is, from 0
    to 1; null: not known.
    """

    sockets: int
    processes: list[str]
    drops: int | None
    filled: float | None


class PortTraffic(msgspec.Struct, frozen=True, kw_only=True):
    """Packets and bytes, with IP headers, to and from a port.

    `bins_in` and `bins_out` are packets in each 1/64 s; `ipv6` is the share of packets in that came over IPv6,
    `responses` packets out for each packet in, or, where the protocol tells them apart, responses for each request;
    `mix` has shares of the requests by name. Null: not known. `whole_host`: the counters are those of all ports of this
    transport in the network namespace.
    """

    port: str
    packets_in: int
    packets_out: int
    bytes_in: int | None = None
    bytes_out: int | None = None
    bins_in: list[int] | None = None
    bins_out: list[int] | None = None
    ipv6: float | None = None
    responses: float | None = None
    mix: dict[str, float] = {}
    socket: WatchedSocket | None = None
    talkers: list[TalkingPrefix] = []
    whole_host: bool = False


class WatchedCpu(msgspec.Struct, frozen=True, kw_only=True):
    """One CPU: shares of its time that were busy, in soft interrupts, and stolen; packets counted on it."""

    busy: float
    softirq: float
    steal: float
    packets: int | None


class Spike(msgspec.Struct, frozen=True, kw_only=True):
    """A time in which a port had far more packets than usual.

    It began at `begin_unix_s` and lasted for `seconds` (of 1/64 s each, or whole ones). `peak_per_s` is the rate of its
    highest 1/64 s, `usual_per_s` the mean rate before it. `drops` are those of the seconds that it was in.
    """

    port: str
    direction: Direction
    begin_unix_s: float
    seconds: float
    packets: int
    peak_per_s: float
    usual_per_s: float
    drops: int = 0
    talkers: list[TalkingPrefix] = []


class QuotaProjection(msgspec.Struct, frozen=True, kw_only=True):
    """A quota of bytes: what is used, and what will be at the rate of the last hour when the period ends.

    `fits_bytes_per_s`: the rate at which what is left lasts until then; `fits_packets_per_s`: the same in packets of
    the present mean size (null: there were none).
    """

    bytes: int
    per: str
    counted: str
    used: int
    projected: int
    bytes_per_s: float
    fits_bytes_per_s: float
    fits_packets_per_s: float | None
    ends_unix_s: float


class WatchLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `watch --json`: a second of the kernel's monotonic clock, or the whole time where it says `total`.

    `seconds` is less than 1 in the first and the last line; the second ended at `unix_s`. `drops` are by place, those
    of the whole network namespace except "backlog" (of the host); what cannot be read is in `blind` with the reason.
    `reasons` are those of the watched ports, in and out, by the kernel's names (enum skb_drop_reason); null: not known.
    `cpus` are by number. `spikes` are those that began or went on in this second; in the total all that are kept.
    `source`: "bpf" counts each packet in the kernel, "mib" reads counters of all ports.
    """

    t_s: float
    unix_s: float
    seconds: float
    source: Literal["bpf", "mib"]
    ports: list[PortTraffic]
    drops: dict[DropPlace, int]
    reasons: dict[str, int] | None
    blind: dict[str, str]
    cpus: dict[str, WatchedCpu]
    spikes: list[Spike] = []
    quota: QuotaProjection | None = None
    notes: list[str] = []
    total: bool = False
