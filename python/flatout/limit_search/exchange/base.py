"""The interface of the criteria of a trial."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from flatout.result.model import Distribution, Goal, LoadResult

ShareLaterThan = Callable[[Distribution, int], float]


class Criterion(NamedTuple):
    """One criterion, as measured in a trial. `as_loss`: the loss ratio that counts as equally bad."""

    text: str
    met: bool
    as_loss: float


Criteria = Callable[[LoadResult, Goal, ShareLaterThan], list[Criterion]]
