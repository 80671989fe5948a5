"""What daemons answer about their time: real answers, forged ones, and any bytes at all."""

from __future__ import annotations

import math
import socket
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_time_state import STATE, Scripted

from conftest import ROOT
from flatout.errors import UsageError
from flatout.protocols.ntp.serving import upstream_of
from flatout.protocols.ntp.state import TimeState, Unusable, ntp_stamp
from flatout.protocols.ntp.upstream import TimeSource, chrony, daemon, kernel, ntpd
from flatout.protocols.ntp.upstream.address import Address, is_near
from flatout.server.exposition import prometheus
from flatout.server.state_poller import StatePoller

SEQUENCE = 0x01020304


def packet(name: str) -> bytes:
    return bytes.fromhex((ROOT / "tests" / "packets" / "ntp" / f"{name}.hex").read_text(encoding="ascii"))


# --- Over NTP ---


def test_a_daemons_answer_is_copied_unchanged() -> None:
    answer, transmit = packet("chrony_v4_answer"), packet("chrony_v4_request")[40:]
    reported = daemon.parse(answer, transmit)
    assert (reported.leap, reported.stratum, reported.reference_id) == (0, answer[1], answer[12:16])
    assert reported.reference == int.from_bytes(answer[16:24], "big")
    assert reported.root_dispersion_ns >= int.from_bytes(answer[8:12], "big") * 15_258
    assert not daemon.parse(
        packet("chrony_unsynchronised_answer"), packet("chrony_unsynchronised_answer")[24:32]
    ).synchronised


def test_what_is_no_answer_to_the_request_is_refused() -> None:
    answer, transmit = packet("chrony_v4_answer"), packet("chrony_v4_request")[40:]
    for broken in (
        answer[:47],
        bytes([answer[0] ^ 1]) + answer[1:],
        bytes([answer[0] ^ 8]) + answer[1:],
        answer[:40] + bytes(8),
    ):
        with pytest.raises(Unusable):
            daemon.parse(broken, transmit)
    with pytest.raises(Unusable, match="another request"):
        daemon.parse(answer, bytes(8))


def answer_of(receive_ns: int, transmit_ns: int) -> bytes:
    return bytes(32) + struct.pack(">QQ", ntp_stamp(receive_ns), ntp_stamp(transmit_ns))


def test_a_daemon_with_another_time_widens_the_dispersion_or_is_refused() -> None:
    now = 1_800_000_000 * 10**9
    same = daemon.difference_ns(answer_of(now + 10_000, now + 20_000), now, now + 30_000)
    assert same == 0
    # 5 ms ahead, of which 10 µs may be the exchange's own.
    ahead = daemon.difference_ns(answer_of(now + 5_010_000, now + 5_020_000), now, now + 30_000)
    assert ahead == pytest.approx(5_000_000 - 10_000, abs=5)
    assert daemon.checked(STATE, ahead).root_dispersion_ns == STATE.root_dispersion_ns + ahead
    hour = daemon.difference_ns(answer_of(now - 3600 * 10**9, now - 3600 * 10**9), now, now + 30_000)
    with pytest.raises(Unusable, match="differs"):
        daemon.checked(STATE, hour)


@given(st.binary(max_size=80), st.booleans())
def test_any_bytes_are_an_answer_or_refused(answer: bytes, right_origin: bool) -> None:
    try:
        reported = daemon.parse(answer, answer[24:32] if right_origin else bytes(8))
    except Unusable:
        return
    assert len(reported.words(1)) == 12
    daemon.difference_ns(answer, 0, 2**63)


# --- chrony ---


def test_chronys_tracking() -> None:
    reported, reference_ns = chrony.parse(packet("chrony_tracking_answer"), SEQUENCE, -25)
    # As `chronyc -c tracking` printed it, a moment later.
    assert (reported.leap, reported.stratum, reported.reference_id, reported.precision) == (
        0,
        10,
        bytes([127, 0, 0, 1]),
        -25,
    )
    assert reported.reference == ntp_stamp(reference_ns)
    assert (reported.root_delay_ns, reported.root_dispersion_ns) == (3245, 2058)
    assert reported.dispersion_ppb == 1172, "1 ppm, the skew and the residual frequency"
    assert reported.correction_ns == -670, "the system clock was fast of NTP time"


