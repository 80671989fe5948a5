"""Asking a receiver, with one that only tells what it was told to: no socket, no waiting."""

from __future__ import annotations

import ipaddress

import pytest
from receivers import Teller, counters

from flatout.errors import TargetError, UsageError
from flatout.plan.targets import Endpoint
from flatout.result import loss as arrivals
from flatout.runner import receiver_stats as inquiries
from flatout.runner.receiver_stats import Inquiry

HERE = Endpoint(ipaddress.ip_address("127.0.0.1"), 5, 0)
THERE = Endpoint(ipaddress.ip_address("127.0.0.1"), 6, 0)


def no_rest(_seconds: float) -> None:
    """Waits for nothing."""


def asking(*answers: dict[str, int] | Exception | None, at: tuple[Endpoint, ...] = (HERE,)) -> tuple[Inquiry, Teller]:
    teller = Teller(*answers)
    return Inquiry(at, teller, no_rest), teller


def test_numbers_begin_anew_with_the_first_question_only() -> None:
    inquiry, teller = asking(counters(5), counters(7), counters(7))
    inquiry.begin(24)
    assert inquiry.received() == 2
    inquiry.end(10)
    assert [anew for _, anew in teller.asked] == [True, False, False, False]


def test_it_asks_until_nothing_more_comes() -> None:
    inquiry, _ = asking(counters(5), counters(50), None, counters(70), counters(90), counters(90), counters(100))
    inquiry.begin(24)
    inquiry.end(85)
    assert [r.after["received"] for r in inquiry.readings()] == [90]
    assert inquiry.received() == 85
    assert inquiry.lost is None


def test_a_slow_handler_is_not_waited_for() -> None:
    slow = [counters(9, handed_over=n, queued=9 - n) for n in range(9)]
    inquiry, teller = asking(counters(), *slow)
    inquiry.begin(24)
    inquiry.end(9)
    assert len(teller.asked) == 3


def test_a_receiver_that_never_comes_to_rest_is_left_after_a_while() -> None:
    inquiry, teller = asking(*[counters(n) for n in range(1000)])
    inquiry.begin(24)
    inquiry.end(10)
    assert len(teller.asked) < 100
    assert inquiry.readings()


def test_one_that_tells_nothing_any_more_is_lost() -> None:
    inquiry, teller = asking(counters(5), None)
    inquiry.begin(24)
    assert inquiry.received() is None
    inquiry.end(10)
    assert inquiry.lost is not None
    assert "told nothing for 10 s after the run" in inquiry.lost
    assert inquiry.readings() == []
    assert len(teller.asked) == 22, "once before, once in mid-run, and for 10 s of half a second"


def test_one_that_has_gone_is_lost_at_once() -> None:
    inquiry, teller = asking(counters(5), TargetError("nobody"))
    inquiry.begin(24)
    inquiry.end(10)
    assert inquiry.lost == "nobody listens at 127.0.0.1:5 any more"
    assert len(teller.asked) == 2


def test_one_that_was_started_anew_tells_nothing_of_the_run() -> None:
    anew = [counters(n, instance=8) for n in (90, 95, 95)]
    inquiry, teller = asking(counters(5), counters(50), TargetError("nobody"), *anew)
    inquiry.begin(24)
    assert [inquiry.received() for _ in range(3)] == [45, None, None]
    inquiry.end(200)
    assert len(teller.asked) == 6
    (reading,) = inquiry.readings()
    assert (reading.before["instance"], reading.after["instance"], reading.after["received"]) == (7, 8, 95)
    assert inquiry.received() is None
    assert inquiry.lost is None, "it is there, and what it tells is for the account"


def test_a_start_anew_between_the_last_two_questions_is_noticed() -> None:
    inquiry, _ = asking(counters(0), counters(0), counters(0, instance=8))
    inquiry.begin(24)
    inquiry.end(10)
    assert arrivals.begun_anew(inquiry.readings())


def test_nobody_who_tells_is_asked_once() -> None:
    inquiry, teller = asking(None)
    inquiry.begin(24)
    inquiry.end(10)
    assert (inquiry.counted, inquiry.lost, inquiry.received(), inquiry.readings()) == (False, None, None, [])
    assert len(teller.asked) == 1


def test_one_address_that_tells_nothing_spoils_the_sum() -> None:
    inquiry, _ = asking(counters(), None, at=(HERE, THERE))
    inquiry.begin(24)
    assert not inquiry.counted


def test_messages_of_another_size_are_bad_use() -> None:
    inquiry, _ = asking(counters(size=32))
    with pytest.raises(UsageError, match="messages of 32 bytes, and these have 24"):
        inquiry.begin(24)


def test_nobody_listening_is_the_targets_fault() -> None:
    inquiry, _ = asking(TargetError("nobody listens"))
    with pytest.raises(TargetError, match="nobody listens"):
        inquiry.begin(24)


@pytest.mark.parametrize(("error", "fails"), [(ConnectionRefusedError(), True), (OSError(101, "no way"), False)])
def test_what_the_kernel_says_of_a_question(monkeypatch: pytest.MonkeyPatch, error: OSError, fails: bool) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(inquiries._engine, "arrived", refuse)
    if fails:
        with pytest.raises(TargetError, match=r"nobody listens at 127\.0\.0\.1:5"):
            inquiries.ask(HERE)
    else:
        assert inquiries.ask(HERE) is None


def test_a_backlog_before_the_question_is_waited_for() -> None:
    inquiry, _ = asking(counters(5), *[None] * 15, counters(60), counters(90), counters(90))
    inquiry.begin(24)
    inquiry.end(85)
    assert inquiry.lost is None
    assert [r.after["received"] for r in inquiry.readings()] == [90]


@pytest.mark.parametrize("bits", [32, 0])
def test_who_reads_other_places_is_refused_where_it_follows_numbers(bits: int) -> None:
    inquiry, _ = asking(counters(places=4 << 48 | 4 << 16, sequence_bits=bits))
    if not bits:
        inquiry.begin(24, 4 << 32)
        return
    inquiry.begin(24, 4 << 48 | 4 << 16)
    with pytest.raises(UsageError, match="looks elsewhere in a message"):
        inquiry.begin(24, 4 << 32)
