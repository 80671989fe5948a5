"""Request–reply as it is shown: answers, their latency, and the other outcomes of requests."""

from __future__ import annotations

from flatout.result.model import Distribution, Interval, LoadResult, Outcomes
from flatout.runner.progress import RunProgress
from flatout.scenario.exchange.wording import ANSWERED
from flatout.view import format as fmt
from flatout.view.exchange.base import Caption, Cells, Exchange, per_s


class RequestReply(Exchange):
    """Requests that are answered."""

    wording = ANSWERED
    sent_words = ("answered", "late", "lost", "refused", "invalid")
    meanings = {  # noqa: RUF012
        "answered": "a right answer in time",
        "late": "a right answer after the time-out",
        "lost": "nothing came",
        "refused": "an ICMP error or a reset came back",
        "invalid": "an answer came that is no right answer",
        "duplicate": "answers that came again, counted beside",
        "reordered": "messages out of order, counted beside",
    }
    percentiles = ("p50", "p99", "max")
    node_words = ("sent", "answered")
    in_time = "answered in time"
    reading = (
        "Rates and outcomes count the time after warm-up. "
        "Latency is from when a request was due unless it says from sent."
    )
    lateness_bound = " It must stay well below any latency measured."
    waiting = Caption(
        "latency from due",
        "Latency over time",
        "Latency of the answers that came in each second, on a logarithmic axis, above the generator's own lateness. "
        "Lines that rise from left to right say that a queue grew during the run.",
    )
    whole_run = (
        "From due counts what a request waited in this generator, too; the wider it lies above from sent, the "
        "more the generator itself held requests back."
    )

    def rates(self, run: LoadResult) -> str:
        """Answered of asked, with the loss."""
        rates = run.rate_per_s
        if not run.outcomes.answered:
            return f"{fmt.rate(rates.sent)} sent of {fmt.rate(rates.planned)} asked, none answered"
        return f"{fmt.rate(rates.answered)} answered of {fmt.rate(rates.planned)} asked{_loss(run)}"

    def good(self, counts: Outcomes | Interval) -> int:
        """The answers."""
        return counts.answered

    def distributions(self, run: LoadResult) -> list[tuple[str, Distribution | None]]:
        """Latency; reading, connecting and the server's own time where they were measured; and lateness."""
        optional = [
            ("reading the answer", run.reading_ns),
            ("connecting", run.connect_ns),
            ("server, by its stamps", run.response_ns),
        ]
        return [
            ("latency from due", run.latency_ns.from_due),
            ("latency from sent", run.latency_ns.from_sent),
            *(row for row in optional if row[1]),
            ("generator lateness", run.lateness_ns),
        ]

    def main_distribution(self, run: LoadResult) -> Distribution | None:
        """Latency from due."""
        return run.latency_ns.from_due

    def live_rows(self, progress: RunProgress) -> list[tuple[str, list[Cells]]]:
        """Rates, what was counted, latency."""
        second = progress.latest
        asked = [] if progress.rate_per_s is None else [("asked", fmt.rate(progress.rate_per_s))]
        return [
            ("rate", [*asked, ("sent", per_s(progress, "sent")), ("answered", per_s(progress, "answered"))]),
            (
                "counted",
                [
                    ("loss", _loss_so_far(progress)),
                    ("late", fmt.count(progress.late)),
                    ("wrong", fmt.count(progress.invalid + progress.refused)),
                    ("unsent", fmt.count(progress.unsent)),
                ],
            ),
            (
                "latency",
                [
                    ("p50", fmt.duration(second.p50 if second else None)),
                    ("p99", fmt.duration(second.p99 if second else None)),
                    ("own lateness p99", fmt.duration(second.lateness_p99 if second else None)),
                ],
            ),
        ]

    def second_line(self, second: Interval) -> str:
        """Answers, loss and latency."""
        return (
            f"  answered {second.answered:>9,}  lost {second.lost:>7,}"
            f"  p50 {fmt.duration(second.p50):>7}  p99 {fmt.duration(second.p99):>7}"
        )


def _loss(run: LoadResult) -> str:
    return "" if run.loss is None else f" with {fmt.percent(run.loss)} loss"


def _loss_so_far(progress: RunProgress) -> str:
    """The share of what left that was refused, answered wrongly or late, or timed out so far."""
    missed = progress.lost + progress.late + progress.refused + progress.invalid
    return fmt.percent(missed / progress.sent) if progress.sent else fmt.percent(None)
