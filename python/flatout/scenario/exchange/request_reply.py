"""Requests at a rate, each with a reply."""

from __future__ import annotations

from flatout.scenario.exchange.base import Exchange


class RequestReply(Exchange):
    """Requests at a rate; replies are matched and timed. All that it has are the defaults of `Exchange`."""
