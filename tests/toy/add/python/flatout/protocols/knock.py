"""knock, a toy over UDP: what comes is sent back with one bit set."""

from __future__ import annotations

from flatout.protocols.base import Protocol

PROTOCOL = Protocol(
    name="knock",
    title="knock",
    port=7007,
    test_port=7007,
    summary="knock requests over UDP",
    words={
        "pong": "right answers",
        "echo": "requests that came back as they went",
    },
)
