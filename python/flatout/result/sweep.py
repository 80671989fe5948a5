"""The types of a sweep: a ladder of fixed rates, each held for a while, one row a rate. Pure: runs in, rows out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from flatout.result.histogram import standard_deviation_ns
from flatout.result.model import SCHEMA, Host, LoadResult
from flatout.scenario.model import Scenario

StoppedBy = Literal["end", "loss", "generator", "target", "interrupted"]
# Where more than this share of the requests has no right answer, faster ones show nothing more, as in ntpperf.
LOSS_MAX = 0.5


class SweepRow(msgspec.Struct, frozen=True, kw_only=True):
    """One rate in numbers: ntpperf's columns, then our own. Shares are of what was sent, times in ns.

    `lost` are those without an answer, refused ones with them; `tallies` are the shares of the protocol's kinds of
    right answers. `response_*`: from the server's receive stamp to its transmit stamp, or where answers carry none
    (`response_by` "client") from sending to the answer; null without answers. `p50_ns` to `p999_ns` are latency from
    due.
    """

    rate_per_s: float
    clients: int
    lost: float
    invalid: float
    tallies: dict[str, float]
    response_by: Literal["server", "client"]
    response_min_ns: int | None
    response_mean_ns: float | None
    response_max_ns: int | None
    response_stddev_ns: float | None
    sent_per_s: float
    answered_per_s: float
    late: float
    p50_ns: int | None
    p99_ns: int | None
    p999_ns: int | None
    lateness_p99_ns: int | None
    offset_p50_ns: int | None = None
    offset_p99_ns: int | None = None
    verdict: str
    why: str

    @property
    def bad(self) -> float:
        """The share without a right answer."""
        return self.lost + self.invalid


class SweepResult(msgspec.Struct, frozen=True, kw_only=True):
    """A ladder of rates, from `from_per_s` to at most `to_per_s`, each `step` times the last and held for `each_s`.

    `stopped_by`: "end" of the ladder, "loss" (over half without a right answer), "generator" (it could not drive the
    rate, in several attempts), "target" (lost), or "interrupted". `runs` are the results behind the rows.
    """

    schema: str = SCHEMA
    kind: Literal["sweep"] = "sweep"
    scenario: Scenario
    host: Host
    started_at: str
    duration_s: float
    from_per_s: float
    to_per_s: float
    step: float
    each_s: float
    stopped_by: StoppedBy
    sentence: str
    rows: list[SweepRow]
    runs: list[LoadResult]


def row(run: LoadResult, tallies: Sequence[str]) -> SweepRow:
    """A run as a row; `tallies`: the protocol's kinds of right answers."""
    outcomes = run.outcomes
    sent = max(outcomes.sent, 1)
    response = run.response_ns or run.latency_ns.from_sent
    due, offset = run.latency_ns.from_due if outcomes.answered else None, run.offset_ns
    return SweepRow(
        rate_per_s=run.scenario.peak_per_s,
        clients=run.scenario.askers,
        lost=(outcomes.lost + outcomes.refused) / sent,
        invalid=outcomes.invalid / sent,
        tallies={name: run.tallies.get(name, 0) / sent for name in tallies},
        response_by="server" if run.response_ns else "client",
        response_min_ns=response.min if response else None,
        response_mean_ns=response.mean if response else None,
        response_max_ns=response.max if response else None,
        response_stddev_ns=standard_deviation_ns(response) if response else None,
        sent_per_s=run.rate_per_s.sent,
        answered_per_s=run.good_per_s or 0.0,
        late=outcomes.late / sent,
        p50_ns=due.p50 if due else None,
        p99_ns=due.p99 if due else None,
        p999_ns=due.p999 if due else None,
        lateness_p99_ns=run.lateness_ns.p99 if run.lateness_ns else None,
        offset_p50_ns=offset.p50 if offset else None,
        offset_p99_ns=offset.p99 if offset else None,
        verdict=run.verdict,
        why=run.why,
    )
