"""A check of one NTP server: the pool monitor's score over a few samples, and a list of rules that it keeps or breaks.

Some 25 packets, twice as many where requests stay unanswered; the queries apart from each other as the monitor's are.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import msgspec

from flatout.protocols.ntp import conformance, packet, probe, score
from flatout.protocols.ntp.conformance import Finding
from flatout.protocols.ntp.probe import Address, Reply

SILENCE_S = 1.0
# Between requests that should be answered: a server that limits rates lets bursts of 8 pass as a rule.
_REST_S = 0.2


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One query of the monitor's kind: null without an answer. Times in ns; `stratum` 0 with a `kiss` code."""

    offset_ns: int | None = None
    round_trip_ns: int | None = None
    stratum: int | None = None
    leap: int | None = None
    reference_id: str = ""
    kiss: str = ""


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """The step that these samples add to a server's score, why, and where the score ends with such checks alone.

    `in_dns`: whether that is above 10, so that the pool would use the server. `sample`: the number of the one that
    counts; null without an answer.
    """

    step: float
    why: str
    settles_at: float
    in_dns: bool
    sample: int | None


class CheckResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a check found. `passed`: no rule is broken and the pool would use the server."""

    schema: str = "flatout/1"
    kind: Literal["ntp-check"] = "ntp-check"
    target: str
    address: str
    started_at: str
    samples: list[Sample]
    score: Score
    findings: list[Finding]
    passed: bool

    @property
    def reached(self) -> bool:
        """Whether anything was answered."""
        return any(sample.stratum is not None for sample in self.samples)


def run(
    target: str,
    to: Address,
    *,
    samples: int = 3,
    gap_s: float = 2.0,
    timeout_s: float = 3.0,
    control: bool,
    rest: Callable[[float], None] = time.sleep,
) -> CheckResult:
    """Checks the server at `to`; `control`: also by queries of modes 6 and 7. Errors: OSError if it cannot send."""
    started_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    origins, replies = _sampled(to, samples, gap_s, timeout_s, rest)
    evaluation, counts = score.evaluate(replies, origins)
    found: list[Finding] = []
    if counts is not None and (reply := replies[counts]) is not None:
        found = conformance.fields(reply, origins[counts])
        found += _rules(to, timeout_s, rest, control=control)
    in_dns = evaluation.settles_at > score.USED_ABOVE
    return CheckResult(
        target=target,
        address=f"{to[0]} port {to[1]}",
        started_at=started_at,
        samples=[_sample(reply) for reply in replies],
        score=Score(
            step=evaluation.step, why=evaluation.why, settles_at=evaluation.settles_at, in_dns=in_dns, sample=counts
        ),
        findings=found,
        passed=in_dns and all(one.verdict != "fail" for one in found),
    )


def _sampled(
    to: Address, samples: int, gap_s: float, timeout_s: float, rest: Callable[[float], None]
) -> tuple[list[int], list[Reply | None]]:
    origins = [probe.random_stamp() for _ in range(samples)]
    replies: list[Reply | None] = []
    for number, origin in enumerate(origins):
        if number:
            rest(gap_s)
        replies.append(probe.ask(to, packet.request(4, packet.CLIENT, origin), timeout_s))
    return origins, replies


def _sample(reply: Reply | None) -> Sample:
    answer = reply.answer if reply else None
    if reply is None or answer is None:
        return Sample()
    return Sample(
        offset_ns=reply.offset_ns,
        round_trip_ns=reply.round_trip_ns,
        stratum=answer.stratum,
        leap=answer.leap,
        reference_id=answer.reference_id.hex(),
        kiss=answer.kiss,
    )


def _rules(to: Address, timeout_s: float, rest: Callable[[float], None], *, control: bool) -> list[Finding]:
    """One packet a rule; one that gets no answer is repeated, for it may have been lost."""
    wait_s = min(timeout_s, SILENCE_S)
    found: list[Finding] = []
    exchanges: list[tuple[bytes, Reply | None]] = []
    for one in conformance.probes(probe.random_stamp()):
        rest(_REST_S)
        reply = probe.ask(to, one.packet, wait_s) or probe.ask(to, one.packet, wait_s)
        alive = reply is not None or _answers(to, wait_s)
        if reply is None and alive:
            # A server that limits rates answers some above its limit: what that tells counts if it is so twice.
            reply = probe.ask(to, one.packet, wait_s)
            alive = reply is not None or _answers(to, wait_s)
        found.append(conformance.answered(one, reply, alive=alive))
        exchanges.append((one.packet, reply))
    strange = conformance.silent(probe.random_stamp(), control=control)
    for one, reply in zip(strange, probe.ask_all(to, [one.packet for one in strange], wait_s), strict=True):
        found.append(conformance.unanswered(one, reply))
        exchanges.append((one.packet, reply))
    return [*found, conformance.amplification(exchanges)]


def _answers(to: Address, wait_s: float) -> bool:
    return probe.ask(to, packet.request(4, packet.CLIENT, probe.random_stamp()), wait_s) is not None
