"""The criteria of a trial over connections: this host opened them, the target accepted and kept them. Pure."""

from __future__ import annotations

from flatout.result.model import Goal, LoadResult


def unopened(result: LoadResult) -> str | None:
    """Connections for which this host had no port, descriptor, memory or permission: nothing is known of the server."""
    connections = result.connections
    if connections is None or not connections.local or connections.peak >= _asked(result):
        return None
    return f"this host could not open {connections.local:,} of {_asked(result):,} connections"


def missing(result: LoadResult, goal: Goal) -> tuple[float, str | None]:
    """The share of connections that the target did not accept or ended; why that fails a trial, where it does."""
    connections, asked = result.connections, _asked(result)
    if connections is None or not asked:
        return 0.0, None
    churn = result.scenario.churn
    refused = 0 if churn else asked - connections.peak
    ended = 0 if churn else connections.closed + connections.reset + connections.broken
    share = max(refused, ended, 0) / asked
    if share <= goal.loss:
        return share, None
    if refused >= ended:
        return share, f"only {connections.peak:,} of {asked:,} connections were accepted"
    return share, f"the target ended {ended:,} of {connections.established:,} connections"


def _asked(result: LoadResult) -> int:
    return (result.scenario.connections or 0) + result.scenario.hold
