"""The kinds of exchange a run can be: request–reply, one-way, ping-pong. `exchange_of` chooses one for a run.

A run asks its `Exchange` whatever differs between the kinds: which monitor follows the target, how loss is accounted,
how the verdict is worded. Pure: counters in, words out.
"""

from __future__ import annotations

from flatout.plan.resolve import Plan
from flatout.runner.exchange.base import Exchange
from flatout.runner.exchange.one_way import OneWay
from flatout.runner.exchange.ping_pong import PingPong
from flatout.runner.exchange.request_reply import RequestReply

__all__ = ["Exchange", "exchange_of"]


def exchange_of(plan: Plan) -> Exchange:
    """The kind of exchange that a plan asks for."""
    if plan.one_way:
        return OneWay()
    return PingPong() if plan.scenario.ping_pong else RequestReply()
