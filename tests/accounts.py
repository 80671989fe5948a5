"""The laws that the account of every load keeps, whatever its target does."""

from __future__ import annotations

from typing import Any

import flatout

CODES = ("noerror", "formerr", "servfail", "nxdomain", "notimp", "refused", "other_code")


def check(run: flatout.LoadResult) -> None:
    """Every request and every connection ended in exactly one word."""
    said = f"{run.verdict}: {run.why} {run.outcomes} {run.connections} {run.tallies} {run.warnings}"
    outcomes = run.outcomes
    assert outcomes.planned == outcomes.sent + outcomes.unsent, said
    ends = outcomes.answered + outcomes.late + outcomes.lost + outcomes.refused + outcomes.invalid
    assert outcomes.sent == ends, said
    assert outcomes.unsent == sum(run.unsent_because.values()), said
    for name in ("planned", "sent", "unsent", "answered", "late", "refused"):
        assert getattr(outcomes, name) == sum(getattr(second, name) for second in run.intervals), f"{name} {said}"
    if run.connections is not None:
        _check_connections(run, run.connections, said)


def _check_connections(run: flatout.LoadResult, connections: Any, said: str) -> None:
    churned = run.scenario.churn > 0
    under_way = connections.opened - connections.established - connections.failed
    assert 0 <= under_way <= (connections.opened if run.scenario.reconnect or churned else 0), said
    assert connections.refused + connections.timed_out + connections.local <= connections.failed, said
    ended = connections.reset + connections.closed + connections.broken
    assert churned or connections.established == connections.live + ended, said
    assert connections.live <= connections.peak <= connections.established, said


def all_answered(run: flatout.LoadResult, word: str = "noerror") -> None:
    """All that left was answered, with one answer code."""
    check(run)
    assert run.outcomes.answered + run.outcomes.late == run.outcomes.sent > 0, f"{run.outcomes} {run.tallies}"
    assert run.tallies[word] == run.outcomes.sent, run.tallies
    assert sum(run.tallies[code] for code in CODES) == run.outcomes.sent, run.tallies
