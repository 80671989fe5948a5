"""The verdicts of a run at their exact thresholds."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import results
from hypothesis import given
from hypothesis import strategies as st
from receivers import counters, reading

from flatout.result.loss import account_of_messages
from flatout.result.model import Connections, Distribution, Outcomes
from flatout.runner.exchange.base import Exchange
from flatout.runner.exchange.one_way import OneWay
from flatout.runner.exchange.ping_pong import PingPong
from flatout.runner.exchange.request_reply import RequestReply
from flatout.runner.verdict import shortfalls, unconnected, verdict

FINE = Outcomes(
    planned=10_000, sent=10_000, unsent=0, answered=10_000, late=0, lost=0, refused=0, invalid=0, duplicate=0
)


def lateness(p99_ns: int) -> Distribution:
    some = results.distribution(1000.0, 0.1, 100)
    assert some is not None
    return msgspec.structs.replace(some, p99=p99_ns)


def judged(
    own_drops: int = 0, late_p99: int = 0, lost: str | None = None, interrupted: bool = False, **counts: Any
) -> str:
    outcomes = msgspec.structs.replace(FINE, **counts)
    word, why = verdict(outcomes, lateness(late_p99), own_drops, RequestReply(), lost=lost, interrupted=interrupted)
    assert why
    return word


UNSENT_AT = {"sent": 9990, "unsent": 10, "answered": 9990}
UNSENT_ABOVE = {"sent": 9989, "unsent": 11, "answered": 9989}
NOTHING_BACK = {"answered": 0, "lost": 10_000}


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({}, "ok"),
        (UNSENT_AT, "ok"),
        (UNSENT_ABOVE, "generator-limited"),
        ({"late_p99": 1_000_000}, "ok"),
        ({"late_p99": 1_000_001}, "generator-limited"),
        ({"own_drops": 10}, "ok"),
        ({"own_drops": 11}, "generator-limited"),
        (NOTHING_BACK, "target-lost"),
        ({"answered": 0, "refused": 10_000}, "target-lost"),
        ({"answered": 0, "invalid": 10_000}, "target-lost"),
        ({"answered": 0, "late": 1, "lost": 9_999}, "ok"),
        ({"answered": 1, "lost": 9_999}, "ok"),
        ({"lost": "it went away"}, "target-lost"),
        ({"planned": 0, "sent": 0, "answered": 0}, "generator-limited"),
    ],
    ids=str,
)
def test_verdicts(given: dict[str, Any], word: str) -> None:
    if given == {"lost": "it went away"}:
        assert verdict(FINE, None, 0, RequestReply(), lost="it went away", interrupted=False) == (
            "target-lost",
            "it went away",
        )
        return
    counts = {name: value for name, value in given.items() if name not in ("late_p99", "own_drops")}
    outcomes = msgspec.structs.replace(FINE, **counts)
    late, drops = lateness(given.get("late_p99", 0)), given.get("own_drops", 0)
    assert verdict(outcomes, late, drops, RequestReply(), lost=None, interrupted=False)[0] == word


SHORT = Outcomes(planned=200, sent=200, unsent=0, answered=200, late=0, lost=0, refused=0, invalid=0, duplicate=0)


@pytest.mark.parametrize(
    ("planned", "unsent", "word"),
    [
        (200, 1, "ok"),
        (200, 2, "ok"),
        (200, 3, "generator-limited"),
        (3000, 3, "ok"),
        (3000, 4, "generator-limited"),
        (5, 2, "ok"),
        (4, 2, "generator-limited"),
        (2, 1, "generator-limited"),
        (1, 1, "generator-limited"),
    ],
)
def test_a_few_unsent_requests_make_no_short_run_invalid(planned: int, unsent: int, word: str) -> None:
    sent = planned - unsent
    outcomes = msgspec.structs.replace(SHORT, planned=planned, sent=sent, unsent=unsent, answered=sent)
    assert verdict(outcomes, None, 0, RequestReply(), lost=None, interrupted=False)[0] == word
    why = {"blocked": unsent, "connections": None}
    assert verdict(outcomes, None, 0, RequestReply(), lost=None, interrupted=False, **why)[0] == word


@pytest.mark.parametrize(
    ("count", "late", "word"), [(200, 2, "ok"), (200, 3, "generator-limited"), (3, 2, "generator-limited")]
)
def test_a_few_late_ones_make_no_short_run_invalid(count: int, late: int, word: str) -> None:
    lateness_ns = msgspec.structs.replace(lateness(2_000_000), count=count)
    asked: dict[str, Any] = {"lost": None, "interrupted": False, "left_late": late}
    assert verdict(SHORT, lateness_ns, 0, RequestReply(), **asked)[0] == word


def test_a_few_unread_answers_make_no_short_run_invalid() -> None:
    for drops, word in ((2, "ok"), (3, "generator-limited")):
        assert verdict(SHORT, None, drops, RequestReply(), lost=None, interrupted=False)[0] == word


def test_the_first_of_several_reasons_counts() -> None:
    assert judged(late_p99=5_000_000, lost="gone", interrupted=True) == "interrupted"
    assert judged(late_p99=5_000_000, lost="gone") == "target-lost"
    assert judged(late_p99=5_000_000) == "generator-limited"


def test_why_names_the_numbers() -> None:
    outcomes = msgspec.structs.replace(FINE, sent=9_900, unsent=100, answered=9_900)
    assert "100 of 10,000" in verdict(outcomes, None, 0, RequestReply(), lost=None, interrupted=False)[1]
    assert "2.5 ms" in verdict(FINE, lateness(2_500_000), 0, RequestReply(), lost=None, interrupted=False)[1]


# --- Connections ---


def test_nobody_listening_is_a_lost_target_with_numbers() -> None:
    none = Connections(opened=10, failed=10, refused=6, timed_out=1, local=2)
    why = unconnected(none, 10)
    assert why == (
        "none of 10 connections could be established: 6 refused, 1 timed out, 1 broken off, 2 not possible from here"
    )
    assert unconnected(Connections(opened=10, failed=10, local=10), 10) is None, "this host is the cause"
    assert unconnected(Connections(opened=10, failed=10, local=9), 10) is not None
    assert unconnected(Connections(opened=10, established=1), 10) is None
    assert unconnected(None, 10) is None
    assert unconnected(Connections(), 10) is None


def deserted(outcomes: Outcomes, **counted: int) -> str:
    connections = Connections(**{"opened": 10, "established": 10, "peak": 10, **counted})
    return verdict(outcomes, None, 0, RequestReply(), lost=None, interrupted=False, connections=connections)[0]


def test_connections_that_this_host_cannot_open_are_no_lost_target() -> None:
    nothing = msgspec.structs.replace(FINE, planned=0, sent=0, answered=0)
    assert deserted(nothing, opened=10, established=0, peak=0, failed=10, local=10) == "generator-limited"


def test_a_target_that_ended_its_connections_is_lost_unless_it_takes_new_ones() -> None:
    behind = msgspec.structs.replace(FINE, sent=9000, unsent=1000, answered=9000)
    nothing = msgspec.structs.replace(FINE, planned=0, sent=0, answered=0)
    assert deserted(behind, closed=5, live=5) == "target-lost"
    assert deserted(behind, closed=4, live=6) == "generator-limited"
    assert deserted(behind, opened=70, established=70, closed=60, reopened=60, live=10) == "generator-limited"
    one = {"opened": 100, "established": 100, "reopened": 99, "peak": 1}
    assert deserted(behind, **one, closed=100, live=0) == "generator-limited", "the last one ended just before the end"
    silent = msgspec.structs.replace(behind, answered=0, lost=0, sent=0, unsent=10_000)
    assert deserted(silent, **one, closed=100, live=0) == "target-lost", "none of them was of any use"
    assert deserted(behind, opened=24, established=14, failed=10, closed=14, reopened=14, live=0) == "target-lost"
    assert deserted(nothing, reset=10, live=0) == "target-lost", "all had gone before the first request was due"
    assert deserted(FINE, closed=10, live=0) == "ok", "all had left in time"


def test_after_a_failed_call_nothing_is_known_of_the_target() -> None:
    nothing_back = msgspec.structs.replace(FINE, **NOTHING_BACK)
    given: dict[str, Any] = {"lost": "the target never answered", "failed_call": "recvmsg: Operation not permitted"}
    word, why = verdict(nothing_back, None, 0, RequestReply(), interrupted=False, **given)
    assert (word, why) == ("generator-limited", "a system call failed on this host: recvmsg: Operation not permitted")
    assert verdict(nothing_back, None, 0, RequestReply(), interrupted=True, **given)[0] == "interrupted"


def test_why_says_when_the_target_took_no_more() -> None:
    outcomes = msgspec.structs.replace(FINE, sent=9000, unsent=1000, answered=9000)
    word, why = verdict(outcomes, None, 0, RequestReply(), lost=None, interrupted=False, blocked=900)
    assert word == "generator-limited"
    assert why == "1,000 of 10,000 requests could not leave, 900 of them because the target took no more"
    assert (
        "took no more" not in verdict(outcomes, None, 0, RequestReply(), lost=None, interrupted=False, blocked=100)[1]
    )


def test_why_says_when_no_connection_was_open() -> None:
    outcomes = msgspec.structs.replace(FINE, sent=9000, unsent=1000, answered=9000)
    word, why = verdict(outcomes, None, 0, RequestReply(), lost=None, interrupted=False, no_connection=900)
    assert word == "generator-limited"
    assert why == "1,000 of 10,000 requests could not leave, 900 of them because no connection was open"


def test_connections_that_end_are_told_and_replaced_ones_too() -> None:
    ended = Connections(opened=14, established=14, closed=3, reset=1, reopened=4, peak=10, live=10)
    assert shortfalls(ended, 10, churn=False) == (
        [],
        ["the target ended 4 of 14 connections (3 closed, 1 reset); 4 were opened again"],
    )
    assert shortfalls(None, 10, churn=False) == ([], [])
    assert shortfalls(Connections(opened=10, established=9, peak=8), 10, churn=True) == ([], [])


# --- Nothing sent, or nothing received, is never ok ---

few = st.integers(0, 3)
ENDS = ("answered", "late", "lost", "refused", "invalid")


@given(st.sampled_from([RequestReply(), PingPong()]), st.fixed_dictionaries(dict.fromkeys((*ENDS, "unsent"), few)))
def test_a_run_without_an_answer_is_not_ok(exchange: Exchange, counts: dict[str, int]) -> None:
    sent = sum(counts[end] for end in ENDS)
    outcomes = Outcomes(planned=sent + counts["unsent"], sent=sent, duplicate=0, **counts)
    word, why = verdict(outcomes, None, 0, exchange, lost=None, interrupted=False)
    assert word != "ok" or counts["answered"] + counts["late"] > 0, why


@given(few, few, few)
def test_messages_of_which_none_arrived_are_not_ok(sent: int, parsed: int, malformed: int) -> None:
    zero = dict.fromkeys(("unsent", "answered", "late", "lost", "refused", "invalid", "duplicate"), 0)
    outcomes = Outcomes(planned=sent, sent=sent, **zero)
    account = account_of_messages(outcomes, [reading(**counters(parsed, malformed))])
    word, why = verdict(account.outcomes, None, 0, OneWay(), lost=account.lost, interrupted=False)
    assert word != "ok" or (sent > 0 and parsed > 0), why
    if sent and not parsed:
        assert word == "target-lost"
        assert ("malformed" in why) == (malformed > 0)


@pytest.mark.parametrize(
    ("word", "because"),
    [("send_failed", "this host refused to send them"), ("no_slot", "all slots waited for answers")],
)
def test_why_does_not_call_late_what_was_held_back_for_another_reason(word: str, because: str) -> None:
    outcomes = msgspec.structs.replace(FINE, sent=9000, unsent=1000, answered=9000)
    held_back: dict[str, Any] = {word: 900}
    of_run, why = verdict(outcomes, None, 0, RequestReply(), lost=None, interrupted=False, **held_back)
    assert of_run == "generator-limited"
    assert why == f"1,000 of 10,000 requests could not leave, 900 of them because {because}"
