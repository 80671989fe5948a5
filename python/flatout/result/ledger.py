"""The types of a run's ledger: where every request went, and the counters behind it."""

from __future__ import annotations

from typing import Literal

import msgspec

Place = Literal[
    # Not sent:
    "schedule",
    "own_queue",
    "own_error",
    "own_slots",
    "no_connection",
    "target_blocked",
    # Lost:
    "own_receive_buffer",
    "receive_buffer",
    "unread",
    "udp_memory",
    "udp_checksum",
    "answer_send_buffer",
    "qdisc",
    "answer_qdisc",
    "answer_no_route",
    "neighbour",
    "device",
    "device_ring",
    "other_host",
    "backlog",
    "conntrack",
    "reverse_path",
    "firewall",
    "dropped_by_kernel",
    "application",
    # Events beside the sums:
    "port_closed",
    "accept_queue",
    "listen_drops",
    "syn_queue",
    "syn_cookies",
    "retransmissions",
]
Side = Literal["unsent", "lost", "beside"]


class LedgerLine(msgspec.Struct, frozen=True, kw_only=True):
    """One place: `count` requests ended there; null where that cannot be known, and `blind` says why.

    `side`: "unsent" lines add up to what was not sent, "lost" ones with `unexplained` to what was lost; "beside" ones
    count events that are no requests. `where` names the socket, device or host. `counted` is what `source` counted
    where it is more than `count`: packets of others, or of the last moment before counting began.
    """

    side: Side
    place: Place
    count: int | None
    where: str = ""
    source: str = ""
    counted: int | None = None
    blind: str = ""


class TargetSocket(msgspec.Struct, frozen=True, kw_only=True):
    """A socket of the target on this host, at the end of a run.

    `drops` are those of the run, at its receive buffer or, where it listens for connections, at its accept queue.
    `unread_bytes` lie in the receive buffer of `buffer_bytes`, in the kernel's charge. At most `queue` connections
    waited to be accepted at once, of `queue_limit`. Null: not known.
    """

    address: str
    process: str = ""
    drops: int | None = None
    unread_bytes: int | None = None
    buffer_bytes: int | None = None
    queue: int | None = None
    queue_limit: int | None = None

    @property
    def name(self) -> str:
        """Process and address, for texts."""
        return f"{self.process or 'the target'}, {self.address}"


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What was read of the host beside counters, when the run ended.

    `device` is the interface towards the target and `device_up` whether it has a carrier; `neighbour` the next hop if
    it did not resolve. `target_stopped`: processes of it, `stopped_pids`, were stopped by a signal. `target_files`
    descriptors at most were open in the target's process at once, of `target_files_limit`. `packet_bytes` is what the
    kernel charges a receive buffer for one datagram of the run's size. `limits` are the kernel's settings, by name.
    `queued` packets still waited in the queues (qdiscs) of these devices; names that begin with "target." are of the
    target's network namespace.
    """

    device: str = ""
    device_up: bool | None = None
    neighbour: str = ""
    target_stopped: bool = False
    stopped_pids: list[int] = []
    target_files: int | None = None
    target_files_limit: int | None = None
    packet_bytes: int | None = None
    limits: dict[str, int] = {}
    queued: dict[str, int] = {}


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """The account of a run: planned = sent + unsent lines; sent = answered + late + refused + invalid + lost.

    Lost = the lost lines + `unexplained`. `lost` is null where a receiver did not report it; the lines then say what
    was counted. `counters` are the kernel's own by name, as far as they moved; those of the target's network namespace,
    where it is another one, begin with "target.". They count all packets of a namespace, from the end of the warm-up.
    `target_namespace` is whether the target is in this network namespace, or in another one whose counters were read;
    null: its counters are not known. `longest_wait_ns` is the longest that a thread of the target waited for a CPU;
    null: not known.
    """

    sent: int
    lost: int | None
    lines: list[LedgerLine] = []
    unexplained: int | None = None
    sockets: list[TargetSocket] = []
    surroundings: Surroundings = Surroundings()
    counters: dict[str, int] = {}
    target_namespace: Literal["same", "other"] | None = None
    longest_wait_ns: int | None = None

    def count(self, place: Place) -> int:
        """How many requests, or events, all lines of a place have."""
        return sum(line.count or 0 for line in self.lines if line.place == place)

    def lost_at(self, place: Place) -> int:
        """How many of the lost requests a place has: over connections what is dropped is sent again, and none."""
        return sum(line.count or 0 for line in self.lines if line.place == place and line.side == "lost")

    def at_target(self, name: str) -> int:
        """A counter in the target's network namespace; 0 where it did not move, or is not known."""
        if self.target_namespace is None:
            return 0
        return self.counters.get(name if self.target_namespace == "same" else f"target.{name}", 0)
