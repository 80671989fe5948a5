"""The types of results: a finished run, a finished search.

The field names are the contract with programs (`schema` "flatout/1"): fields may be added, never renamed.
"""

from __future__ import annotations

import html
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

import msgspec

from flatout.result.counts import CounterSamples, ReceiverCounts
from flatout.result.finding import Finding, Improvement
from flatout.result.knee import Knee
from flatout.result.ledger import Ledger
from flatout.result.machine import Contention, Memory, Placement, Subintervals, XdpLink
from flatout.scenario.exchange.wording import Wording, wording_of
from flatout.scenario.model import Scenario

if TYPE_CHECKING:
    import numpy
    import numpy.typing

SCHEMA = "flatout/1"

RunVerdict = Literal["ok", "generator-limited", "target-lost", "interrupted"]
TrialVerdict = Literal["held", "failed", "invalid"]
Axis = Literal["rate", "connections"]
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

    `duplicate`, `reordered` and `unmatched` count answers, not requests, and stand beside. An answer that names no
    request (`unmatched`) is charged at the end to a request of its flow that got no other: invalid instead of lost.
    Of one-way messages sent = received + lost + invalid, by the receiver's counters: `received` are valid messages
    without duplicates, `invalid` malformed ones. Where no receiver reported its counters `received` is null, and the
    outcomes are unknown.
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
    unmatched: int = 0
    received: int | None = None


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """Requests or answers per second over the counted time; `received` for one-way messages that a receiver counted."""

    planned: float
    sent: float
    answered: float
    received: float | None = None

    @classmethod
    def over(cls, outcomes: Outcomes, seconds: float) -> Rates:
        """The outcomes of so many s, per second."""
        return cls(
            planned=outcomes.planned / seconds,
            sent=outcomes.sent / seconds,
            answered=outcomes.answered / seconds,
            received=None if outcomes.received is None else outcomes.received / seconds,
        )


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


class SignedDistribution(msgspec.Struct, frozen=True, kw_only=True):
    """A distribution of times in ns that may be negative.

    `hdr_ahead` has the samples from 0 on, `hdr_behind` those below 0 without their sign; each as in `Distribution`.
    """

    count: int
    min: int
    mean: float
    stddev: float
    p1: int
    p10: int
    p50: int
    p90: int
    p99: int
    p999: int
    max: int
    hdr_ahead: str
    hdr_behind: str


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Latency in ns, twice: from when the request was due, and from when it left."""

    from_due: Distribution | None
    from_sent: Distribution | None


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """The events of one second that ended at `t_s`; `p50` and `p99` are ns from due. Only totals close.

    `received` is what the receiver reported in that second, less what it had reported before.
    """

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
    received: int | None = None


class Connections(msgspec.Struct, frozen=True, kw_only=True):
    """Counters of connections.

    `opened` are attempts: of these `established` succeeded and `failed` did not, among them those that the far end
    `refused`, those without a reply (`timed_out`) and those for which this host had no port, descriptor, memory or
    permission (`local`; of these `no_port`: no port). Of the established ones the far end `closed` (in order) or
    `reset` some before all was asked and answered; `broken` were ended here because of invalid data. `reopened`
    replaced others. `peak` were open at once, `live` at the end.
    """

    opened: int = 0
    established: int = 0
    failed: int = 0
    refused: int = 0
    timed_out: int = 0
    local: int = 0
    no_port: int = 0
    reset: int = 0
    closed: int = 0
    broken: int = 0
    reopened: int = 0
    peak: int = 0
    live: int = 0

    @property
    def cut_off(self) -> int:
        """Those that failed in the middle: reset, or with a failed handshake."""
        return self.failed - self.refused - self.timed_out - self.local


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One of several hosts whose results were added up; `node` counts from 1.

    `findings` are those about its own generator. `flows`: its flows or connections; `share`: its part of the rate. In a
    fleet: how far its clock was ahead of the scheduler's host, by how much that may be wrong, how long after the first
    host it began, and the p99 of its generator's lateness; ns.
    """

    node: int
    hostname: str
    started_at: str
    verdict: RunVerdict
    why: str
    sent: int
    answered: int
    unsent: int = 0
    lost: int | None = None
    findings: list[Finding] = []
    cpu_s: dict[str, float] = {}
    flows: int | None = None
    share: float | None = None
    clock_offset_ns: int | None = None
    clock_error_ns: int | None = None
    start_late_ns: int | None = None
    lateness_p99_ns: int | None = None


