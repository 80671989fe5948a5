"""How each kind of exchange is shown: request–reply, one-way, ping-pong. `exchange_of` chooses one for a result.

Views ask an `Exchange` for all that differs between the kinds. Pure: results in, texts and rows out.
"""

from __future__ import annotations

from collections.abc import Sequence

from flatout.result.model import LimitResult, LoadResult, Result
from flatout.runner.progress import RunProgress
from flatout.view.exchange.base import Exchange
from flatout.view.exchange.one_way import OneWay
from flatout.view.exchange.ping_pong import PingPong
from flatout.view.exchange.request_reply import RequestReply

__all__ = ["Exchange", "common_exchange", "exchange_of"]

_REQUEST_REPLY, _ONE_WAY, _PING_PONG = RequestReply(), OneWay(), PingPong()


def exchange_of(shown: Result | RunProgress) -> Exchange:
    """The kind of exchange of a result, or of a run in progress."""
    if shown.search.one_way if isinstance(shown, LimitResult) else shown.one_way:
        return _ONE_WAY
    if isinstance(shown, LoadResult) and shown.scenario.ping_pong:
        return _PING_PONG
    return _REQUEST_REPLY


def common_exchange(results: Sequence[Result]) -> Exchange:
    """The kind in whose words several results are compared: request–reply where they differ."""
    kinds = {type(exchange_of(result)) for result in results}
    return exchange_of(results[0]) if len(kinds) == 1 else _REQUEST_REPLY
