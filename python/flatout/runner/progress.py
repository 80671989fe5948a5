"""What is told while something runs: the events handed to progress callbacks and drawn by the live view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from flatout.result.model import Axis, Interval, Limit, Trial

Phase = Literal["connecting", "waiting", "warm-up", "running", "draining", "done"]


class RunProgress(msgspec.Struct, frozen=True, kw_only=True):
    """A cumulative look at a run. Times in s since its counted start (negative: warm-up), counts since then.

    `rate_per_s` is what is asked for now, null where each request waits for the end of the last one. `lost` are
    requests whose time-out has passed; a late answer may still come. Over streams `connections` stand of
    `connections_asked`. While they are being opened, or the time to begin has not come, `t_s` stands still.
    `one_way`: nobody answers; `received` is then what the receiver has told last, null where it tells nothing.
    `intervals` are all seconds that are over so far, `latest` is the last of them.
    """

    phase: Phase
    t_s: float
    total_s: float
    rate_per_s: float | None
    planned: int
    sent: int
    unsent: int
    answered: int
    late: int
    refused: int
    invalid: int
    duplicate: int
    latest: Interval | None
    intervals: Sequence[Interval] = ()
    lost: int = 0
    connections: int | None = None
    connections_asked: int | None = None
    one_way: bool = False
    received: int | None = None


class SearchProgress(msgspec.Struct, frozen=True, kw_only=True):
    """A look at a search: `run` while a trial runs, `finished` once when it ends, `limit` once at the end of all.

    `rate_per_s` is the trial's rate; where connections are searched, `connections` is their number. `lower` and `upper`
    are on the axis.
    """

    trial: int
    phase: str
    rate_per_s: float
    trial_s: float
    elapsed_s: float
    budget_s: float
    lower: float | None
    upper: float | None
    ceiling_hint_per_s: float | None
    axis: Axis = "rate"
    connections: int | None = None
    run: RunProgress | None = None
    finished: Trial | None = None
    limit: Limit | None = None

    @property
    def load(self) -> float:
        """What the trial asks for on the axis of the search."""
        return self.rate_per_s if self.connections is None else float(self.connections)
