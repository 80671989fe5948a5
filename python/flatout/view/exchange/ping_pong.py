"""Ping-pong as it is shown: as request–reply, without a rate that was asked for."""

from __future__ import annotations

from flatout.result.model import LoadResult
from flatout.view import format as fmt
from flatout.view.exchange.request_reply import RequestReply


class PingPong(RequestReply):
    """Requests that leave when the last one has ended."""

    def rates(self, run: LoadResult) -> str:
        """Answered, with the loss."""
        if not run.outcomes.answered:
            return super().rates(run)
        loss = "" if run.loss is None else f" with {fmt.percent(run.loss)} loss"
        return f"{fmt.rate(run.rate_per_s.answered)} answered, one at a time,{loss}"

    def asked_per_s(self, _run: LoadResult, /) -> float | None:
        """The replies set the rate."""
        return None
