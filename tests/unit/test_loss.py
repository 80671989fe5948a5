"""Accounts of one-way messages: they close, whatever a receiver reports."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from receivers import WORDS, counters, reading

from flatout.result import loss
from flatout.result.model import CounterSamples, Outcomes


def sent(number: int, refused: int = 0) -> Outcomes:
    zero: dict[str, int] = dict.fromkeys(("unsent", "answered", "late", "lost", "invalid", "duplicate"), 0)
    return Outcomes(planned=number, sent=number, refused=refused, **zero)


def account(number: int, *readings: CounterSamples, **changes: Any) -> loss.LossAccount:
    return loss.account_of_messages(sent(number), readings, **changes)


def test_what_is_not_received_is_lost() -> None:
    found = account(1000, reading(parsed=900, malformed=10, kernel_drops=30, reordered=5, missing=90))
    outcomes, counts = found.outcomes, found.receiver
    assert (outcomes.received, outcomes.lost, outcomes.invalid, outcomes.reordered) == (900, 90, 10, 5)
    assert (outcomes.answered, outcomes.late, outcomes.refused) == (0, 0, 0)
    assert found.loss == 0.1
    assert counts is not None
    assert (counts.lost_in_kernel, counts.lost_elsewhere, counts.missing) == (30, 60, 90)
    assert (found.warnings, found.notes, found.lost) == ((), (), None)


def test_earlier_runs_do_not_count() -> None:
    before = counters(parsed=5000, malformed=3, kernel_drops=700, duplicate=2, senders=4)
    later = reading(before=before, parsed=5100, malformed=3, kernel_drops=700, duplicate=2, senders=14)
    found = account(100, later)
    assert (found.outcomes.received, found.outcomes.lost, found.outcomes.duplicate) == (100, 0, 0)
    assert found.receiver is not None
    assert (found.receiver.senders, found.receiver.size, found.receiver.workers) == (10, 24, 1)


def test_copies_make_up_for_nothing() -> None:
    found = account(100, reading(parsed=100, duplicate=7))
    assert (found.outcomes.received, found.outcomes.lost, found.outcomes.duplicate) == (93, 7, 7)
    assert found.warnings == ()


def test_narrow_numbers_wrap_within_a_long_gap() -> None:
    before = counters(sequence_bits=8)
    lossy = {"parsed": 1730, "duplicate": 42, "reordered": 64, "sequence_bits": 8}
    found = account(31_260, reading(before=before, **lossy))
    assert (found.outcomes.received, found.outcomes.lost, found.outcomes.duplicate) == (1730, 29_530, 42)
    assert "8 bits wrap within a gap of 256" in found.warnings[0]
    few = account(1900, reading(before=before, **lossy))
    assert (few.outcomes.received, few.warnings) == (1688, ()), "170 are no gap of 192"
    wide = account(31_260, reading(**{**lossy, "sequence_bits": 32}))
    assert (wide.outcomes.received, wide.warnings) == (1688, ())


def test_others_who_send_too_are_named_and_loss_is_never_negative() -> None:
    found = account(100, reading(parsed=150, malformed=5))
    assert (found.outcomes.received, found.outcomes.lost, found.outcomes.invalid, found.loss) == (100, 0, 0, 0.0)
    assert "55 messages more" in found.warnings[0]


def test_without_a_receiver_that_counts_the_loss_is_unknown() -> None:
    found = account(100)
    assert (found.outcomes.received, found.loss, found.receiver) == (None, None, None)
    assert "the loss is unknown" in found.notes[0]


def test_refusals_are_told_beside() -> None:
    found = loss.account_of_messages(sent(100, refused=40), [reading(parsed=60)])
    assert (found.outcomes.refused, found.outcomes.lost) == (0, 40)
    assert "refused 40 times" in found.warnings[0]


def test_after_a_restart_of_the_receiver_the_loss_is_unknown() -> None:
    for after in (90, 5090):
        found = account(100, reading(before=counters(parsed=5000), parsed=after, instance=8))
        assert (found.outcomes.received, found.loss, found.receiver) == (None, None, None)
        assert found.lost is not None
        assert "at 127.0.0.1:5 was restarted" in found.lost
    one_of_two = [reading(parsed=50), reading("127.0.0.1:6", before=counters(instance=1), parsed=50, instance=2)]
    found = account(100, *one_of_two)
    assert found.lost is not None
    assert "127.0.0.1:6" in found.lost


def test_one_of_several_nodes_knows_no_loss_of_its_own() -> None:
    found = account(100, reading(parsed=300), shared=True)
    assert (found.outcomes.received, found.loss, found.receiver, found.warnings) == (None, None, None, ())
    assert found.notes == (loss.SHARED,)


def of_two(parsed: int) -> CounterSamples:
    """Another receiver's reading."""
    return reading("127.0.0.1:6", before=counters(instance=8), parsed=parsed, workers=2, instance=8)