def test_other_answers_of_chrony_are_refused() -> None:
    answer = packet("chrony_tracking_answer")
    for at, value in ((0, 5), (1, 1), (4, 1), (7, 6), (9, 2), (16, 9)):
        changed = bytearray(answer)
        changed[at] = value
        with pytest.raises(Unusable):
            chrony.parse(bytes(changed), SEQUENCE, -25)
    for length in (0, 27, 103):
        with pytest.raises(Unusable):
            chrony.parse(answer[:length], SEQUENCE, -25)


def test_a_request_to_chrony_is_no_shorter_than_its_answer() -> None:
    assert len(chrony.request(1)) >= len(packet("chrony_tracking_answer"))
    assert chrony.request(SEQUENCE)[:12] == bytes([6, 1, 0, 0, 0, 33, 0, 0, 1, 2, 3, 4])


@pytest.mark.parametrize(
    ("bits", "value"), [(0, 0.0), (0x0200_0000 | 1 << 23, 0.5), (0x0200_0000 | 0x1FF_FFFF & -(1 << 23), -0.5)]
)
def test_chronys_numbers(bits: int, value: float) -> None:
    assert chrony.number(bits) == value


@given(st.integers(0, 2**32 - 1))
def test_chronys_numbers_are_finite(bits: int) -> None:
    assert math.isfinite(chrony.number(bits))


@given(st.binary(min_size=76, max_size=76))
def test_any_tracking_is_a_state(body: bytes) -> None:
    reported, _ = chrony.parse(packet("chrony_tracking_answer")[:28] + body, SEQUENCE, -25)
    assert all(0 <= word < 2**64 for word in reported.words(1))


def test_a_slew_is_followed_while_it_gets_smaller() -> None:
    slew = chrony.Slew()
    assert slew.rate_ppb(0.0, 1_000_000, 7) == 0, "nothing is known before"
    assert slew.rate_ppb(1.0, 900_000, 7) == -100_000
    assert slew.rate_ppb(2.0, 950_000, 7) == 0, "it grows"
    assert slew.rate_ppb(3.0, 900_000, 8) == 0, "an update came in between"
    assert slew.rate_ppb(4.0, -900, 8) == 0, "it has turned round"
    assert slew.rate_ppb(4.01, -800, 8) == 0, "too short to tell"


