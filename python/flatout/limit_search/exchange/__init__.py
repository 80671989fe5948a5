"""The criteria of a trial that depend on the kind of exchange; `criteria_of` chooses them once for a trial. Pure."""

from __future__ import annotations

from flatout.limit_search.exchange import one_way, request_reply
from flatout.limit_search.exchange.base import Criteria, Criterion, ShareLaterThan
from flatout.result.model import LoadResult

__all__ = ["Criteria", "Criterion", "ShareLaterThan", "criteria_of"]


def criteria_of(result: LoadResult) -> Criteria:
    """The criteria beside loss for the kind of exchange of a run."""
    return one_way.criteria if result.one_way else request_reply.criteria
