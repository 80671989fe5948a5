"""The criteria of a trial over connections: this host opened them, the target accepted them. Pure.

Where they are opened again the target may end them: what was lost by that counts. Else it has to keep them.
"""

from __future__ import annotations

from flatout.result.model import Connections, Goal, LoadResult


def unopened(result: LoadResult) -> str | None:
    """Connections for which this host had no port, descriptor, memory or permission: nothing is known of the server."""
    connections = result.connections
    if connections is None or not connections.local or connections.peak >= _asked(result):
        return None
    return f"this host could not open {connections.local:,} of {_asked(result):,} connections"


def missing(result: LoadResult, goal: Goal) -> tuple[float, str | None]:
    """The share of connections that the target did not accept, or ended for good; why it fails a trial, if it does."""
    connections, asked = result.connections, _asked(result)
    if connections is None or not asked:
        return 0.0, None
    churn = result.scenario.churn
    refused = 0 if churn else asked - connections.peak
    ended = 0 if churn else _ended_for_good(connections, reopening=result.scenario.reconnect)
    share = max(refused, ended, 0) / asked
    if share <= goal.loss:
        return share, None
    if refused >= ended:
        return share, f"only {connections.peak:,} of {asked:,} connections were accepted"
    return share, f"the target ended {ended:,} of {connections.established:,} connections"


def unconnected(result: LoadResult) -> int:
    """Requests that could not leave because the target had ended the connections."""
    connections = result.connections
    if connections is None or result.scenario.churn or not (connections.closed or connections.reset):
        return 0
    return result.unsent_because.get("no_connection", 0)


def _ended_for_good(connections: Connections, *, reopening: bool) -> int:
    ended = connections.closed + connections.reset + connections.broken
    if not reopening:
        return ended
    missing = connections.peak - connections.live
    # One that ended just before the end of the load had no time to be replaced.
    return missing if 2 * missing >= ended and connections.refused + connections.timed_out else 0


def _asked(result: LoadResult) -> int:
    return (result.scenario.connections or 0) + result.scenario.hold
