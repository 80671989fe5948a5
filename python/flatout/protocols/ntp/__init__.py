"""NTP over UDP: basic client requests (RFC 5905), validated as the NTP Pool's monitor does; and a server."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from flatout.protocols.base import Protocol, option_values
from flatout.protocols.ntp import serving


@dataclasses.dataclass(frozen=True)
class Options:
    """Settings of `load ntp` and `limit ntp`."""

    version: Literal[1, 2, 3, 4] = dataclasses.field(
        default=4, metadata={"flag": "--ntp-version", "help": "NTP version of the requests."}
    )


def _engine_options(given: Any) -> list[tuple[str, int]]:
    """The options of either end, as the engine takes them."""
    if isinstance(given, serving.ServeOptions):
        return serving.engine_options(given)
    return list(option_values(given).items())


PROTOCOL = Protocol(
    name="ntp",
    title="NTP",
    port=123,
    test_port=1123,
    summary="NTP client requests over UDP",
    options=Options,
    serve_options=serving.ServeOptions,
    engine_options=_engine_options,
    state_source=serving.state_source,
    kisses=True,
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
