"""What a receiver tells people: the line a second (row 71), the rates of receiver and handler (68), totals, hints."""

from __future__ import annotations

from typing import Any

import pytest
import results

from flatout.view import receiver

SIZE = 24


def worker(received: int, **changes: int) -> dict[str, int]:
    """A worker's counters after so many good records."""
    words = "malformed duplicate reordered missing restarts untracked kernel_drops dropped queued short long"
    words += " wrong_constant ahead waited"
    counted = dict.fromkeys(words.split(), 0) | {
        "received": received,
        "parsed": received,
        "handed_over": received,
        "bytes": SIZE * received,
        "senders": 8,
        "cpu_ns": 10,
        "workers": 1,
        "size": SIZE,
        "sequence_bits": 32,
        "memory_bytes": 1 << 20,
    }
    return counted | changes


def stats(*workers: dict[str, int], t_s: float = 1.0, delay_ns: Any = None, policy: str = "drop-oldest") -> Any:
    """What `Receiver.stats()` says of them."""

    def total(word: str) -> int:
        return sum(one[word] for one in workers)

    summed = "received parsed handed_over missing duplicate reordered restarts untracked senders kernel_drops"
    summed += " ahead bytes memory_bytes"
    return {
        "t_s": t_s,
        **{word: total(word) for word in summed.split()},
        "malformed": {reason: total(reason) for reason in ("short", "long", "wrong_constant")},
        "queue": {
            "waiting": total("queued"),
            "size": 65_536,
            "dropped": total("dropped"),
            "policy": policy,
            "waited": total("waited"),
        },
        "delay_ns": delay_ns,
        "workers": list(workers),
        "answered": 0,
        "dropped": {"queue": total("dropped")},
        "connections": None,
    }


def hint(*workers: dict[str, int], **more: Any) -> str:
    return " | ".join(receiver.hints(stats(*workers, **more), SIZE))


def test_throughput_reads_as_udpreceivers_does() -> None:
    """Row 71: majek's line, for his 32-byte packets at 362,345 a second."""
    assert receiver.throughput(362_345, 362_345 * 32) == "  0.362M pps  11.058MiB /  92.760Mb"


def test_a_second_has_the_rates_of_receiver_and_handler() -> None:
    """Row 68."""
    before = stats(worker(1_000_000), t_s=1.0)
    now = stats(worker(1_500_000, parsed=1_400_000, handed_over=1_300_000), t_s=3.0)
    (line,) = receiver.second(before, now, 2.0)
    assert line == ("     3.0 s   0.250M pps   5.722MiB /  48.000Mb  parsed  200 k/s  handed over  150 k/s")


def test_a_second_says_what_went_wrong_and_nothing_of_what_did_not() -> None:
    """Row 74: loss by sequence numbers, beside what the queue and the kernel dropped."""
    now = stats(worker(1_000, short=1, wrong_constant=2, missing=30, duplicate=4, dropped=6, kernel_drops=7))
    (line,) = receiver.second(stats(worker(0)), now, 1.0)
    assert line.endswith("malformed 3  lost 30  duplicate 4  dropped in the queue 6  dropped by the kernel 7")


def test_a_second_in_which_late_ones_come_has_lost_nothing() -> None:
    before, now = stats(worker(1_000, missing=7)), stats(worker(1_005, missing=2, reordered=5), t_s=2.0)
    (line,) = receiver.second(before, now, 1.0)
    assert "-" not in line
    assert line.endswith("/s  reordered 5")


def test_several_workers_tell_their_shares() -> None:
    """Row 70: what SO_REUSEPORT's hash leaves idle is seen."""
    _, shares = receiver.second(stats(worker(0), worker(0)), stats(worker(750), worker(250)), 1.0)
    assert "by worker: 75 %, 25 %" in shares
    assert receiver.second(stats(worker(0), worker(0)), stats(worker(0), worker(0)), 1.0)[1:] == []
    assert "1 of 2 workers received nothing" in hint(worker(1000), worker(0))


def test_a_difference_has_the_events_and_keeps_what_is_held() -> None:
    before = stats(worker(100, dropped=3, queued=9, short=1))
    now = stats(worker(150, dropped=5, queued=4, short=4), t_s=2.0)
    came = receiver.difference(before, now)
    assert (came["received"], came["malformed"]["short"], came["senders"]) == (50, 3, 8)
    assert came["memory_bytes"] == 1 << 20
    assert came["queue"] == {"waiting": 4, "size": 65_536, "dropped": 2, "policy": "drop-oldest", "waited": 0}
    assert (came["workers"][0]["received"], came["workers"][0]["memory_bytes"]) == (50, 1 << 20)
    assert set(came) == set(now)


def test_the_totals_add_up_as_written() -> None:
    text = "\n".join(receiver.totals(stats(worker(90, short=10, parsed=80, handed_over=70, dropped=7, queued=3))))
    assert "received 90 = parsed 80 + malformed 10 (too short 10)" in text
    assert "parsed 80 = handed over 70 + dropped in the queue 7 + still there 3 (drop-oldest, room for 65,536)" in text
    assert "by the sequence numbers of 8 senders: lost 0, duplicate 0, reordered 0" in text
    assert "one-way delay" not in text


def test_without_sequence_numbers_no_loss_is_claimed() -> None:
    text = "\n".join(receiver.totals(stats(worker(90, sequence_bits=0))))
    assert "the loss is unknown" in text
    assert "lost" not in text


def test_delay_is_told_where_clocks_allow_it() -> None:
    delay = results.distribution(90_000, 0.3, 1000)
    assert any(line.startswith("one-way delay: p50 ") for line in receiver.totals(stats(worker(90), delay_ns=delay)))
    ahead = "\n".join(receiver.totals(stats(worker(90, ahead=90))))
    assert "one-way delay: unknown, as 90 records arrived before the time they carry" in ahead


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (worker(1000, short=1000, parsed=0, bytes=4000), "have 4 bytes, the format has 24"),
        (worker(1000, long=900, bytes=31_500), "have 31.5 bytes on average, the format has 24"),
        (worker(1000, restarts=990), "is the byte order right"),
        (worker(1000, kernel_drops=50), "a larger --buffer helps against bursts"),
    ],
    ids=["short", "long", "order", "drops"],
)
def test_hints(one: dict[str, int], said: str) -> None:
    assert said in hint(one)


def test_a_handler_that_receiving_waits_for_is_named() -> None:
    assert "slower than the senders" in hint(worker(1000, kernel_drops=50, waited=9), policy="wait")


def test_a_good_receiver_gets_no_hints() -> None:
    assert hint(worker(1000), worker(900)) == hint(worker(0)) == hint(worker(3, short=3, parsed=0)) == ""
