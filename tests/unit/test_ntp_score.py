"""`flatout ntp check`: the pool's score and the rules, from answers that are made up."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from flatout.protocols.ntp import conformance, packet, probe, score
from flatout.protocols.ntp.packet import Answer, span_ns, stamp
from flatout.protocols.ntp.probe import Reply

NOW = 1_800_000_000_000_000_000
ORIGIN = 0x1234_5678_9ABC_DEF0
TO = ("192.0.2.1", 123)


def reply(offset_s: float = 0.0, *, version: int = 4, mode: int = 4, delay_ns: int = 100_000, **given: Any) -> Reply:
    """An answer of a good server whose clock is so far ahead, changed as asked."""
    there = NOW + delay_ns // 2 + round(offset_s * 1e9)
    fields = {
        "leap": 0,
        "stratum": 2,
        "precision": -25,
        "delay": 100,
        "dispersion": 100,
        "refid": b"\xc0\0\2\7",
        "reference": stamp(there - 16_000_000_000),
        "origin": ORIGIN,
        "receive": stamp(there - 1000),
        "transmit": stamp(there + 1000),
        "source": TO,
        "trailer": b"",
        **given,
    }
    head = struct.pack(
        ">BBbbII4s",
        fields["leap"] << 6 | version << 3 | mode,
        fields["stratum"],
        6,
        fields["precision"],
        fields["delay"],
        fields["dispersion"],
        fields["refid"],
    )
    stamps = struct.pack(">4Q", *(fields[name] for name in ("reference", "origin", "receive", "transmit")))
    return Reply(head + stamps + fields["trailer"], fields["source"], NOW, NOW + delay_ns, TO)


def judged(*replies: Reply | None) -> score.Evaluation:
    return score.evaluate(replies, [ORIGIN] * len(replies))[0]


def test_offset_and_round_trip_are_those_of_rfc_5905() -> None:
    ahead = reply(1.5)
    assert ahead.offset_ns == pytest.approx(1.5e9, abs=2)
    assert ahead.round_trip_ns == pytest.approx(98_000, abs=2)
    assert span_ns(2**64 - 2**32, 2**32) == 2_000_000_000, "over the end of an era"
    assert Answer.of(b"\0" * 47) is None


@pytest.mark.parametrize(
    ("offset_s", "step"),
    [(0.0, 1), (0.0249, 1), (-0.0249, 1), (0.05, 0.83365), (-0.5, -0.423), (0.8, -2), (2.9, -2), (3.1, -4), (-400, -4)],
)
def test_steps_by_offset(offset_s: float, step: float) -> None:
    assert judged(reply(offset_s)).step == pytest.approx(step, abs=1e-3)


@pytest.mark.parametrize(
    ("given", "step", "at_most"),
    [
        ({"stratum": 0, "refid": b"RATE"}, -3.5, 20),
        ({"stratum": 0, "refid": b"DENY"}, -10, -50),
        ({"stratum": 0, "refid": b"RSTR"}, -10, -50),
        ({"stratum": 0, "refid": b"INIT"}, -2, 5),
        ({"leap": 3}, -4, 20),
        ({"stratum": 8}, -4, 20),
        ({"transmit": 0}, -4, 20),
        ({"reference": 0}, -4, 20),
        ({"receive": stamp(NOW + 10**9)}, -4, 20),
        ({"reference": stamp(NOW - 132_000 * 10**9)}, -4, 20),
        ({"dispersion": 17 << 16}, -4, 20),
        ({"origin": 5}, -5, 20),
        ({"mode": 3}, -5, 20),
    ],
    ids=str,
)
def test_steps_of_what_is_wrong(given: dict[str, Any], step: float, at_most: float) -> None:
    found = judged(reply(**given))
    assert (found.step, found.at_most) == (step, at_most), found.why


def test_silence_costs_most_but_for_refusal() -> None:
    assert judged(None, None, None).step == -5
    assert judged(None, reply()).step == 1, "a lost query is no harm"
    assert judged(None, reply(stratum=0, refid=b"DENY")).step == -10
    assert judged(reply()).settles_at == pytest.approx(20)
    assert judged(reply(4)).settles_at == pytest.approx(-80)


def test_the_shortest_round_trip_counts() -> None:
    assert score.evaluate([reply(0.5), reply(0.001, delay_ns=10_000), reply(0.7)], [ORIGIN] * 3)[1] == 1


def test_an_answer_from_another_address_is_none() -> None:
    elsewhere = reply(0.001)._replace(source=("192.0.2.9", 123), to=("192.0.2.1", 123))
    assert judged(elsewhere).step == -5
    assert judged(elsewhere._replace(source=("192.0.2.1", 123))).step > 0
    scoped = reply(0.001)._replace(source=("fe80::1%eth0", 123, 0, 2), to=("fe80::1", 123, 0, 2))
    assert judged(scoped).step > 0


def verdicts(changed: Reply) -> set[str]:
    return {one.name for one in conformance.fields(changed, ORIGIN) if one.verdict == "fail"}


@pytest.mark.parametrize(
    ("given", "broken"),
    [
        ({}, set()),
        ({"source": ("192.0.2.9", 123)}, {"source address"}),
        ({"origin": 5}, {"origin stamp"}),
        ({"leap": 3}, {"leap"}),
        ({"stratum": 0}, {"stratum"}),
        ({"stratum": 16}, {"stratum"}),
        ({"precision": 1}, {"precision"}),
        ({"refid": bytes(4)}, {"reference id"}),
        ({"dispersion": 17 << 16}, {"root distance"}),
        ({"reference": 0}, {"reference stamp"}),
        ({"receive": stamp(NOW + 10**9)}, {"transmit after receive"}),
        ({"receive": ORIGIN, "transmit": ORIGIN}, {"distinct stamps", "reference stamp"}),
    ],
    ids=lambda value: str(sorted(value)),
)
def test_each_field_has_a_rule(given: dict[str, Any], broken: set[str]) -> None:
    assert verdicts(reply(**given)) == broken


def test_requests_of_every_kind_want_an_answer_in_kind() -> None:
    for one in conformance.probes(ORIGIN):
        version, origin = one.packet[0] >> 3 & 7, int.from_bytes(one.packet[40:48])
        good = reply(version=version, mode=one.mode, origin=origin)
        assert conformance.answered(one, good, alive=True).verdict == "pass", one.name
        assert conformance.answered(one, None, alive=True).verdict == "fail"
        assert conformance.answered(one, None, alive=False).verdict == "unknown", "it may limit rates"
        for wrong in ({"version": version % 4 + 1}, {"mode": 5}, {"origin": 77}, {"trailer": bytes(64)}):
            spoiled = {"version": version, "mode": one.mode, "origin": origin, **wrong}
            assert conformance.answered(one, reply(**spoiled), alive=True).verdict == "fail", (one.name, wrong)


def test_what_is_no_request_wants_none() -> None:
    with_control = conformance.silent(ORIGIN, control=True)
    assert len(with_control) == len(conformance.silent(ORIGIN, control=False)) + 2
    for one in with_control:
        assert conformance.unanswered(one, None).verdict == "pass"
        assert conformance.unanswered(one, reply()).verdict == "fail", one.name
    five = next(one for one in with_control if one.name == "version 5")
    assert conformance.unanswered(five, reply(version=5)).verdict == "pass", "a server of version 5"


def test_amplification_is_the_longest_answer_by_its_request() -> None:
    plain = packet.request(4, 3, ORIGIN)
    assert conformance.amplification([(plain, reply()), (plain, None)]).verdict == "pass"
    assert conformance.amplification([(plain, reply()), (plain[:12], reply())]).verdict == "fail"


def test_stamps_cannot_be_guessed() -> None:
    assert len({probe.random_stamp() for _ in range(100)}) == 100
