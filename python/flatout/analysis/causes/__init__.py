"""The causes, in the order in which equals are reported: from the generator along the packet's way to the program."""

from __future__ import annotations

from collections.abc import Callable

from flatout.analysis.causes import (
    accept_queue,
    answer_queue,
    application,
    backlog,
    conntrack,
    cpu,
    descriptors,
    device,
    firewall,
    generator,
    kernel_drops,
    memory,
    neighbour,
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
    steal,
    syn_queue,
    throttled,
)
from flatout.result.finding import Finding
from flatout.result.model import LoadResult

_IN_ORDER = (
    *(
        generator,
        others,
        own_receive_buffer,
        steal,
        throttled,
        ports,
        descriptors,
        own_error,
        own_queue,
        neighbour,
        device,
        backlog,
    ),
    *(conntrack, firewall, kernel_drops, port_closed, refused, receive_buffer, accept_queue, syn_queue, memory),
    *(single_thread, cpu, shared_cpu, application, answer_queue, own_slots),
)
CAUSES: tuple[Callable[[LoadResult], Finding | None], ...] = tuple(cause.find for cause in _IN_ORDER)
