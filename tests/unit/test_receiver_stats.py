"""Asking a receiver, with one that only tells what it was told to: no socket, no waiting."""

from __future__ import annotations

import ipaddress

import pytest
from receivers import Teller, counters

from flatout.errors import TargetError, UsageError
from flatout.plan.targets import Endpoint
from flatout.result.loss import receiver_restarted
from flatout.runner import receiver_stats
from flatout.runner.receiver_stats import StatsQuery

HERE = Endpoint(ipaddress.ip_address("127.0.0.1"), 5, 0)
THERE = Endpoint(ipaddress.ip_address("127.0.0.1"), 6, 0)


def no_rest(_seconds: float) -> None:
    """Waits for nothing."""


def asking(
    *answers: dict[str, int] | Exception | None, at: tuple[Endpoint, ...] = (HERE,)
) -> tuple[StatsQuery, Teller]:
    teller = Teller(*answers)
    return StatsQuery(at, teller, no_rest), teller


def test_numbers_begin_anew_with_the_first_question_only() -> None:
    stats_query, teller = asking(counters(5), counters(7), counters(7))
    stats_query.begin(24)
    assert stats_query.received() == 2
    stats_query.end(10)
    assert [reset_sequences for _, reset_sequences in teller.asked] == [True, False, False, False]


def test_it_asks_until_nothing_more_comes() -> None:
    stats_query, _ = asking(counters(5), counters(50), None, counters(70), counters(90), counters(90), counters(100))
    stats_query.begin(24)
    stats_query.end(85)
    assert [r.after["received"] for r in stats_query.samples()] == [90]
    assert stats_query.received() == 85
    assert stats_query.lost is None


def test_a_slow_handler_is_not_waited_for() -> None:
    slow = [counters(9, handed_over=n, queued=9 - n) for n in range(9)]
    stats_query, teller = asking(counters(), *slow)
    stats_query.begin(24)
    stats_query.end(9)
    assert len(teller.asked) == 3


def test_a_receiver_that_never_comes_to_rest_is_left_after_a_while() -> None:
    stats_query, teller = asking(*[counters(n) for n in range(1000)])
    stats_query.begin(24)
    stats_query.end(10)
    assert len(teller.asked) < 100
    assert stats_query.samples()


def test_one_that_tells_nothing_any_more_is_lost() -> None:
    stats_query, teller = asking(counters(5), None)
    stats_query.begin(24)
    assert stats_query.received() is None
    stats_query.end(10)
    assert stats_query.lost is not None
    assert "reported nothing for 10 s after the run" in stats_query.lost
    assert stats_query.samples() == []
    assert len(teller.asked) == 22, "once before, once in mid-run, and for 10 s of half a second"


def test_one_that_has_gone_is_lost_at_once() -> None:
    stats_query, teller = asking(counters(5), TargetError("closed port"))
    stats_query.begin(24)
    stats_query.end(10)
    assert stats_query.lost == "the receiver at 127.0.0.1:5 has ended"
    assert len(teller.asked) == 2


def test_one_that_was_started_anew_tells_nothing_of_the_run() -> None:
    reset_sequences = [counters(n, instance=8) for n in (90, 95, 95)]
    stats_query, teller = asking(counters(5), counters(50), TargetError("closed port"), *reset_sequences)
    stats_query.begin(24)
    assert [stats_query.received() for _ in range(3)] == [45, None, None]
    stats_query.end(200)
    assert len(teller.asked) == 6
    (reading,) = stats_query.samples()
    assert (reading.before["instance"], reading.after["instance"], reading.after["received"]) == (7, 8, 95)
    assert stats_query.received() is None
    assert stats_query.lost is None, "it is there, and what it tells is for the account"


def test_a_start_anew_between_the_last_two_questions_is_noticed() -> None:
    stats_query, _ = asking(counters(0), counters(0), counters(0, instance=8))
    stats_query.begin(24)
    stats_query.end(10)
    assert receiver_restarted(stats_query.samples())


def test_a_target_that_does_not_reply_is_asked_once() -> None:
    stats_query, teller = asking(None)
    stats_query.begin(24)
    stats_query.end(10)
    assert (stats_query.counted, stats_query.lost, stats_query.received(), stats_query.samples()) == (
        False,
        None,
        None,
        [],
    )
    assert len(teller.asked) == 1


def test_one_address_that_tells_nothing_spoils_the_sum() -> None:
    stats_query, _ = asking(counters(), None, at=(HERE, THERE))
    stats_query.begin(24)
    assert not stats_query.counted


def test_messages_of_another_size_are_bad_use() -> None:
    stats_query, _ = asking(counters(size=32))
    with pytest.raises(UsageError, match="messages of 32 bytes, and these have 24"):
        stats_query.begin(24)


def test_a_closed_port_is_the_targets_fault() -> None:
    stats_query, _ = asking(TargetError("closed port"))
    with pytest.raises(TargetError, match="closed port"):
        stats_query.begin(24)


@pytest.mark.parametrize(("error", "fails"), [(ConnectionRefusedError(), True), (OSError(101, "no way"), False)])
def test_what_the_kernel_says_of_a_question(monkeypatch: pytest.MonkeyPatch, error: OSError, fails: bool) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(receiver_stats._engine, "arrived", refuse)
    if fails:
        with pytest.raises(TargetError, match=r"no receiver listens at 127\.0\.0\.1:5"):
            receiver_stats.ask(HERE)
    else:
        assert receiver_stats.ask(HERE) is None


def test_a_backlog_before_the_question_is_waited_for() -> None:
    stats_query, _ = asking(counters(5), *[None] * 15, counters(60), counters(90), counters(90))
    stats_query.begin(24)
    stats_query.end(85)
    assert stats_query.lost is None
    assert [r.after["received"] for r in stats_query.samples()] == [90]


@pytest.mark.parametrize("bits", [32, 0])
def test_who_reads_other_places_is_refused_where_it_follows_numbers(bits: int) -> None:
    stats_query, _ = asking(counters(places=4 << 48 | 4 << 16, sequence_bits=bits))
    if not bits:
        stats_query.begin(24, 4 << 32)
        return
    stats_query.begin(24, 4 << 48 | 4 << 16)
    with pytest.raises(UsageError, match="looks for sender and sequence number elsewhere"):
        stats_query.begin(24, 4 << 32)
