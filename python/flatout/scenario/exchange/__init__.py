"""The kind of exchange, chosen once: requests with replies, one-way messages, or ping-pong."""

from __future__ import annotations

from typing import Any

from flatout.protocols import protocol as by_name
from flatout.protocols.base import Protocol
from flatout.scenario.exchange.base import Exchange
from flatout.scenario.exchange.one_way import OneWay
from flatout.scenario.exchange.ping_pong import PingPong
from flatout.scenario.exchange.request_reply import RequestReply
from flatout.scenario.model import Scenario

__all__ = ["Exchange", "exchange_for", "exchange_of"]


def exchange_for(protocol: Protocol, protocol_options: Any, arrivals: Any = "constant") -> Exchange:
    """The kind that a protocol has with these options."""
    if arrivals == "ping-pong":
        return PingPong(protocol, protocol_options)
    one_way = protocol.one_way is not None and protocol.one_way(protocol_options)
    return (OneWay if one_way else RequestReply)(protocol, protocol_options)


def exchange_of(scenario: Scenario) -> Exchange:
    """The kind of a scenario. Errors: UsageError for an unknown protocol or option."""
    protocol = by_name(scenario.protocol)
    return exchange_for(protocol, protocol.filled(scenario.options), scenario.arrivals)