def test_two_receivers_are_added_and_one_with_two_addresses_is_not() -> None:
    for one, other in ((60, 39), (50, 50), (40, 40)):
        reported = loss.counted([reading(parsed=one), of_two(other)])
        assert (reported["received"], reported["workers"]) == (one + other, 3)
    for came in (0, 50, 99):
        same = [reading("127.0.0.1:5", parsed=came), reading("127.0.0.2:5", parsed=came)]
        reported = loss.counted([*same, of_two(7)])
        assert (reported["received"], reported["workers"]) == (came + 7, 3)


def test_drops_of_what_comes_together_are_counted_so() -> None:
    found = account(1000, reading(parsed=900, arrivals=90, kernel_drops=3, missing=100))
    assert found.receiver is not None
    assert (found.receiver.lost_in_kernel, found.receiver.lost_elsewhere) == (30, 70)
    assert "coalesces 10.0 messages" in found.notes[0]
    found = account(1000, reading(parsed=900, arrivals=90, kernel_drops=30))
    assert found.receiver is not None
    assert found.receiver.lost_in_kernel == 100, "no more than are lost"
    assert not account(1000, reading(parsed=900, arrivals=90)).notes


def test_nodes_are_counted_from_the_first_question_to_the_last_answer() -> None:
    one = CounterSamples(target="a", before=counters(parsed=10), after=counters(parsed=150))
    other = CounterSamples(target="a", before=counters(parsed=20), after=counters(parsed=210))
    (widest,) = loss.widest([one, other])
    assert (widest.before["received"], widest.after["received"]) == (10, 210)
    assert loss.widest([]) == []


def test_a_receiver_that_was_started_anew_between_two_nodes_counts_twice() -> None:
    one = CounterSamples(target="a", before=counters(parsed=10), after=counters(parsed=150))
    other = CounterSamples(target="a", before=counters(instance=8), after=counters(parsed=100, instance=8))
    assert loss.counted([one, other])["received"] == 240


@given(
    st.integers(0, 10**6),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=len(WORDS), max_size=len(WORDS)),
    st.integers(1, 3),
)
def test_accounts_close_whatever_is_told(number: int, reported: list[tuple[int, int]], addresses: int) -> None:
    before = counters() | {word: first for word, (first, _) in zip(WORDS, reported, strict=True)}
    after = counters() | {word: last for word, (_, last) in zip(WORDS, reported, strict=True)}
    readings = [CounterSamples(target=f"a:{n}", before=before, after=after) for n in range(addresses)]
    found = account(number, *readings)
    outcomes = found.outcomes
    if outcomes.received is None:
        assert found.lost is not None
        return
    assert outcomes.sent == outcomes.received + outcomes.lost + outcomes.invalid == number
    assert min(outcomes.received, outcomes.lost, outcomes.invalid, outcomes.duplicate) >= 0
    assert found.loss is None if number == 0 else 0.0 <= found.loss <= 1.0
    assert found.receiver is not None
    assert found.receiver.lost_in_kernel + found.receiver.lost_elsewhere == outcomes.lost