class Requirement(msgspec.Struct, frozen=True, kw_only=True):
    """One `--require` expression, the value measured for it (null: no sample) and whether it was met."""

    expression: str
    value: float | None
    met: bool


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """One run.

    `cpu_s` is the workers' CPU time and what the hypervisor stole meanwhile; `own_drops` are answers that reached
    this host but were not read in time; `warnings` name what went wrong beside the measurement, such as a log that
    could not be written; `notes` what is worth knowing and no fault. `connections` and `connect_ns` are null
    without streams, which `carrier` carried. `reading_ns` is how long answers lay in the socket, from the kernel's
    stamp to their reading, where requests go one at a time; elsewhere they lie there on purpose, and it is null.
    `receiver` is what the receiver of one-way messages counted, made of `readings`; null for requests, where no
    receiver reported its counters, and for one of several nodes, whose messages it counts together. `nodes` are the
    hosts whose results were added up to this one. `one_way`: there are no replies. `link`: how frames
    went by a driver; null where sockets carried them. `placement` says where load threads
    and target ran, `contention` how they competed for CPUs; `subintervals` is what was due when, in a trial until it
    is judged; `ledger` says where everything went, `findings` why. All of these are empty in merged results.
    `failed_call` is the system call of this host that failed, with the kernel's reason, and so ended the run early; its
    outcomes say nothing of the target. `response_ns` is what the server's stamps say it took to answer, `offset_ns` how
    far its clock was ahead of this host's; null where answers do not say it or it was not asked for.
    """

    schema: str = SCHEMA
    kind: Literal["load"] = "load"
    scenario: Scenario
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
    reading_ns: Distribution | None = None
    connect_ns: Distribution | None = None
    response_ns: Distribution | None = None
    offset_ns: SignedDistribution | None = None
    intervals: list[Interval]
    tallies: dict[str, int]
    connections: Connections | None = None
    carrier: str = ""
    memory: Memory
    cpu_s: dict[str, float] = {}
    own_drops: int = 0
    receiver: ReceiverCounts | None = None
    readings: list[CounterSamples] = []
    link: XdpLink | None = None
    placement: Placement | None = None
    contention: Contention | None = None
    subintervals: Subintervals | None = None
    ledger: Ledger | None = None
    findings: list[Finding] = []
    requirements: list[Requirement] = []
    warnings: list[str] = []
    notes: list[str] = []
    nodes: list[Node] = []
    lost_hosts: list[str] = []
    one_way: bool = False
    failed_call: str | None = None

    @property
    def wording(self) -> Wording:
        """The words for its kind of exchange."""
        return wording_of(one_way=self.one_way)

    @property
    def good_per_s(self) -> float | None:
        """Answered requests or received messages per second; None where their number is unknown."""
        rate: float | None = getattr(self.rate_per_s, self.wording.came)
        return rate

    def to_json(self) -> bytes:
        """As one JSON object."""
        from flatout.result import files

        return files.to_json(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the JSON to a file."""
        from flatout.result import files

        files.write(path, files.to_json(self))

    def interval_array(self) -> numpy.typing.NDArray[numpy.void]:
        """The intervals as a structured array, one row a second; a missing percentile is NaN."""
        import numpy

        names = Interval.__struct_fields__
        rows = [tuple(numpy.nan if (v := getattr(row, n)) is None else v for n in names) for row in self.intervals]
        floats = {"t_s", "p50", "p99", "lateness_p99", "received"}
        return numpy.array(rows, dtype=[(name, "f8" if name in floats else "i8") for name in names])

    def _repr_html_(self) -> str:
        due = self.latency_ns.from_due
        latency = "no answer" if due is None else f"{due.p50 / 1e3:,.1f} / {due.p99 / 1e3:,.1f} µs"
        unknown = "unknown" if self.outcomes.sent else "nothing sent"
        good = unknown if self.good_per_s is None else f"{self.good_per_s:,.0f}/s"
        rows: list[tuple[str, object]] = [
            ("verdict", f"{self.verdict}: {self.why}"),
            (self.wording.came, f"{good} of {self.rate_per_s.planned:,.0f}/s planned"),
            ("loss", unknown if self.loss is None else f"{self.loss:.4%}"),
            *([] if self.one_way else [("latency from due, p50 / p99", latency)]),
        ]
        return _html_table(f"flatout: {self.scenario.protocol} {self.scenario.target}", rows)


class Trial(LoadResult, frozen=True, kw_only=True):
    """One run inside a search: `verdict` is the trial's, `run_verdict` the run's own.

    `intended_per_s` is the rate asked for; where connections are searched, `intended_connections` is their number.
    `weight` is the share of its time in which the generator was not disturbed, by which it was judged.
    """

    verdict: TrialVerdict  # type: ignore[assignment]
    run_verdict: RunVerdict
    intended_per_s: float
    intended_connections: int | None = None
    phase: str
    weight: float = 1.0

    @property
    def load(self) -> float:
        """The load on the axis of the search."""
        return self.intended_per_s if self.intended_connections is None else float(self.intended_connections)


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """What a load must meet to be held: loss at most `loss`; at most 1 % of answers later than `p99_ns` from due."""

    loss: float
    p99_ns: int | None = None


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """How the limit is searched: rates per second, `within` as a fraction, `budget_s` of wall time.

    Along the axis of connections both rates are the one rate that is kept, and `min_connections` and `max_connections`
    bound the search. `one_way`: there are no replies.
    """

    goal: Goal
    min_per_s: float
    max_per_s: float
    within: float
    budget_s: float
    axis: Axis = "rate"
    min_connections: int | None = None
    max_connections: int | None = None
    one_way: bool = False

    @property
    def wording(self) -> Wording:
        """The words for its kind of exchange."""
        return wording_of(one_way=self.one_way)

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest load that may be tried, on the axis of the search."""
        if self.axis == "rate":
            return self.min_per_s, self.max_per_s
        return float(self.min_connections or 1), float(self.max_connections or 1)

    @property
    def unit(self) -> str:
        """The unit of the axis."""
        return f"{self.wording.many}/s" if self.axis == "rate" else "connections"


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """What was found. `lower` held, `upper` failed (null: nothing failed); `value` is the claim.

    `confirmed`: a run of full length held the value. `interval` holds the limit, the load at which half of the trials
    hold, with a probability of 90 %; null where nothing failed or nothing held. `loss_below` is the share lost over all
    undisturbed time at and below the value, `censored` the share of all trial time that was disturbed and left out.

    In the terms of RFC 9971 both are relevant bounds, and `conditional_throughput_per_s` is the conditional throughput
    at the lower one: that load less the loss ratio that half of its full-length trial time stayed within; null without
    a lower bound, and where connections are searched.
    """

    axis: Axis
    value: float | None
    lower: float | None
    upper: float | None
    unit: str
    goal: Goal
    stopped_by: StoppedBy
    conditional_throughput_per_s: float | None = None
    interval: list[float] | None = None
    confirmed: bool = True
    loss_below: float | None = None
    censored: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether the value is more than an estimate: confirmed, and kept over all the time at and below it."""
        return self.confirmed and (self.loss_below is None or self.loss_below <= self.goal.loss)


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """Another server's search, done right after and kept in the same file."""

    title: str
    result: LimitResult


class LimitResult(msgspec.Struct, frozen=True, kw_only=True):
    """One search, with all its trials; `findings`: what stopped it; `knee`: what saturated first; `beside`: others."""

    schema: str = SCHEMA
    kind: Literal["limit"] = "limit"
    scenario: Scenario
    search: Search
    host: Host
    started_at: str
    duration_s: float
    limit: Limit
    rate_per_s: float | None
    trials: list[Trial]
    sentence: str
    findings: list[Finding] = []
    knee: Knee | None = None
    improvements: list[Improvement] = []
    title: str = ""
    beside: list[Beside] = []

    @property
    def wording(self) -> Wording:
        """The words for its kind of exchange."""
        return self.search.wording

    def to_json(self) -> bytes:
        """As one JSON object."""
        from flatout.result import files

        return files.to_json(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the JSON to a file."""
        from flatout.result import files

        files.write(path, files.to_json(self))

    def _repr_html_(self) -> str:
        rows = [(f"{trial.intended_per_s:,.0f}/s", f"{trial.verdict}: {trial.why}") for trial in self.trials]
        return _html_table(self.sentence, rows)


Result = LoadResult | LimitResult


def _html_table(title: str, rows: Iterable[tuple[str, object]]) -> str:
    cells = "".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>" for name, value in rows)
    return f"<table><caption>{html.escape(title)}</caption>{cells}</table>"
