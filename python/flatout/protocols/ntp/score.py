"""The score that the NTP Pool's monitor would give (ntppool/monitor; the pool for NTS is scored alike). Pure.

Every check multiplies the old score by 0.95 and adds a step, at most 20 in all; the pool uses servers above 10. So a
server that always gets the same step ends at 20 times that step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from flatout.protocols.ntp.packet import SERVER, Answer, span_ns
from flatout.protocols.ntp.probe import Reply

BEST, USED_ABOVE, DECAY = 20.0, 10.0, 0.95
_FRESH_NS = 2**17 * 1_000_000_000
_DISTANCE_MAX_S = 16.0


class Evaluation(NamedTuple):
    """What one answer is worth: the step that it adds, why, and the most that the score can then be."""

    step: float
    why: str
    at_most: float = BEST

    @property
    def settles_at(self) -> float:
        """The score after many such checks."""
        return max(min(self.step / (1 - DECAY), self.at_most), -100.0)


def evaluate(replies: Sequence[Reply | None], origins: Sequence[int]) -> tuple[Evaluation, int | None]:
    """The monitor's verdict on its queries, whose transmit stamps are `origins`, and the number of the one that counts.

    Of valid answers the one with the shortest round trip counts, else the first error.
    """
    judged = [one(reply, origin) for reply, origin in zip(replies, origins, strict=True)]
    valid = [number for number, (_, is_valid) in enumerate(judged) if is_valid]
    if valid:
        best = min(valid, key=lambda number: _round_trip(replies[number]))
        return judged[best][0], best
    answered = [number for number, reply in enumerate(replies) if reply is not None]
    return judged[answered[0] if answered else 0][0], answered[0] if answered else None


def _round_trip(reply: Reply | None) -> int:
    return reply.round_trip_ns if reply else 0


def one(reply: Reply | None, origin: int) -> tuple[Evaluation, bool]:
    """One answer, and whether its time counts."""
    answer = reply.answer if reply else None
    if reply is None:
        return Evaluation(-5, "no answer in time"), False
    if reply.from_elsewhere:
        return Evaluation(-5, "the answer came from another address than the one asked: clients do not see it"), False
    if answer is None or answer.mode != SERVER or answer.origin != origin:
        return Evaluation(-5, "what came is no answer to the query"), False
    if answer.stratum == 0:
        return _kiss(answer), False
    if fault := _fault(answer):
        return Evaluation(-4, fault), False
    return _accuracy(reply.offset_ns / 1e9), True


def _kiss(answer: Answer) -> Evaluation:
    if answer.kiss == "RATE":
        return Evaluation(-3.5, "kiss-o'-death RATE: it limits the monitor's rate")
    if answer.kiss in ("DENY", "RSTR"):
        return Evaluation(-10, f"kiss-o'-death {answer.kiss}: it refuses the monitor", -50)
    said = f"kiss-o'-death {answer.kiss!r}" if answer.kiss else "no kiss code"
    return Evaluation(-2, f"stratum 0 ({said}): not synchronised", 5)


def _fault(answer: Answer) -> str:
    """What the monitor's client library refuses, or its limit of the stratum."""
    faults = [
        ("leap 3: not synchronised", answer.leap == 3),
        (f"stratum {answer.stratum}: the pool takes servers below 8", answer.stratum >= 8),
        ("no transmit stamp", answer.transmit == 0),
        ("no reference stamp", answer.reference == 0),
        ("the transmit stamp is before the receive stamp", span_ns(answer.receive, answer.transmit) < 0),
        ("the reference stamp is later than the answer", span_ns(answer.reference, answer.transmit) < 0),
        ("the reference stamp is over 36 hours old", span_ns(answer.reference, answer.transmit) > _FRESH_NS),
        (f"root distance {answer.root_distance_s:.1f} s, above 16 s", answer.root_distance_s > _DISTANCE_MAX_S),
    ]
    return next((what for what, found in faults if found), "")


def _accuracy(offset_s: float) -> Evaluation:
    off, said = abs(offset_s), f"its clock is {abs(offset_s) * 1e3:,.3f} ms {'behind' if offset_s < 0 else 'ahead'}"
    if off > 3:
        return Evaluation(-4, f"{said}: over 3 s", -20)
    if off > 0.75:
        return Evaluation(-2, f"{said}: over 750 ms")
    if off > 0.1:
        return Evaluation(0.731 - 2.308 * off, f"{said}: over 100 ms")
    if off > 0.025:
        return Evaluation(1.167 - 6.667 * off, f"{said}: over 25 ms")
    return Evaluation(1, f"{said}: within 25 ms")
