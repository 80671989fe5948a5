"""Ping-pong: each thread has one request under way, and the next one leaves when it has ended."""

from __future__ import annotations

from flatout.runner.exchange.request_reply import RequestReply


class PingPong(RequestReply):
    """Request–reply without a schedule: the replies set the rate."""

    on_schedule = "each request left when the last one had ended"

    def rate_per_s(self, *_: object) -> None:
        """No rate is asked for."""
        return
