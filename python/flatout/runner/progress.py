"""Progress events of runs and searches, for callbacks and for the live view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from flatout.result.model import Axis, Interval, Limit, Trial

Phase = Literal["connecting", "waiting", "warm-up", "running", "draining", "done"]


# How many of the last seconds have their latencies in a progress event.
LATENCY_SECONDS = 120


class LatencySecond(msgspec.Struct, frozen=True):
    """Latencies from due of one second that ended at `t_s`: (band, requests). Band n begins at 10^(n/10) ns."""

    t_s: float
    bands: Sequence[tuple[int, int]]


class HostProgress(msgspec.Struct, frozen=True, kw_only=True):
    """One host of a fleet: counts as in `RunProgress`, and what it sent per second in its last whole second.

    `lateness_p99_ns` is its generator's in that second. Null before one. For `silent_s` it has told nothing new.
    """

    host: str
    phase: Phase
    rate_per_s: float | None = None
    sent: int = 0
    answered: int = 0
    lost: int = 0
    unsent: int = 0
    lateness_p99_ns: int | None = None
    connections: int | None = None
    silent_s: float = 0.0


class RunProgress(msgspec.Struct, frozen=True, kw_only=True):
    """Cumulative counters of a run. Times in s since its counted start (negative: warm-up), counts since then.

    `rate_per_s` is the rate that is asked for now; None where the replies set it. `lost` are requests whose time-out
    has passed; a late answer may still come. Over streams `connections` of `connections_asked` are open. `t_s` does not
    change while they are being opened, or before the start time. `one_way`: there are no replies; `received` is then
    what the receiver reported last, None where it reports nothing. `intervals` are all ended seconds, `latest` is
    the last of them; `latency` has the last `LATENCY_SECONDS` of them in which a latency was measured. `hosts` are
    those of a fleet, whose sum this is; a second is there once all have ended it.
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
    latency: Sequence[LatencySecond] = ()
    hosts: tuple[HostProgress, ...] = ()


class SearchProgress(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a search: `run` during a trial, `finished` once when it ends, `limit` once at the end of the search.

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
        """The load of the trial on the axis of the search."""
        return self.rate_per_s if self.connections is None else float(self.connections)
