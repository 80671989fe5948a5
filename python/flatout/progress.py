"""What is told while something runs: the events handed to progress callbacks and drawn by the live view."""

from __future__ import annotations

from typing import Literal

import msgspec

from flatout.result import Interval, Limit, Trial

Phase = Literal["warm-up", "running", "draining", "done"]


class RunProgress(msgspec.Struct, frozen=True, kw_only=True):
    """A cumulative look at a run. Times in s since its counted start (negative: warm-up), counts since then.

    `lost` are requests whose time-out has passed; a late answer may still come.
    """

    phase: Phase
    t_s: float
    total_s: float
    rate_per_s: float
    planned: int
    sent: int
    unsent: int
    answered: int
    late: int
    refused: int
    invalid: int
    duplicate: int
    latest: Interval | None
    lost: int = 0


class SearchProgress(msgspec.Struct, frozen=True, kw_only=True):
    """A look at a search: `run` while a trial runs, `finished` once when it ends, `limit` once at the end of all."""

    trial: int
    phase: str
    rate_per_s: float
    trial_s: float
    elapsed_s: float
    budget_s: float
    lower: float | None
    upper: float | None
    ceiling_hint_per_s: float | None
    run: RunProgress | None = None
    finished: Trial | None = None
    limit: Limit | None = None
