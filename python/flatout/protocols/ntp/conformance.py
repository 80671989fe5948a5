"""What a server must do with single packets: one check a rule, each with its reason. Pure: replies in, findings out.

Rules: RFC 5905 (figure 31, section 14), RFC 7822, RFC 9109, and what clients and the pool's monitor rely on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from flatout.protocols.ntp import packet as ntp
from flatout.protocols.ntp.packet import Answer, span_ns
from flatout.protocols.ntp.probe import Reply

Verdict = Literal["pass", "fail", "unknown"]
_FRESH_S, _DISTANCE_MAX_S = 2**17, 16.0
_UNKNOWN_FIELD = 0x7777


class Finding(msgspec.Struct, frozen=True):
    """One rule: `verdict` "unknown" where the server did not answer at that time at all, so it may limit rates."""

    name: str
    verdict: Verdict
    reason: str


class Probe(NamedTuple):
    """A packet to send; `wants_answer`: silence breaks the rule, else an answer does. `mode`: that of the answer."""

    name: str
    packet: bytes
    wants_answer: bool
    mode: int = ntp.SERVER


def probes(origin: int) -> list[Probe]:
    """Requests of every kind that servers must answer; `origin`: their transmit stamp."""
    unknown = ntp.field(_UNKNOWN_FIELD, 28)
    kinds = [Probe(f"version {v}", ntp.request(v, ntp.CLIENT, origin, poll=6), True) for v in (1, 2, 3, 4)]
    return [
        *kinds,
        Probe("mode 1", ntp.request(4, ntp.SYMMETRIC_ACTIVE, origin), True, ntp.SYMMETRIC_PASSIVE),
        Probe("version 1 without a mode", ntp.request(1, 0, origin), True),
        Probe("unknown extension field", ntp.request(4, ntp.CLIENT, origin, unknown), True),
        Probe("transmit stamp 0", ntp.request(4, ntp.CLIENT, 0), True),
    ]


def silent(origin: int, *, control: bool) -> list[Probe]:
    """Packets that are no requests; `control`: with the queries of modes 6 and 7, known for their amplification."""
    found = [
        Probe("47 bytes", ntp.request(4, ntp.CLIENT, origin)[:47], False),
        Probe("version 0", ntp.request(0, ntp.CLIENT, origin), False),
        Probe("version 5", ntp.request(5, ntp.CLIENT, origin), False),
        Probe("mode 2", ntp.request(4, ntp.SYMMETRIC_PASSIVE, origin), False),
        Probe("mode 4", ntp.request(4, ntp.SERVER, origin), False),
        Probe("mode 5", ntp.request(4, 5, origin), False),
    ]
    if control:
        found.append(Probe("mode 6", bytes.fromhex("160200010000000000000000"), False))
        found.append(Probe("mode 7", bytes.fromhex("1700032a00000000").ljust(ntp.HEADER, b"\0"), False))
    return found


def answered(probe: Probe, reply: Reply | None, *, alive: bool) -> Finding:
    """Whether a request was answered in kind; `alive`: the server answers plain requests at this time."""
    if reply is None:
        reason = "no answer" if alive else "no answer, and none to a plain request either: it may limit rates"
        return Finding(probe.name, "fail" if alive else "unknown", reason)
    answer, version = reply.answer, probe.packet[0] >> 3 & 7
    if answer is not None and answer.kiss == "RATE":
        return Finding(probe.name, "unknown", "kiss-o'-death RATE: it limits rates")
    if answer is None:
        return Finding(probe.name, "fail", f"{len(reply.packet)} bytes came back: an answer has 48 or more")
    origin = int.from_bytes(probe.packet[40:48])
    faults = [
        (f"answered as version {answer.version}", answer.version != version),
        (f"answered in mode {answer.mode} instead of {probe.mode}", answer.mode != probe.mode),
        ("the origin stamp is not the request's transmit stamp", answer.origin != origin),
        (f"kiss-o'-death {answer.kiss}", bool(answer.kiss)),
        (f"{answer.length} bytes for {len(probe.packet)}", answer.length > len(probe.packet)),
    ]
    said = ", ".join(what for what, found in faults if found)
    return Finding(probe.name, "fail" if said else "pass", said or f"answered in mode {answer.mode}")


def unanswered(probe: Probe, reply: Reply | None) -> Finding:
    """Whether what is no request got no answer."""
    name = f"no answer to {probe.name}"
    if reply is None:
        return Finding(name, "pass", "silent")
    answer = reply.answer
    if probe.name == "version 5" and answer is not None and answer.version == 5:
        return Finding(name, "pass", "it speaks version 5")
    size = f"{len(reply.packet)} bytes for {len(probe.packet)}"
    return Finding(name, "fail", f"answered, {size}: two servers could answer one another for ever")


def fields(reply: Reply, origin: int) -> list[Finding]:
    """What every field of an answer to a plain request of version 4 must be."""
    answer = reply.answer
    if answer is None:
        return [Finding("length", "fail", f"{len(reply.packet)} bytes, an answer has 48 or more")]
    return [
        _finding("source address", not reply.from_elsewhere, f"from {reply.source[0]} port {reply.source[1]}"),
        _finding("origin stamp", answer.origin == origin, "the request's transmit stamp, bit for bit"),
        *_state(answer),
        *_stamps(answer),
    ]


def _state(answer: Answer) -> list[Finding]:
    distance_s, refid = answer.root_distance_s, answer.reference_id
    precision = f"2^{answer.precision} s"
    return [
        _finding("leap", answer.leap != 3, f"leap {answer.leap}{': not synchronised' if answer.leap == 3 else ''}"),
        _finding("stratum", 1 <= answer.stratum <= 15, f"stratum {answer.stratum}"),
        _finding("precision", -32 <= answer.precision <= -6, precision),
        _finding("reference id", refid != bytes(4), refid.hex(" ") if any(refid) else "none"),
        _finding("root distance", distance_s <= _DISTANCE_MAX_S, f"{distance_s * 1e3:,.3f} ms, at most 16 s"),
    ]


def _stamps(answer: Answer) -> list[Finding]:
    age_s = span_ns(answer.reference, answer.transmit) / 1e9
    response_ns = span_ns(answer.receive, answer.transmit)
    fresh = answer.reference != 0 and 0 <= age_s <= _FRESH_S
    said = f"{age_s:,.1f} s before the answer" if answer.reference else "none"
    distinct = len({answer.origin, answer.receive, answer.transmit}) == 3
    return [
        _finding("reference stamp", fresh, said),
        _finding("transmit after receive", answer.transmit != 0 and response_ns >= 0, f"{response_ns / 1e3:,.1f} µs"),
        _finding("distinct stamps", distinct, "origin, receive and transmit differ" if distinct else "two are equal"),
    ]


def amplification(exchanges: Sequence[tuple[bytes, Reply | None]]) -> Finding:
    """That no answer was longer than its request."""
    longest = max((len(reply.packet) / len(sent) for sent, reply in exchanges if reply), default=0.0)
    said = f"answers have at most {longest:.2f} times the bytes of their requests"
    return _finding("amplification", longest <= 1, said)


def _finding(name: str, passed: bool, reason: str) -> Finding:
    return Finding(name, "pass" if passed else "fail", reason)
