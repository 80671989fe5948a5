"""What views say of messages that nobody answers: how many came, by the receiver's own count, and where the rest went.

Pure: results in, words out. Where nobody counted, that is what is said.
"""

from __future__ import annotations

from typing import NamedTuple

from flatout.result.model import Interval, LoadResult, Outcomes
from flatout.view import format as fmt

SENT_WORDS = ("received", "lost", "invalid")
MEANINGS = {
    "received": "came and were right, each counted once",
    "lost": "did not come",
    "invalid": "came malformed",
    "duplicate": "came again, counted beside",
    "reordered": "came after a later one, counted beside",
}
NOT_KNOWN = "How many came is not known: nobody at the target says"
WHO_SAYS = "how many came is what flatout serve and flatout.Receiver say when they are asked; nobody did"
_RECEIVER = {
    "received": "messages that came, right or not",
    "parsed": "of these: right ones",
    "malformed": "of these: of another size, or with another constant",
    "handed_over": "of the right ones: taken by the handler",
    "dropped": "of the right ones: dropped, for the queue to the handler was full",
    "queued": "of the right ones: waited in it when the run ended",
    "missing": "left out, by sequence number",
    "duplicate": "came again, by sequence number",
    "reordered": "came after a later one, by sequence number",
    "restarts": "jumps of a sequence number that are no gap",
    "untracked": "of senders that there was no room to follow",
    "kernel_drops": "dropped by the receiver's kernel, at its sockets",
    "senders": "heard from meanwhile",
    "workers": "receive there",
}
_ALWAYS = ("received", "parsed", "handed_over", "kernel_drops", "senders", "workers")


class ReceiverRow(NamedTuple):
    """One of the receiver's counters over the run, and what it means."""

    word: str
    number: int
    meaning: str


def unknown(run: LoadResult) -> bool:
    """Whether messages left of which nobody knows how many came."""
    return run.one_way and run.outcomes.sent > 0 and run.loss is None


def came(outcomes: Outcomes | Interval) -> int:
    """Messages that did what they were for: they were answered, or they were received."""
    return outcomes.answered if outcomes.received is None else outcomes.received


def sentence(run: LoadResult) -> str:
    """What became of the messages, without a full stop."""
    rates = run.rate_per_s
    if run.loss is None:
        return f"{fmt.rate(rates.sent)} sent of {fmt.rate(rates.planned)} asked. {NOT_KNOWN}"
    found = f"{fmt.rate(rates.received)} received of {fmt.rate(rates.planned)} asked"
    return f"{found} with {fmt.percent(run.loss)} loss{_where(run)}"


def _where(run: LoadResult) -> str:
    """Where the lost ones were lost, as far as the receiver's kernel explains it."""
    there = run.receiver
    if there is None or not run.outcomes.lost:
        return ""
    if not there.lost_in_kernel:
        return ", none of it in the receiver's kernel"
    if not there.lost_elsewhere:
        return ", all of it in the receiver's kernel"
    return f", {fmt.percent(there.lost_in_kernel / run.outcomes.lost)} of it in the receiver's kernel"


def lost_note(run: LoadResult) -> str:
    """The same for a table of outcomes."""
    there = run.receiver
    if there is None or not run.outcomes.lost:
        return ""
    return f"in the receiver's kernel {there.lost_in_kernel:,}, elsewhere {there.lost_elsewhere:,}"


def receiver_rows(run: LoadResult) -> list[ReceiverRow]:
    """What the receiver counted; of what went wrong only what did."""
    if run.receiver is None:
        return []
    rows = [ReceiverRow(word, getattr(run.receiver, word), meaning) for word, meaning in _RECEIVER.items()]
    return [row for row in rows if row.number or row.word in _ALWAYS]
