"""Finished runs made by hand: what a generator would report for a load, without one."""

from __future__ import annotations

from flatout.result.model import Distribution, Host, Latency, LoadResult, Memory, Outcomes, Rates, RunVerdict
from flatout.scenario.model import Scenario

HOST = Host(kernel="6.1", cpus=2, affinity=[0, 1], flatout="0.1.0", python="3.11", hostname="here")
SCENARIO = Scenario(protocol="ntp", target="192.0.2.10:123", profile=())


def distribution(count: int, p99_ns: int, hdr: str = "") -> Distribution | None:
    if count == 0:
        return None
    half = p99_ns // 2
    return Distribution(
        count=count, min=half, mean=half, p50=half, p90=half, p99=p99_ns, p999=p99_ns, max=p99_ns, hdr=hdr
    )


def run(
    planned: int,
    *,
    answered: int | None = None,
    unsent: int = 0,
    lateness_p99_ns: int = 20_000,
    duration_s: float = 1.0,
    verdict: RunVerdict | None = None,
    hdr: str = "",
) -> LoadResult:
    """By default all is sent and answered, and the run's verdict follows from the numbers."""
    sent = planned - unsent
    answered = sent if answered is None else answered
    behind = unsent > planned * 0.001 or lateness_p99_ns > 1_000_000
    return LoadResult(
        scenario=SCENARIO.at(planned / duration_s, duration_s),
        host=HOST,
        started_at="2026-01-01T00:00:00Z",
        duration_s=duration_s,
        verdict=verdict or ("generator-limited" if behind else "ok"),
        why="made by hand",
        outcomes=Outcomes(
            planned=planned,
            sent=sent,
            unsent=unsent,
            answered=answered,
            late=0,
            lost=sent - answered,
            refused=0,
            invalid=0,
            duplicate=0,
        ),
        loss=(sent - answered) / sent if sent else None,
        rate_per_s=Rates(planned=planned / duration_s, sent=sent / duration_s, answered=answered / duration_s),
        latency_ns=Latency(from_due=distribution(answered, 900_000, hdr), from_sent=None),
        # A generator at its end is late with most requests, not with a few.
        lateness_ns=distribution(sent, max(lateness_p99_ns, 900_000) if behind else lateness_p99_ns),
        intervals=[],
        tallies={},
        memory=Memory(peak_rss=1, slots=1, per_connection=1),
    )
