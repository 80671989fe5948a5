"""Echo over TCP and UDP: the same bytes come back. Any echo server will do."""

from __future__ import annotations

import dataclasses

from flatout.protocols.base import Protocol


@dataclasses.dataclass(frozen=True)
class Options:
    """Settings of `load echo` and `limit echo`."""

    size: int = dataclasses.field(default=31, metadata={"help": "Bytes of each message, 1 to 65507."})


PROTOCOL = Protocol(
    name="echo",
    title="Echo",
    port=7,
    test_port=4242,
    summary="messages that come back as they went",
    options=Options,
    words={
        "echoed": "the message, byte for byte",
        "altered": "the message with other bytes or another length",
    },
    links=("tcp", "udp"),
)
