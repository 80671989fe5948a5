"""DNS over UDP, TCP and TLS: queries from a file, answers by code; and a server of a zone or of one address."""

from __future__ import annotations

import dataclasses

from flatout.protocols.base import Protocol

Entries = list[tuple[bytes, bytes]]


@dataclasses.dataclass(frozen=True)
class Options:
    """Settings of `load dns` and `limit dns`."""

    edns: bool = dataclasses.field(default=False, metadata={"help": "Send EDNS (version 0) with each query."})
    dnssec_ok: bool = dataclasses.field(
        default=False, metadata={"help": "Ask for DNSSEC records (DO); sends EDNS as well."}
    )
    udp_size: int = dataclasses.field(
        default=1232, metadata={"help": "The longest answer over UDP that EDNS allows, 512 to 4096 bytes."}
    )
    recursion: bool = dataclasses.field(default=True, metadata={"help": "Ask for recursion (RD)."})
    any_code: bool = dataclasses.field(
        default=False, metadata={"help": "Count every answer code as a right answer, as dnsperf does."}
    )
    echo: bool = dataclasses.field(
        default=False,
        metadata={"help": "The target echoes, as tcpscaler's tcpserver does: a query come back is a right answer."},
    )


@dataclasses.dataclass(frozen=True)
class ServeOptions:
    """Settings of `serve dns`."""

    zone: str | None = dataclasses.field(
        default=None,
        metadata={
            "engine": False,
            "path": True,
            "help": "Zone file (RFC 1035) to answer from; $INCLUDE works for files of its own folder.",
        },
    )
    answer: str | None = dataclasses.field(
        default=None,
        metadata={
            "engine": False,
            "help": "Address that every name has outside the zone: IPv4 for A, IPv6 for AAAA. "
            "With neither this nor a zone: 192.0.2.1 and 2001:db8::1.",
        },
    )
    udp_size: int = dataclasses.field(
        default=1232, metadata={"help": "The longest answer over UDP, 512 to 4096 bytes; 512 to those without EDNS."}
    )


def serve_entries(protocol_options: ServeOptions) -> Entries:
    """What the engine looks answers up in; the layout is in crates/wire/src/dns.rs. Errors: UsageError."""
    # dnspython takes a while to import, and only servers need it.
    from flatout.protocols.dns import zone

    entries: Entries = []
    if protocol_options.zone is not None:
        entries += zone.zone_entries(protocol_options.zone)
    if protocol_options.answer is not None:
        entries += zone.answer_entries(protocol_options.answer)
    elif protocol_options.zone is None:
        entries += zone.answer_entries("192.0.2.1", "2001:db8::1")
    return entries


PROTOCOL = Protocol(
    name="dns",
    title="DNS",
    port=53,
    tls_port=853,
    test_port=1053,
    summary="DNS queries over UDP, TCP or TLS",
    options=Options,
    serve_options=ServeOptions,
    words={
        "noerror": "answers with code NOERROR",
        "formerr": "FORMERR: the server could not read the query",
        "servfail": "SERVFAIL: the server failed",
        "nxdomain": "NXDOMAIN: the name does not exist, which is a right answer",
        "notimp": "NOTIMP: the server does not do this",
        "refused": "REFUSED: the server does not want to",
        "other_code": "any other answer code",
        "truncated": "answers cut short (TC): right, but meant to be asked for again over TCP",
        "not_a_response": "not a response to a query",
        "malformed": "messages that are not what their header says",
        "wrong_question": "answers to another question than was asked",
        "echoed": "queries come back as they were, from a target that echoes",
    },
    links=("udp", "tcp", "tls"),
    driver=True,
    # RFC 7766, section 6.2: servers end connections as they see fit, and clients open others.
    reopens=True,
    default_lines=("example.com A",),
    codes={name: name.upper() for name in ("noerror", "formerr", "servfail", "nxdomain", "notimp", "refused")}
    | {"other_code": "OTHER"},
    serve_entries=serve_entries,
    programs="flatout.protocols.dns.programs:PROGRAMS",
)
