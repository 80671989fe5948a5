"""NTP over UDP: basic client requests (RFC 5905), validated as the NTP Pool's monitor does."""

from __future__ import annotations

import dataclasses
from typing import Literal

from flatout.protocols.base import Protocol


@dataclasses.dataclass(frozen=True)
class Options:
    """Settings of `load ntp` and `limit ntp`."""

    version: Literal[1, 2, 3, 4] = dataclasses.field(
        default=4, metadata={"flag": "--ntp-version", "help": "NTP version of the requests."}
    )


PROTOCOL = Protocol(
    name="ntp",
    title="NTP",
    port=123,
    test_port=1123,
    summary="NTP client requests over UDP",
    options=Options,
    words={
        "basic": "right answers in basic mode",
        "kiss_rate": "kiss-o'-death RATE: the server limits this client's rate",
        "kiss_deny": "kiss-o'-death DENY or RSTR: the server refuses this client",
        "kiss_other": "other kiss-o'-death codes",
        "unsynchronised": "the server says that it has no time to give (leap 3 or stratum 0, 16)",
        "wrong_mode": "not a server's answer",
        "wrong_version": "another version than the request's",
        "zero_transmit": "no transmit stamp",
        "ticked_backwards": "the transmit stamp is before the receive stamp",
    },
)
