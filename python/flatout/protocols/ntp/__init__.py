"""NTP over UDP: clients in basic and interleaved mode (RFC 5905, RFC 9769), checked as the pool does; a server."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from flatout.protocols.base import Protocol, TrafficKind, option_values
from flatout.protocols.ntp import requests, serving


@dataclasses.dataclass(frozen=True)
class Options:
    """Settings of `load ntp` and `limit ntp`."""

    version: Literal[1, 2, 3, 4] = dataclasses.field(
        default=4, metadata={"flag": ("--version", "--ntp-version"), "help": "NTP version of the requests."}
    )
    mode: Literal[1, 3] = dataclasses.field(
        default=3, metadata={"help": "Mode of the requests: 3 (client), or 1 (symmetric active), answered in mode 2."}
    )
    interleaved: bool = dataclasses.field(
        default=False,
        metadata={
            "help": "Refer to each flow's last answer, so that the server may answer in interleaved mode (RFC 9769)."
        },
    )
    extension_field: str | None = dataclasses.field(
        default=None,
        metadata={"help": "Extension fields of zeros, TYPE:LENGTH each, e.g. F323:28 (hexadecimal type; bytes)."},
    )
    key_file: str | None = dataclasses.field(
        default=None,
        metadata={
            "path": True,
            "help": "Authenticate with a key of this file (chrony's or ntpd's form; MD5, SHA1 or AES128).",
        },
    )
    key_id: int | None = dataclasses.field(
        default=None, metadata={"help": "The number of the key in --key-file. [its first]"}
    )
    offset: bool = dataclasses.field(
        default=False,
        metadata={"help": "Measure how far the server's clock is ahead; each request leaves in a call of its own."},
    )
    offset_correction: str | None = dataclasses.field(
        default=None,
        metadata={
            "hyphen": True,
            "help": "Subtract this from each offset, e.g. 1.5us or -300ns: a known asymmetry of the way.",
        },
    )


def engine_options(protocol_options: Any) -> list[tuple[str, int]]:
    """The options of either end, as the engine takes them. Errors: UsageError."""
    if isinstance(protocol_options, Options):
        return requests.numbers_of(protocol_options)
    if isinstance(protocol_options, serving.ServeOptions):
        return serving.engine_options(protocol_options)
    return list(option_values(protocol_options).items())


PROTOCOL = Protocol(
    name="ntp",
    title="NTP",
    port=123,
    test_port=1123,
    summary="NTP client requests over UDP",
    options=Options,
    serve_options=serving.ServeOptions,
    engine_options=engine_options,
    state_source=serving.state_source,
    kisses=True,
    driver=True,
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
        "interleaved": "right answers in interleaved mode",
        "crypto_nak": "crypto-NAK: the server does not accept the request's MAC",
        "unauthenticated": "no MAC, or not the right one",
        "stale_reference": "the reference stamp is later than the answer, or over 36 hours old",
        "root_distance": "root distance above 16 s",
    },
    printed=("flatout.protocols.ntp.check:CheckResult",),
    programs="flatout.protocols.ntp.programs:PROGRAMS",
    right_tallies=("basic", "interleaved"),
    # Simple clients keep no state: their requests have no receive timestamp.
    traffic=TrafficKind(1, {"sntp": "SNTP", "version_4": "version 4"}),
)
