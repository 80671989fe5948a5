"""What a finished run or search is: typed, to and from JSON, merging exactly.

The field names are the contract with programs (`schema` "flatout/1"): fields may be added, never renamed.
Nothing here measures, decides or draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec

SCHEMA = "flatout/1"

RunVerdict = Literal["ok", "generator-limited", "target-lost", "interrupted"]
TrialVerdict = Literal["held", "failed", "invalid"]
StoppedBy = Literal["found", "max", "min", "budget", "generator", "target", "interrupted"]


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """The machine the generator ran on."""

    kernel: str
    cpus: int
    affinity: list[int]
    flatout: str
    python: str
    hostname: str


class Outcomes(msgspec.Struct, frozen=True, kw_only=True):
    """Every request in exactly one word: planned = sent + unsent; sent = answered + late + lost + refused + invalid.

    `duplicate`, `reordered` and `unmatched` count answers, not requests, and stand beside.
    """

    planned: int
    sent: int
    unsent: int
    answered: int
    late: int
    lost: int
    refused: int
    invalid: int
    duplicate: int
    reordered: int = 0


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """Requests or answers per second over the counted time."""

    planned: float
    sent: float
    answered: float


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """A distribution of durations in ns; `hdr` is the histogram itself, V2 compressed, base64."""

    count: int
    min: int
    mean: float
    p50: int
    p90: int
    p99: int
    p999: int
    max: int
    hdr: str


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Latency in ns, twice: from when the request was due, and from when it left."""

    from_due: Distribution | None
    from_sent: Distribution | None


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """The events of one second, `t_s` being its end; `p50` and `p99` are ns from due. Only totals close, not intervals."""

    t_s: float
    planned: int
    sent: int
    unsent: int
    answered: int
    late: int
    lost: int
    refused: int
    invalid: int
    duplicate: int
    p50: int | None
    p99: int | None
    lateness_p99: int | None = None


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes: the process's peak resident set, the engine's request slots, and what one connection (flow) costs."""

    peak_rss: int
    slots: int
    per_connection: int


class Requirement(msgspec.Struct, frozen=True, kw_only=True):
    """One `--require` expression, the value measured for it (null: no sample) and whether it was met."""

    expression: str
    value: float | None
    met: bool


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """One run."""

    schema: str = SCHEMA
    kind: Literal["load"] = "load"
    scenario: dict[str, Any]
    host: Host
    started_at: str
    duration_s: float
    verdict: RunVerdict
    why: str
    outcomes: Outcomes
    unsent_because: dict[str, int] = {}
    loss: float | None
    rate_per_s: Rates
    latency_ns: Latency
    lateness_ns: Distribution | None
    connect_ns: Distribution | None = None
    intervals: list[Interval]
    tallies: dict[str, int]
    memory: Memory
    cpu_s: dict[str, float] = {}
    requirements: list[Requirement] = []


class Trial(LoadResult, frozen=True, kw_only=True):
    """One run inside a search: `verdict` is the trial's, `run_verdict` the run's own."""

    verdict: TrialVerdict  # type: ignore[assignment]
    run_verdict: RunVerdict
    intended_per_s: float
    phase: str


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """What a load must meet to be held: loss at most `loss`; at most 1 % of answers later than `p99_ns` from due."""

    loss: float
    p99_ns: int | None = None


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """How the limit is searched: rates per second, `within` as a fraction, `budget_s` of wall time."""

    goal: Goal
    min_per_s: float
    max_per_s: float
    within: float
    budget_s: float


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """What was found. `lower` held, `upper` failed (null: nothing failed); `value` is the claim."""

    axis: Literal["rate", "connections"]
    value: float | None
    lower: float | None
    upper: float | None
    unit: str
    goal: Goal
    stopped_by: StoppedBy


class LimitResult(msgspec.Struct, frozen=True, kw_only=True):
    """One search, with all its trials."""

    schema: str = SCHEMA
    kind: Literal["limit"] = "limit"
    scenario: dict[str, Any]
    search: Search
    host: Host
    started_at: str
    duration_s: float
    limit: Limit
    rate_per_s: float | None
    trials: list[Trial]
    sentence: str


Result = LoadResult | LimitResult
_KINDS: Mapping[str, type[LoadResult] | type[LimitResult]] = {"load": LoadResult, "limit": LimitResult}
