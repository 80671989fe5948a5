"""Sends single NTP packets and waits for their answers: a few packets for a check, by the kernel's receive stamps.

Each packet has a socket of its own, which is not connected, so that an answer from another address is seen as well.
"""

from __future__ import annotations

import contextlib
import secrets
import select
import socket
import struct
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from flatout.protocols.ntp.packet import Answer, span_ns, stamp

# SO_TIMESTAMPNS, which Python does not name.
_STAMPS = 35
_TIMESPEC = struct.Struct("@ll")
_LONGEST = 4096

Address = tuple[Any, ...]


class Reply(NamedTuple):
    """What came back to one packet. Times are Unix time in ns; `source` is where it came from, `to` whom was asked."""

    packet: bytes
    source: Address
    sent_ns: int
    seen_ns: int
    to: Address | None = None

    @property
    def from_elsewhere(self) -> bool:
        """Whether it came from another address than the one asked; a client's connected socket would not see it."""
        return self.to is not None and _named(self.source) != _named(self.to)

    @property
    def answer(self) -> Answer | None:
        """Its fields; None where it is too short."""
        return Answer.of(self.packet)

    @property
    def offset_ns(self) -> int:
        """How far the server's clock is ahead (RFC 5905, section 8); 0 for a short packet."""
        if (answer := self.answer) is None:
            return 0
        forth, back = span_ns(stamp(self.sent_ns), answer.receive), span_ns(stamp(self.seen_ns), answer.transmit)
        return (forth + back) // 2

    @property
    def round_trip_ns(self) -> int:
        """From sending to the answer, without the time that it spent in the server."""
        if (answer := self.answer) is None:
            return 0
        return self.seen_ns - self.sent_ns - span_ns(answer.receive, answer.transmit)


def random_stamp() -> int:
    """A transmit stamp that nobody can guess."""
    return secrets.randbits(64) | 1


def ask(to: Address, packet: bytes, timeout_s: float) -> Reply | None:
    """The first reply to a packet, or None after the time-out. Errors: OSError where it cannot be sent."""
    return ask_all(to, [packet], timeout_s)[0]


def ask_all(to: Address, packets: Sequence[bytes], timeout_s: float) -> list[Reply | None]:
    """The same for several packets at once, each from a port of its own: for those that should get no answer."""
    replies: list[Reply | None] = [None] * len(packets)
    with contextlib.ExitStack() as open_sockets:
        waiting = {}
        for number, packet in enumerate(packets):
            one = open_sockets.enter_context(_socket(to))
            sent_ns = time.time_ns()
            one.sendto(packet, to)
            waiting[one] = (number, sent_ns)
        until = time.monotonic() + timeout_s
        while waiting and (left_s := until - time.monotonic()) > 0:
            for one in select.select(list(waiting), [], [], left_s)[0]:
                number, sent_ns = waiting.pop(one)
                replies[number] = _receive(one, sent_ns)._replace(to=to)
    return replies


def _named(address: Address) -> Address:
    """The scope of a link-local address is written behind it."""
    return address[0].partition("%")[0], address[1]


def _socket(to: Address) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in to[0] else socket.AF_INET, socket.SOCK_DGRAM)
    # Without stamps the clock after the receive does.
    with contextlib.suppress(OSError):
        made.setsockopt(socket.SOL_SOCKET, _STAMPS, 1)
    return made


def _receive(one: socket.socket, sent_ns: int) -> Reply:
    packet, control, _, source = one.recvmsg(_LONGEST, socket.CMSG_SPACE(_TIMESPEC.size))
    seen_ns = time.time_ns()
    for level, kind, data in control:
        if (level, kind) == (socket.SOL_SOCKET, _STAMPS) and len(data) >= _TIMESPEC.size:
            seconds, rest = _TIMESPEC.unpack_from(data)
            seen_ns = seconds * 1_000_000_000 + rest
    return Reply(packet, source, sent_ns, seen_ns)
