"""The causes, in the order in which equals are reported: from the generator along the packet's way to the program."""

from __future__ import annotations

from collections.abc import Callable

from flatout.analysis.causes import (
    accept_queue,
    answer_queue,
    application,
    backlog,
    checksum,
    conntrack,
    cpu,
    descriptors,
    device,
    firewall,
    generator,
    kernel_drops,
    memory,
    neighbour,
    no_route_back,
    others,
    own_error,
    own_queue,
    own_receive_buffer,
    own_slots,
    port_closed,
    ports,
    receive_buffer,
    refused,
    shared_cpu,
    single_thread,
    slow_application,
    steal,
    syn_queue,
    throttled,
    time_wait,
    unanswered_frames,
    uneven_workers,
    wrong_address,
)
from flatout.result.finding import Finding
from flatout.result.model import LoadResult

_IN_ORDER = (
    *(
        others,
        generator,
        own_receive_buffer,
        steal,
        throttled,
        ports,
        descriptors,
        own_error,
        own_queue,
        neighbour,
        wrong_address,
        device,
        backlog,
    ),
    *(conntrack, firewall, kernel_drops, checksum, port_closed, refused),
    *(shared_cpu, uneven_workers, single_thread, slow_application, receive_buffer, accept_queue, syn_queue),
    *(time_wait, memory, cpu, application, answer_queue, no_route_back, unanswered_frames, own_slots),
)
CAUSES: tuple[Callable[[LoadResult], Finding | None], ...] = tuple(cause.find for cause in _IN_ORDER)
