"""A local time daemon, asked over NTP: its state is copied unchanged, its stratum and reference too.

The daemon and the server have one clock. How far the daemon's time differs from the system clock's is measured with
each exchange: a difference beyond the exchange's own error is added to the dispersion, a large one is refused.
"""

from __future__ import annotations

import secrets
import time

from flatout.protocols.ntp import state
from flatout.protocols.ntp.state import TimeState, Unusable
from flatout.protocols.ntp.upstream import TIMEOUT_S, Upstream
from flatout.protocols.ntp.upstream.address import Address

HEADER = 48
REQUEST = 4 << 3 | 3
_SERVER = 4
_DIFFERENCE_MAX_NS = state.SECOND_NS


def request(transmit: bytes) -> bytes:
    """A client's request of version 4 with these eight bytes as transmit stamp."""
    return bytes([REQUEST]) + bytes(HEADER - 9) + transmit


def parse(answer: bytes, transmit: bytes) -> TimeState:
    """The daemon's state from its answer to the request with this transmit stamp. Errors: Unusable."""
    if len(answer) < HEADER:
        raise Unusable(f"an answer of {len(answer)} bytes")
    if answer[24:32] != transmit:
        raise Unusable("an answer to another request")
    if answer[0] & 7 != _SERVER or answer[0] >> 3 & 7 != 4:
        raise Unusable(f"an answer of version {answer[0] >> 3 & 7}, mode {answer[0] & 7}")
    if answer[40:48] == bytes(8):
        raise Unusable("no transmit stamp")
    return TimeState(
        leap=answer[0] >> 6,
        stratum=answer[1],
        precision=max(-32, min(0, int.from_bytes(answer[3:4], "big", signed=True))),
        reference_id=answer[12:16],
        reference=int.from_bytes(answer[16:24], "big"),
        root_delay_ns=state.short_ns(int.from_bytes(answer[4:8], "big")),
        root_dispersion_ns=state.short_ns(int.from_bytes(answer[8:12], "big")),
    )


def difference_ns(answer: bytes, sent_unix_ns: int, received_unix_ns: int) -> int:
    """By how much the daemon's time differs from the system clock's beyond the exchange's own error, ns."""
    receive, transmit = (int.from_bytes(answer[at : at + 8], "big") for at in (32, 40))
    there = state.stamp_difference_ns(receive, state.ntp_stamp(sent_unix_ns))
    back = state.stamp_difference_ns(transmit, state.ntp_stamp(received_unix_ns))
    delay = max(there - back, 0)
    return max(abs(there + back) // 2 - delay // 2, 0)


def checked(reported: TimeState, difference: int) -> TimeState:
    """The state with the difference of the two clocks in its dispersion. Errors: Unusable for a large one."""
    if difference > _DIFFERENCE_MAX_NS:
        raise Unusable(f"its time differs from the system clock by {difference / 1e9:.1f} s")
    grown = reported.root_dispersion_ns + difference
    return TimeState(**{**reported.__dict__, "root_dispersion_ns": grown})


class Daemon(Upstream):
    """A daemon at `host:port`."""

    def __init__(self, host: str, port: int) -> None:
        self._at = Address(host, port)
        self.name = str(self._at)

    def ask(self) -> TimeState:
        """A socket for each question: a source port that nobody can guess, and no answer to an older one."""
        transmit = secrets.token_bytes(8)
        with self._at.connect() as asking:
            asking.settimeout(TIMEOUT_S)
            sent = time.time_ns()
            asking.send(request(transmit))
            answer = asking.recv(1024)
            received = time.time_ns()
            self._at.keep(asking)
        reported = parse(answer, transmit)
        return checked(reported, difference_ns(answer, sent, received)) if reported.synchronised else reported
