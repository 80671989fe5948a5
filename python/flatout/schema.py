"""The JSON Schema of all that flatout prints for programs, made from the types: `python -m flatout.schema`.

docs/schema.json is this module's output; a test compares the two. Nothing here is needed to run anything.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

import msgspec

from flatout.host.tuning.check import HostCheck
from flatout.protocols import PROTOCOLS
from flatout.result.experiment import ExperimentResult
from flatout.result.model import SCHEMA, Distribution, LimitResult, LoadResult
from flatout.result.sweep import SweepResult
from flatout.store.compare import Comparison
from flatout.store.rows import RunList
from flatout.watch.model import WatchLine


class ServedConnections(msgspec.Struct, frozen=True, kw_only=True):
    """Connections of a server: `now` stand, the others are events.

    `errors` are accepts that failed; `resets` were cut off by the client or the network, `ended` by the client in
    order; `stalled` clients took no answers, `broken` ones sent what can be no request, and were cut off; so were
    `incomplete` ones, whose cut request had no progress, and `evicted` ones, whose cut request held memory that others
    needed. `idle_closed` were closed in order after the idle time-out.
    """

    now: int
    accepted: int
    errors: int
    resets: int
    ended: int
    stalled: int
    incomplete: int
    evicted: int
    idle_closed: int
    broken: int


class HandoverQueue(msgspec.Struct, frozen=True, kw_only=True):
    """The queue between a receiver and its handler: `waiting` now, of `size`.

    `dropped` by its `policy`; by another one receiving `waited` so many times.
    """

    waiting: int
    size: int
    dropped: int
    policy: str
    waited: int


class ReceiveLink(msgspec.Struct, frozen=True, kw_only=True):
    """How datagrams are taken from an interface past the kernel's stack: by the driver ("native"), or "generic".

    `zero_copy`: the device writes into the receiver's memory. There is a worker for each of the `queues`.
    """

    link: str
    interface: str
    mode: str
    zero_copy: bool
    queues: int


class ReceiveLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `serve --json` where messages go one way: the events of a second, or of all, which says `total`.

    received = parsed + malformed, and parsed = handed_over + dropped in the queue + waiting there, in all. `missing`,
    `duplicate` and `reordered` are by sequence number; `missing` falls where a late one comes. `restarts` are jumps
    that are no gap, `untracked` records of senders that there was no room to follow. `delay_ns` (the last line has it)
    is the one-way delay where records carry their time, and `ahead` are those that came before it. `dropped` counts by
    reason what no handler got. `arrivals` are what the kernel handed over, several coalesced records at once; its
    `kernel_drops` count such a bundle once. What is held now is told as it is: `senders`, `waiting`, memory, and of a
    worker what is queued and what it is made of. `errors` are the system calls that failed so that threads could not go
    on, `notes` what replaces calls that this host refuses. `link` is null where sockets receive.
    """

    t_s: float
    arrivals: int
    received: int
    parsed: int
    malformed: dict[str, int]
    handed_over: int
    queue: HandoverQueue
    missing: int
    duplicate: int
    reordered: int
    restarts: int
    untracked: int
    senders: int
    kernel_drops: int
    ahead: int
    bytes: int
    memory_bytes: int
    delay_ns: Distribution | None
    workers: list[dict[str, int]]
    answered: int
    dropped: dict[str, int]
    connections: ServedConnections | None = None
    link: ReceiveLink | None = None
    errors: list[str] = []
    notes: list[str] = []
    total: bool = False


class Replaced(msgspec.Struct, frozen=True, kw_only=True):
    """How many workers that failed or stalled were replaced, and why the last one was."""

    count: int
    last: str


class QuotaUse(msgspec.Struct, frozen=True, kw_only=True):
    """A quota, what is used of it, and when its period ends (Unix time, s)."""

    bytes: int
    used: int
    ends_unix_s: float


class ServedLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of a server as they are now: the bandwidth of answers, the quota, the highest seconds of 24 hours."""

    bandwidth_bytes_per_s: int | None
    quota: QuotaUse | None
    peaks_per_s: dict[str, float]


class ServeLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `serve --json`: the events of a second, or of the whole time in the last line, which says `total`.

    `t_s` is the time since the start; `dropped` counts what got no answer, by reason; `kernel_drops` never reached the
    program; `connections`, `bytes` and memory are null where only datagrams are served. What is held now is told as it
    is: `now` of `connections`, `connections` and `memory_bytes` of a worker, and memory, which for the kernel is that
    of the whole host. `errors` are the system calls that failed so that threads could not go on, `notes` what replaces
    calls that this host refuses.
    """

    t_s: float
    received: int
    answered: int
    dropped: dict[str, int]
    workers: list[dict[str, int]]
    kernel_drops: int
    connections: ServedConnections | None = None
    bytes: dict[str, int] | None = None
    memory_bytes: int | None = None
    kernel_memory: dict[str, int] | None = None
    kissed: int = 0
    sent_bytes: int = 0
    clients_forgotten: int = 0
    limits: ServedLimits | None = None
    stamps: dict[str, Any] | None = None
    state: dict[str, Any] | None = None
    replaced: Replaced | None = None
    errors: list[str] = []
    notes: list[str] = []
    total: bool = False


def _of_protocols() -> list[type[msgspec.Struct]]:
    """What the verbs of single protocols print."""
    named = [text.partition(":") for protocol in PROTOCOLS.values() for text in protocol.printed]
    return [getattr(importlib.import_module(module), name) for module, _, name in named]


def schema() -> dict[str, Any]:
    """One schema for every kind of output; a value fits one of its alternatives."""
    results = (LoadResult, LimitResult, SweepResult, RunList, Comparison, ExperimentResult)
    printed = (*results, HostCheck, ServeLine, ReceiveLine, WatchLine, *_of_protocols())
    refs, definitions = msgspec.json.schema_components(printed, ref_template="#/$defs/{name}")
    for definition in definitions.values():
        fields = definition.get("properties", {})
        if "schema" in fields:
            fields["schema"] = {"const": SCHEMA}
            definition["required"] = sorted({*definition["required"], "schema", "kind"})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"What flatout prints for programs, version {SCHEMA}",
        "description": "Fields may be added, never renamed: readers pass over those that they do not know.",
        "anyOf": list(refs),
        "$defs": definitions,
    }


def text() -> str:
    """The schema as it is published."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
