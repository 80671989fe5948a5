"""One-way messages as they are shown: what the receiver counted, and where the rest was lost."""

from __future__ import annotations

from collections.abc import Sequence

from flatout.result.model import Distribution, Interval, LoadResult, Outcomes
from flatout.runner.progress import RunProgress
from flatout.scenario.exchange.wording import ONE_WAY
from flatout.view import format as fmt
from flatout.view.exchange.base import Caption, Cells, CounterRow, Exchange, per_s

_UNKNOWN = "The number of received messages is unknown: no receiver at the target reports it"
_REMEDY = "flatout serve and flatout.Receiver report what they received; the target did not"
_COUNTERS = {
    "received": "messages that arrived, valid or not",
    "parsed": "of these: valid",
    "malformed": "of these: of another size, or with another constant",
    "handed_over": "of the valid ones: taken by the handler",
    "dropped": "of the valid ones: dropped, as the queue to the handler was full",
    "queued": "of the valid ones: still in that queue when the run ended",
    "missing": "gaps in the sequence numbers",
    "duplicate": "arrived again, by sequence number",
    "reordered": "arrived after a later one, by sequence number",
    "restarts": "jumps of a sequence number that are too far for a gap",
    "untracked": "of senders that there was no room to track",
    "kernel_drops": "dropped by the receiver's kernel, at its sockets",
    "senders": "new senders",
    "workers": "threads that receive",
}
_ALWAYS = ("received", "parsed", "handed_over", "kernel_drops", "senders", "workers")


class OneWay(Exchange):
    """Messages without replies."""

    wording = ONE_WAY
    sent_words = ("received", "lost", "invalid")
    meanings = {  # noqa: RUF012
        "received": "arrived and valid, each counted once",
        "lost": "did not arrive",
        "invalid": "arrived malformed",
        "duplicate": "arrived again, counted beside",
        "reordered": "arrived after a later one, counted beside",
    }
    percentiles = ()
    node_words = ("sent",)
    in_time = "received"
    reading = (
        "Rates and outcomes count all messages from the first to the last. "
        "What was received is the receiver's own count."
    )
    lateness_bound = ""
    waiting = Caption(
        "lateness",
        "The generator's own lateness over time",
        "How long after they were due messages left this machine; all but one in a hundred of each second left sooner.",
    )
    whole_run = "There are no replies, so there is no latency; lateness is how long messages waited in this generator."

    def rates(self, run: LoadResult) -> str:
        """Received of asked, with the loss and where it happened."""
        rates = run.rate_per_s
        if run.loss is None:
            return f"{fmt.rate(rates.sent)} sent of {fmt.rate(rates.planned)} asked. {_UNKNOWN}"
        found = f"{fmt.rate(rates.received)} received of {fmt.rate(rates.planned)} asked"
        return f"{found} with {fmt.percent(run.loss)} loss{_lost_where(run)}"

    def good(self, counts: Outcomes | Interval) -> int:
        """The received messages."""
        return counts.received or 0

    def distributions(self, run: LoadResult) -> list[tuple[str, Distribution | None]]:
        """The generator's lateness only."""
        return [("generator lateness", run.lateness_ns)]

    def main_distribution(self, run: LoadResult) -> Distribution | None:
        """The generator's lateness."""
        return run.lateness_ns

    def live_rows(self, progress: RunProgress) -> list[tuple[str, list[Cells]]]:
        """What left; what arrived is known only as far as the receiver reports it."""
        second = progress.latest
        received = "known at the end" if progress.received is None else fmt.count(progress.received)
        counted = [
            ("sent", fmt.count(progress.sent)), ("received", received), ("unsent", fmt.count(progress.unsent)),
        ]  # fmt: skip
        return [
            ("rate", [("asked", fmt.rate(progress.rate_per_s)), ("sent", per_s(progress, "sent"))]),
            ("counted", counted),
            ("own", [("lateness p99", fmt.duration(second.lateness_p99 if second else None))]),
        ]

    def second_line(self, second: Interval) -> str:
        """What was received, where that is known, and what could not leave."""
        received = "" if second.received is None else f"  received {second.received:>9,}"
        return f"{received}  unsent {second.unsent:>7,}"

    def unknown(self, run: LoadResult) -> bool:
        """No receiver reported its counters."""
        return run.outcomes.sent > 0 and run.loss is None

    def unknown_text(self, run: LoadResult) -> str:
        """That the number of received messages is unknown."""
        return f"{_UNKNOWN}." if self.unknown(run) else ""

    def loss_note(self, run: LoadResult) -> str:
        """How many were lost in the receiver's kernel."""
        if self.unknown(run):
            return _REMEDY
        counts = run.receiver
        if counts is None or not run.outcomes.lost:
            return ""
        return f"in the receiver's kernel {counts.lost_in_kernel:,}, elsewhere {counts.lost_elsewhere:,}"

    def receiver_rows(self, run: LoadResult) -> list[CounterRow]:
        """The receiver's counters; those of faults only where they are above 0."""
        if run.receiver is None:
            return []
        rows = [CounterRow(word, getattr(run.receiver, word), meaning) for word, meaning in _COUNTERS.items()]
        return [row for row in rows if row.number or row.word in _ALWAYS]

    def tallies(self, run: LoadResult) -> dict[str, int]:
        """The protocol's own counters, where any is above 0."""
        return run.tallies if any(run.tallies.values()) else {}

    def seconds(self, run: LoadResult) -> list[Interval]:
        """Without the rest of the last second: after the last message there is nothing to wait for."""
        return [second for second in run.intervals if second.planned or second.received]

    def counted_words(self, seconds: Sequence[Interval]) -> Sequence[str]:
        """Received messages only where the receiver reported them."""
        known = any(second.received is not None for second in seconds)
        return ("planned", "sent", "received") if known else ("planned", "sent")


def _lost_where(run: LoadResult) -> str:
    """Where messages were lost, as far as the receiver's kernel explains it."""
    counts = run.receiver
    if counts is None or not run.outcomes.lost:
        return ""
    if not counts.lost_in_kernel:
        return ", none of it in the receiver's kernel"
    if not counts.lost_elsewhere:
        return ", all of it in the receiver's kernel"
    return f", {fmt.percent(counts.lost_in_kernel / run.outcomes.lost)} of it in the receiver's kernel"
