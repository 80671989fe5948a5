"""ntpd and NTPsec's ntpd, asked for their system variables by control messages (mode 6, RFC 9327) on loopback."""

from __future__ import annotations

import ipaddress
import math
import re
import secrets
import struct
import time

from flatout.protocols.ntp.state import TimeState, Unusable
from flatout.protocols.ntp.upstream import TIMEOUT_S, Upstream
from flatout.protocols.ntp.upstream.address import Address

PORT = 123
VARIABLES = "leap,stratum,precision,rootdelay,rootdisp,refid,reftime"
_HEADER = struct.Struct(">BBHHHHH")
# Version 2, mode 6: what all daemons understand.
_FIRST = 2 << 3 | 6
_RESPONSE, _ERROR, _MORE, _READ = 0x80, 0x40, 0x20, 2
_FRAGMENTS = 16
_VARIABLE = re.compile(r'\s*([A-Za-z_]\w*)\s*=\s*("[^"]*"|[^,]*)')


def request(sequence: int) -> bytes:
    """A request for the variables, padded to whole words."""
    data = VARIABLES.encode()
    return _HEADER.pack(_FIRST, _READ, sequence, 0, 0, 0, len(data)) + data + bytes(-len(data) % 4)


class Fragments:
    """The fragments of one response, which may come in any order."""

    def __init__(self, sequence: int) -> None:
        self._sequence = sequence
        self._parts: dict[int, bytes] = {}
        self._length: int | None = None

    def add(self, packet: bytes) -> str | None:
        """Takes a packet; returns the text once it is whole. Errors: Unusable."""
        if len(packet) < _HEADER.size:
            raise Unusable(f"an answer of {len(packet)} bytes")
        first, flags, sequence, _, _, offset, count = _HEADER.unpack_from(packet)
        if first & 7 != 6 or not flags & _RESPONSE or flags & 0x1F != _READ or sequence != self._sequence:
            raise Unusable("an answer to another request")
        if flags & _ERROR:
            raise Unusable("it refuses to be asked for its variables")
        data = packet[_HEADER.size : _HEADER.size + count]
        if len(data) != count or len(self._parts) >= _FRAGMENTS:
            raise Unusable("a broken answer")
        self._parts[offset] = data
        if not flags & _MORE:
            self._length = offset + count
        text = b""
        for at in sorted(self._parts):
            if at != len(text):
                return None
            text += self._parts[at]
        return text.decode("ascii", "replace") if len(text) == self._length else None


def parse(text: str) -> TimeState:
    """The state from the variables. Errors: Unusable."""
    found = {name: value.strip().strip('"') for name, value in _VARIABLE.findall(text)}
    try:
        return TimeState(
            leap=int(found["leap"]) & 3,
            stratum=_within(int(found["stratum"]), 0, 255),
            precision=_within(int(found["precision"]), -32, 0),
            reference_id=reference_id(found["refid"]),
            reference=_stamp(found["reftime"]),
            root_delay_ns=_from_ms(found["rootdelay"]),
            root_dispersion_ns=_from_ms(found["rootdisp"]),
        )
    except KeyError as error:
        raise Unusable(f"no variable {error}") from error
    except (ValueError, OverflowError) as error:
        raise Unusable(f"variables that cannot be read: {error}") from error


def _within(value: int, least: int, most: int) -> int:
    if not least <= value <= most:
        raise ValueError(f"{value} is not within {least} to {most}")
    return value


def reference_id(text: str) -> bytes:
    """Four bytes from an address or a name such as GPS. Errors: ValueError."""
    try:
        return ipaddress.IPv4Address(text).packed
    except ValueError:
        name = text.strip(".").encode("ascii")
        if len(name) > 4:
            raise
        return name.ljust(4, b"\0")


def _stamp(text: str) -> int:
    whole, _, fraction = text.strip().removeprefix("0x").partition(".")
    stamp = int(whole, 16) << 32 | int((fraction or "0").ljust(8, "0")[:8], 16)
    return _within(stamp, 0, (1 << 64) - 1)


def _from_ms(text: str) -> int:
    ns = float(text) * 1e6
    if not 0 <= ns < 2.0**62:
        raise ValueError(f"{text} ms")
    return math.ceil(ns)


class Ntpd(Upstream):
    """The ntpd at `host:port`, which must allow queries from there."""

    def __init__(self, host: str = "127.0.0.1", port: int = PORT) -> None:
        self._at = Address(host, port)
        self.name = f"ntpd {self._at}"

    def ask(self) -> TimeState:
        """One question."""
        sequence = secrets.randbits(16)
        until = time.monotonic() + TIMEOUT_S
        with self._at.connect() as asking:
            asking.send(request(sequence))
            fragments = Fragments(sequence)
            while (left := until - time.monotonic()) > 0:
                asking.settimeout(left)
                text = fragments.add(asking.recv(2048))
                if text is not None:
                    self._at.keep(asking)
                    return parse(text)
        raise TimeoutError("timed out")
