"""chronyd, asked for its tracking over the command protocol (version 6): it may be a client only (`port 0`).

It tells the correction that chronyd is still slewing in, by which the system clock is not yet the time that chronyd
itself would serve. Loopback needs no privilege; a Unix socket needs root or chronyd's user.

Layout (big-endian; floats have a signed exponent of 7 bits and a signed coefficient of 25 bits):
request: version, type 1, 2 reserved, command 33, attempt, sequence (4), 8 of padding, then padding for the answer;
answer: version, type 2, 2 reserved, command, reply 5, status, 6 of padding, sequence (4), 8 of padding; from byte 28
reference id (4), address (20), stratum (2), leap (2), reference time (seconds high and low, ns), then as floats:
correction, last offset, RMS offset, frequency, residual frequency, skew, root delay, root dispersion, update interval.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import secrets
import socket
import struct
import time
from collections.abc import Callable

from flatout.protocols.ntp import state
from flatout.protocols.ntp.state import TimeState, Unusable
from flatout.protocols.ntp.upstream import TIMEOUT_S, Upstream
from flatout.protocols.ntp.upstream.address import Address

PORT = 323
VERSION = 6
_REQUEST, _REPLY = 1, 2
_TRACKING, _TRACKING_REPLY = 33, 5
_SUCCESS = 0
# A request is no shorter than the longest answer, so that the protocol amplifies nothing.
_PADDING = 396
_HEADER = struct.Struct(">BBxxHHHxxxxxxI8x")
_BODY = struct.Struct(">4s20xHHIII9I")
_ANSWER = _HEADER.size + _BODY.size
# chronyd's default for the error of a clock between its updates (maxclockerror).
_CLOCK_ERROR_PPM = 1.0
# What chronyd slews in a second at most (maxslewrate, 83,333 ppm), rounded up.
_SLEWED_MAX_NS = 100_000_000


def request(sequence: int) -> bytes:
    """A request for the tracking."""
    return struct.pack(">BBxxHHI8x", VERSION, _REQUEST, _TRACKING, 0, sequence) + bytes(_PADDING)


def parse(answer: bytes, sequence: int, precision: int) -> tuple[TimeState, int]:
    """The state and chronyd's reference time (Unix, ns) from its answer. Errors: Unusable."""
    if len(answer) < _HEADER.size:
        raise Unusable(f"an answer of {len(answer)} bytes")
    version, kind, command, reply, status, echoed = _HEADER.unpack_from(answer)
    if echoed != sequence or kind != _REPLY or command != _TRACKING:
        raise Unusable("an answer to another request")
    if version != VERSION or status != _SUCCESS or reply != _TRACKING_REPLY or len(answer) < _ANSWER:
        raise Unusable(f"version {version}, status {status}, reply {reply}, {len(answer)} bytes")
    reference_id, stratum, leap, high, low, ns, *floats = _BODY.unpack_from(answer, _HEADER.size)
    correction, _, _, _, residual, skew, delay, dispersion, _ = map(number, floats)
    # Seconds above 2^31 in the high half mean a system without 64-bit times.
    reference_ns = ((high if high < 1 << 31 else 0) << 32 | low) * state.SECOND_NS + ns
    drift_ppm = abs(residual) + abs(skew) + _CLOCK_ERROR_PPM
    reported = TimeState(
        leap=min(leap, state.UNSYNCHRONISED),
        stratum=stratum,
        precision=precision,
        reference_id=reference_id,
        reference=state.ntp_stamp(reference_ns) if reference_ns else 0,
        root_delay_ns=_ns(max(delay, 0.0)),
        root_dispersion_ns=_ns(max(dispersion, 0.0)),
        dispersion_ppb=min(math.ceil(drift_ppm * 1000), state.SECOND_NS),
        correction_ns=_ns(correction),
    )
    return reported, reference_ns


def number(bits: int) -> float:
    """A number of chronyd's own format: 7 bits of exponent, 25 of coefficient, both signed."""
    exponent, coefficient = bits >> 25, bits & 0x1FF_FFFF
    exponent -= 128 if exponent >= 64 else 0
    coefficient -= 1 << 25 if coefficient >= 1 << 24 else 0
    return math.ldexp(coefficient, exponent - 25)


def _ns(seconds: float) -> int:
    # 2^62: a word of the engine has room for it. Nothing that is served comes near.
    return math.ceil(max(min(seconds * 1e9, 2.0**62), -(2.0**62)))


class Slew:
    """How fast the correction changes while chronyd slews: from two answers between which no update came."""

    def __init__(self) -> None:
        self._before: tuple[float, int, int] | None = None

    def rate_ppb(self, steady_s: float, correction_ns: int, reference_ns: int) -> int:
        """The correction's change, ns/s; 0 where it is not known, or does not get smaller."""
        before, self._before = self._before, (steady_s, correction_ns, reference_ns)
        if before is None:
            return 0
        at_s, was_ns, reference_was_ns = before
        shrinks = abs(correction_ns) < abs(was_ns) and correction_ns * was_ns > 0
        if reference_ns != reference_was_ns or not shrinks or steady_s - at_s < 0.1:
            return 0
        return round((correction_ns - was_ns) / (steady_s - at_s))


class Chrony(Upstream):
    """The chronyd at `host:port`, or at the Unix socket `path`."""

    def __init__(
        self,
        at: tuple[str, int] | str = ("127.0.0.1", PORT),
        *,
        steady_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._at = at if isinstance(at, str) else Address(*at)
        self.name = f"chrony {self._at}"
        self._precision = state.measured_precision()
        self._slew = Slew()
        self._steady_s = steady_s

    def ask(self) -> TimeState:
        """One question."""
        sequence = secrets.randbits(32)
        asked, at = request(sequence), self._at
        answer = self._over_unix(at, asked) if isinstance(at, str) else self._over_udp(at, asked)
        reported, reference_ns = parse(answer, sequence, self._precision)
        change = self._slew.rate_ppb(self._steady_s(), reported.correction_ns, reference_ns)
        # While it is not known how fast the correction shrinks, the answers may be off by what shrinks within a second.
        unknown = min(abs(reported.correction_ns), _SLEWED_MAX_NS) if change == 0 else 0
        dispersion = reported.root_dispersion_ns + unknown
        return dataclasses.replace(reported, correction_ppb=change, root_dispersion_ns=dispersion)

    def _over_udp(self, at: Address, asked: bytes) -> bytes:
        with at.connect() as asking:
            answer = _exchange(asking, asked)
            at.keep(asking)
            return answer

    def _over_unix(self, path: str, asked: bytes) -> bytes:
        # chronyd answers to the address that a client's socket has, in a directory that it may write to.
        own = os.path.join(os.path.dirname(path), f"flatout.{os.getpid()}.{secrets.token_hex(4)}.sock")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
            try:
                asking.bind(own)
                os.chmod(own, 0o666)
                asking.connect(path)
                return _exchange(asking, asked)
            finally:
                with contextlib.suppress(OSError):
                    os.unlink(own)


def _exchange(asking: socket.socket, asked: bytes) -> bytes:
    asking.settimeout(TIMEOUT_S)
    asking.send(asked)
    return asking.recv(1024)