def test_an_unknown_slew_is_in_the_dispersion(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = chrony.Chrony(steady_s=iter((0.0, 1.0)).__next__)
    answers = iter(
        [TimeState(0, 2, -20, b"GPS\0", 5 << 32, 10, 20, correction_ns=ns) for ns in (300_000_000, 217_000_000)]
    )
    monkeypatch.setattr(asked, "_over_udp", lambda _at, _asked: b"")
    monkeypatch.setattr(chrony, "parse", lambda *_: (next(answers), 7))
    first, second = asked.ask(), asked.ask()
    assert (first.root_dispersion_ns, first.correction_ppb) == (20 + 100_000_000, 0)
    assert (second.root_dispersion_ns, second.correction_ppb) == (20, -83_000_000)


# --- Where daemons are asked ---


@pytest.mark.parametrize(
    ("address", "near"),
    [
        ("127.0.0.1", True),
        ("10.1.2.3", True),
        ("::1", True),
        ("fe80::1%lo", True),
        ("fd00::5", True),
        ("192.0.2.1", False),
        ("8.8.8.8", False),
        ("2001:db8::1", False),
    ],
)
def test_only_near_daemons_have_our_clock(address: str, near: bool) -> None:
    assert is_near(address) == near
    text = f"[{address}]:123" if ":" in address else f"{address}:123"
    for upstream in (text, f"chrony:{text}", f"ntpd:{text}"):
        if near:
            upstream_of(upstream, None)
        else:
            with pytest.raises(UsageError, match="must keep this host's clock"):
                upstream_of(upstream, None)


def test_a_name_is_resolved_again_after_a_question_without_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    resolved: list[str] = []

    def resolve(host: str, port: int, **_: object) -> list[Any]:
        resolved.append(host)
        kind = (socket.SOCK_DGRAM, 0, "")
        return [(socket.AF_INET6, *kind, ("::1", port, 0, 0)), (socket.AF_INET, *kind, ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    at = Address("localhost", 9)
    with at.connect() as first:
        assert first.getpeername() == ("127.0.0.1", 9), "IPv4 first"
        at.keep(first)
    with at.connect():
        assert len(resolved) == 1
    with at.connect():
        assert len(resolved) == 2, "the second question had no answer"


# --- ntpd ---

SYNCHRONISED = (
    'version="ntpd ntpsec-1.2.2", leap=1, stratum=2, precision=-24,\r\nrootdelay=1.250, rootdisp=3.5, refid=192.0.2.1, '
    "reftime=0xeeb46444.80000000, clock=0xeeb46445.00000000"
)


def test_ntpds_variables() -> None:
    assert ntpd.parse(SYNCHRONISED) == TimeState(
        1, 2, -24, bytes([192, 0, 2, 1]), 0xEEB46444_80000000, 1_250_000, 3_500_000
    )
    assert ntpd.reference_id(".GPS.") == b"GPS\0"


def test_a_real_ntpd_that_is_not_synchronised() -> None:
    text = ntpd.Fragments(0x0102).add(packet("ntpd_variables_answer"))
    assert text is not None
    reported = ntpd.parse(text)
    assert (reported.leap, reported.stratum, reported.synchronised, reported.precision) == (3, 16, False, -24)


def fragment(offset: int, data: bytes, *, more: bool, sequence: int = 1) -> bytes:
    return struct.pack(">BBHHHHH", 0x16, 0x82 | 0x20 * more, sequence, 0, 0, offset, len(data)) + data


def test_fragments_come_in_any_order() -> None:
    parts = ntpd.Fragments(1)
    assert parts.add(fragment(5, b"world", more=False)) is None
    assert parts.add(fragment(0, b"hello", more=True)) == "helloworld"


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        fragment(0, b"x", more=False, sequence=2),
        b"\x16\xc2" + fragment(0, b"", more=False)[2:],
        fragment(0, b"abc", more=False)[:-1],
        b"\x13" + fragment(0, b"", more=False)[1:],
    ],
)
def test_broken_fragments_are_refused(broken: bytes) -> None:
    with pytest.raises(Unusable):
        ntpd.Fragments(1).add(broken)


def test_fragments_are_bounded() -> None:
    parts = ntpd.Fragments(1)
    for n in range(16):
        assert parts.add(fragment(100 + 2 * n, b"x", more=True)) is None
    with pytest.raises(Unusable):
        parts.add(fragment(0, b"x", more=True))


BROKEN = [
    SYNCHRONISED.replace(*change) for change in (("3.5", "1e999"), ("=-24", "=9"), ("leap", "pale"), ("=2,", "=,"))
]


@given(st.text(max_size=200) | st.sampled_from(BROKEN))
def test_any_text_is_a_state_or_refused(text: str) -> None:
    with pytest.raises(Unusable):
        ntpd.parse(text)


@given(st.lists(st.binary(max_size=64), max_size=8))
def test_any_packets_are_fragments_or_refused(packets: list[bytes]) -> None:
    parts = ntpd.Fragments(1)
    for each in packets:
        try:
            parts.add(each)
        except Unusable:
            continue


# --- The kernel ---


def test_the_kernel_bears_out_what_is_stated_or_not() -> None:
    stated = TimeState(0, 1, -20, b"PPS\0", 0, 0, 1_000, dispersion_ppb=0)
    reported = kernel.checked(stated, kernel.TIME_OK, 0, 250)
    assert (reported.leap, reported.root_dispersion_ns, reported.dispersion_ppb) == (0, 251_000, 500_000)
    assert kernel.checked(stated, kernel.TIME_INS, kernel.STA_INS, 0).leap == 1
    assert kernel.checked(stated, kernel.TIME_DEL, kernel.STA_DEL, 0).leap == 2
    assert kernel.checked(stated, kernel.TIME_WAIT, kernel.STA_INS, 0).leap == 0, "it was"
    for clock_state, status in ((kernel.TIME_ERROR, 0), (kernel.TIME_OK, kernel.STA_UNSYNC), (kernel.TIME_OOP, 0)):
        with pytest.raises(Unusable):
            kernel.checked(stated, clock_state, status, 0)


def test_the_kernel_can_be_asked() -> None:
    said, reported = "", None
    try:
        reported = kernel.Kernel(TimeState(0, 1, -20, b"PPS\0", 0, 0, 0)).ask()
    except Unusable as error:
        said = str(error)
    assert reported is not None or said in (
        "the kernel's clock is not synchronised",
        "a leap second is in progress",
    ), "nobody may keep this host's clock"


# --- The poller ---


def test_a_source_that_fails_is_counted_and_the_last_state_stays() -> None:
    reported: list[Any] = []
    answers = (STATE, OSError("gone"), Unusable("odd"), RuntimeError("anything"), STATE, OSError("end"))
    now_s = 1

    def now_ns() -> tuple[int, int]:
        return now_s * 10**9, now_s * 10**9

    source = TimeSource(Scripted(*answers), 60, smear=False, now_ns=now_ns)
    source.interval_s = None
    poller = StatePoller(source, reported.append)
    for _ in range(3):
        poller.once()
    assert len(reported) == 1
    assert poller.stats()["why"] == "scripted: anything"
    assert (poller.stats()["asked"], poller.stats()["told"], poller.stats()["failed"]) == (4, 1, 3)
    poller.once()
    assert len(reported) == 2
    assert poller.stats()["why"] is None
    assert poller.stats()["stratum"] == 2
    assert poller.stats()["error_bound_ns"] == 5 + 20
    assert poller.stats()["synchronised"]
    now_s += 10
    assert poller.stats()["error_bound_ns"] == 5 + 20 + 10 * 15_000
    now_s += 51
    assert not poller.stats()["synchronised"], "it holds for 60 s"
    assert poller.stats()["age_s"] >= 0
    poller.stop()


def test_a_monitor_reads_the_state_and_the_stamps() -> None:
    state = {
        "synchronised": True,
        "asked": 3,
        "told": 2,
        "failed": 1,
        "why": None,
        "age_s": 0.5,
        "stratum": 2,
        "error_bound_ns": 1_500,
    }
    stamps = {"unstamped": 0, "tx_sampled": 7, "tx_late": 0, "tx_early_ns": {"p50": 1000, "p99": 2000, "max": 3000}}
    stats = {"received": 1, "dropped": {}, "workers": [], "replaced": {"count": 0}, "t_s": 1.0}
    text = prometheus({**stats, "state": state, "stamps": stamps}, "x")
    assert 'flatout_state_told_total{protocol="x"} 2\n' in text
    assert 'flatout_state_age_seconds{protocol="x"} 0.5\n' in text
    assert 'flatout_state_error_bound_seconds{protocol="x"} 1.5e-06\n' in text
    assert 'flatout_tx_early_seconds{protocol="x",quantile="p99"} 2e-06\n' in text
    assert 'flatout_tx_sampled_total{protocol="x"} 7\n' in text
    assert 'flatout_state_synchronised{protocol="x"} 1\n' in text
    assert "why" not in text
    assert "flatout_state" not in prometheus(stats, "x")
