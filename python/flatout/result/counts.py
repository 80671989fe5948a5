"""What the receiver of one-way messages counted: types of results."""

from __future__ import annotations

import msgspec


class CounterSamples(msgspec.Struct, frozen=True, kw_only=True):
    """The counters of the receiver at one address of the target, before and after a run, under its own names.

    Its `instance` is a number drawn at its start: the same at all its addresses, another one after a restart.
    """

    target: str
    before: dict[str, int]
    after: dict[str, int]


class ReceiverCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What the receiver of one-way messages counted during a run; `workers` and `size` are as at its end.

    received = parsed + malformed; parsed = handed_over + dropped + queued. `parsed` are valid messages, among them
    those that arrived twice (`duplicate`) or after a later one (`reordered`). `missing` are gaps in the sequence
    numbers; `restarts` are jumps too far to be gaps, `untracked` messages of senders that the receiver had no room to
    track. `kernel_drops` are drops at the sockets, `dropped` drops at the queue to the handler. Of the lost messages,
    `lost_in_kernel` are explained by the sockets, `lost_elsewhere` are not. `arrivals` counts what the kernel handed
    over: fewer than `received` where it coalesced messages, and its drops are counted in the same way.
    """

    received: int
    parsed: int
    malformed: int
    duplicate: int
    reordered: int
    missing: int
    restarts: int
    untracked: int
    kernel_drops: int
    handed_over: int
    dropped: int
    queued: int
    senders: int
    workers: int
    size: int
    arrivals: int = 0
    lost_in_kernel: int = 0
    lost_elsewhere: int = 0
