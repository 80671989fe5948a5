"""Results as an engine would give them, made without one: a server with a known capacity, queueing as it fills.

Everything follows from a seed, so that approved output stays the same. No socket, no clock, no engine.
"""

from __future__ import annotations

import functools
from typing import Any

import msgspec
import numpy as np
from hdrh.histogram import HdrHistogram

from flatout.result.finding import Improvement
from flatout.result.model import (
    Connections,
    Distribution,
    Goal,
    Host,
    Interval,
    Latency,
    Limit,
    LimitResult,
    LoadResult,
    Memory,
    Outcomes,
    Rates,
    Requirement,
    Search,
    Trial,
)
from flatout.scenario.model import Scenario, Segment

HOST = Host(
    kernel="6.12.48+deb13-amd64",
    cpus=2,
    affinity=[0, 1],
    flatout="0.1.0",
    python="3.13.5",
    hostname="bench-1",
)
STARTED = "2026-03-14T15:09:26Z"
SAMPLES = 2_000
GOAL = Goal(loss=0.005, p99_ns=2_000_000)


def scenario(target: str = "192.0.2.10:123", rate_per_s: float = 200_000, for_s: float = 10) -> Scenario:
    profile = (Segment(float(for_s), float(rate_per_s), float(rate_per_s)),)
    return Scenario(protocol="ntp", target=target, profile=profile, require=("loss<0.5%", "p99<2ms"))


@functools.cache
def distribution(median_ns: float, spread: float, count: int, seed: int = 1) -> Distribution | None:
    """A log-normal distribution around `median_ns`, as a histogram holds it."""
    if count <= 0:
        return None
    samples = np.random.default_rng(seed).lognormal(np.log(median_ns), spread, min(count, SAMPLES)).astype(np.int64)
    histogram = HdrHistogram(1, 60_000_000_000, 3)
    for sample in samples:
        histogram.record_value(int(sample), max(1, count // len(samples)))
    p50, p90, p99, p999 = (int(value) for value in np.percentile(samples, [50, 90, 99, 99.9]))
    return Distribution(
        count=count,
        min=int(samples.min()),
        mean=float(samples.mean()),
        p50=p50,
        p90=p90,
        p99=p99,
        p999=p999,
        max=int(samples.max()),
        hdr=histogram.encode().decode(),
    )


class Server:
    """A server that answers `capacity_per_s` at most, and slower the nearer it comes to that."""

    def __init__(self, capacity_per_s: float = 210_000, base_ns: float = 38_000) -> None:
        self.capacity_per_s = capacity_per_s
        self.base_ns = base_ns

    def answered_share(self, rate_per_s: float) -> float:
        return min(1.0, self.capacity_per_s / rate_per_s)

    def median_ns(self, rate_per_s: float) -> float:
        load = min(rate_per_s / self.capacity_per_s, 0.995)
        return self.base_ns * (1 + 0.25 * load / (1 - load))

    def spread(self, rate_per_s: float) -> float:
        return 0.25 + 0.5 * min(rate_per_s / self.capacity_per_s, 1.2) ** 4


def outcomes(server: Server, rate_per_s: float, for_s: float, unsent: int = 0) -> Outcomes:
    planned = int(rate_per_s * for_s)
    sent = planned - unsent
    answered = int(sent * server.answered_share(rate_per_s))
    missing = sent - answered
    late, invalid = missing // 20, missing // 500
    return Outcomes(
        planned=planned,
        sent=sent,
        unsent=unsent,
        answered=answered,
        late=late,
        lost=missing - late - invalid,
        refused=0,
        invalid=invalid,
        duplicate=missing // 1000,
    )


def interval(server: Server, rate_per_s: float, t_s: float, seed: int) -> Interval:
    wobble = 1 + 0.01 * np.random.default_rng(seed).standard_normal()
    second = outcomes(server, rate_per_s * wobble, 1.0)
    latency = distribution(server.median_ns(rate_per_s) * wobble, server.spread(rate_per_s), second.answered, seed)
    fields = {name: getattr(second, name) for name in Interval.__struct_fields__ if hasattr(second, name)}
    return Interval(
        t_s=t_s,
        **fields,
        p50=latency.p50 if latency else None,
        p99=latency.p99 if latency else None,
        lateness_p99=int(9_000 * wobble),
    )


def requirements(loss: float, due: Distribution | None) -> list[Requirement]:
    p99 = float(due.p99) if due else None
    return [
        Requirement(expression="loss<0.5%", value=loss, met=loss < GOAL.loss),
        Requirement(expression="p99<2ms", value=p99, met=p99 is not None and p99 < 2e6),
    ]


def load(
    asked_per_s: float = 200_000, for_s: float = 10, server: Server | None = None, seed: int = 1, **changes: Any
) -> LoadResult:
    """One run that went well; `changes` replace fields."""
    server = server or Server()
    got = outcomes(server, asked_per_s, for_s)
    due = distribution(server.median_ns(asked_per_s), server.spread(asked_per_s), got.answered, seed)
    sent = distribution(server.median_ns(asked_per_s) * 0.9, server.spread(asked_per_s), got.answered, seed)
    result = LoadResult(
        scenario=scenario(rate_per_s=asked_per_s, for_s=for_s),
        host=HOST,
        started_at=STARTED,
        duration_s=for_s + 1.6,
        verdict="ok",
        why="the generator kept its schedule",
        outcomes=got,
        loss=(got.sent - got.answered) / got.sent,
        rate_per_s=Rates(planned=asked_per_s, sent=got.sent / for_s, answered=got.answered / for_s),
        latency_ns=Latency(from_due=due, from_sent=sent),
        lateness_ns=distribution(2_500, 0.6, got.sent, seed + 100),
        intervals=[interval(server, asked_per_s, second + 1.0, seed + second) for second in range(int(for_s))],
        tallies={"stratum_1": got.answered, "kiss_of_death": 0},
        memory=Memory(peak_rss=48_300_032, slots=6_553_600, per_connection=4_096),
        cpu_s={"user": 4.1, "system": 5.2},
        requirements=requirements((got.sent - got.answered) / got.sent, due),
    )
    return msgspec.structs.replace(result, **changes)


def interrupted() -> LoadResult:
    """Stopped at once: nothing was answered, every distribution is null."""
    nothing = Outcomes(planned=0, sent=0, unsent=0, answered=0, late=0, lost=0, refused=0, invalid=0, duplicate=0)
    return load(
        verdict="interrupted",
        why="stopped before its end",
        outcomes=nothing,
        loss=None,
        rate_per_s=Rates(planned=0.0, sent=0.0, answered=0.0),
        latency_ns=Latency(from_due=None, from_sent=None),
        lateness_ns=None,
        intervals=[],
        tallies={},
        requirements=[Requirement(expression="p99<2ms", value=None, met=False)],
    )


def unanswered() -> LoadResult:
    """A target that never answers."""
    return load(
        verdict="target-lost",
        why="nothing comes back (is it running, is a firewall in between?)",
        outcomes=Outcomes(
            planned=400_000,
            sent=399_000,
            unsent=1_000,
            answered=0,
            late=0,
            lost=398_990,
            refused=10,
            invalid=0,
            duplicate=0,
        ),
        unsent_because={"send buffer full": 1_000},
        loss=1.0,
        rate_per_s=Rates(planned=200_000, sent=199_500, answered=0.0),
        latency_ns=Latency(from_due=None, from_sent=None),
        intervals=[
            msgspec.structs.replace(interval(Server(), 200_000, t, 7), answered=0, lost=199_000, p50=None, p99=None)
            for t in (1.0, 2.0)
        ],
        tallies={},
        requirements=[
            Requirement(expression="loss<0.5%", value=1.0, met=False),
            Requirement(expression="p99<2ms", value=None, met=False),
        ],
    )


def over_streams(protocol: str, for_s: float = 10, **changes: Any) -> LoadResult:
    """A run over connections, some of which were refused, closed or cut off."""
    run = load(20_000, for_s)
    asked = msgspec.structs.replace(run.scenario, protocol=protocol, transport="tcp", connections=1000, require=())
    words = {"opened": 1012, "established": 1003, "failed": 9, "refused": 6, "timed_out": 3, "closed": 8, "reset": 4}
    fields: dict[str, Any] = {
        "scenario": asked,
        "connections": Connections(**words, reopened=12, peak=997, live=991),
        "connect_ns": distribution(310_000, 0.4, 1003, 9),
        "carrier": "io_uring",
        "warnings": ["only 997 of 1,000 connections were open at once: 6 refused, 3 timed out"],
        "notes": ["the target ended 12 of 1,003 connections (8 closed, 4 reset)"],
        "requirements": [],
    }
    return msgspec.structs.replace(run, **fields | changes)


def _why_failed(loss: float, p99_ns: int) -> str:
    if loss > GOAL.loss:
        return f"loss {100 * loss:.2f} % is above 0.5 %"
    return f"p99 {p99_ns / 1e6:.2f} ms is above 2 ms"


def trial(rate_per_s: float, phase: str, server: Server, seed: int, for_s: float = 2) -> Trial:
    run = load(rate_per_s, for_s, server, seed, requirements=[])
    p99 = run.latency_ns.from_due.p99 if run.latency_ns.from_due else 0
    held = (run.loss or 0.0) <= GOAL.loss and p99 <= (GOAL.p99_ns or p99)
    fields = msgspec.structs.asdict(run)
    fields |= {
        "verdict": "held" if held else "failed",
        "why": "held" if held else _why_failed(run.loss or 0.0, p99),
        "run_verdict": "ok",
        "intended_per_s": rate_per_s,
        "phase": phase,
    }
    return Trial(**fields)


def invalid(held: Trial) -> Trial:
    """The same trial, driven too late to count."""
    return msgspec.structs.replace(
        held,
        verdict="invalid",
        run_verdict="generator-limited",
        why="the generator was late: p99 of lateness 3.1 ms",
        lateness_ns=distribution(400_000, 0.9, held.outcomes.sent, 5),
    )


def trials(server: Server) -> list[Trial]:
    """Double until one fails, halve the gap until it is within 2 %, confirm."""
    done: list[Trial] = []
    rate, lower, upper = 20_000.0, 0.0, 0.0
    while not upper:
        done.append(trial(rate, "bracket", server, len(done)))
        lower, upper, rate = (rate, 0.0, rate * 2) if done[-1].verdict == "held" else (lower, rate, rate)
    while upper > lower * 1.02:
        middle = (lower * upper) ** 0.5
        done.append(trial(middle, "search", server, len(done)))
        lower, upper = (middle, upper) if done[-1].verdict == "held" else (lower, middle)
    done.insert(3, invalid(done[2]))
    done.append(trial(lower, "confirm", server, len(done), for_s=10))
    return done


def limit(server: Server | None = None, target: str = "192.0.2.10:123", **changes: Any) -> LimitResult:
    """One search that found its limit; `changes` replace fields."""
    done = trials(server or Server())
    lower = max(t.intended_per_s for t in done if t.verdict == "held")
    upper = min(t.intended_per_s for t in done if t.verdict == "failed")
    result = LimitResult(
        scenario=scenario(target),
        search=Search(goal=GOAL, min_per_s=20_000.0, max_per_s=2_000_000.0, within=0.02, budget_s=120),
        host=HOST,
        started_at=STARTED,
        duration_s=61.4,
        limit=Limit(
            axis="rate",
            value=lower,
            lower=lower,
            upper=upper,
            unit="requests/s",
            goal=GOAL,
            stopped_by="found",
            conditional_throughput_per_s=lower,
        ),
        rate_per_s=lower,
        trials=done,
        sentence=f"Holds {lower:,.0f} requests/s (loss <= 0.5 %, p99 <= 2 ms); fails at {upper:,.0f}/s: p99 2.20 ms.",
    )
    return msgspec.structs.replace(result, **changes)


def improved() -> LimitResult:
    """What --improve tried: one raised it and stays, one did not help, one could not be tried, one search failed."""
    raised = Improvement(
        finding="receive buffer",
        setting="receive buffer of the target's socket (SO_RCVBUF)",
        keys=["socket:812:4711:99:rcvbuf"],
        before="212992",
        tried="1035008",
        risk="under lasting overload what lies in it is answered late",
        limit_before=24_387.0,
        limit_after=112_889.0,
        gain=3.629,
        kept=True,
        why="the limit rose, and it stays: `flatout host undo --journal /var/lib/flatout/improve.json` undoes it",
    )
    no_gain = Improvement(
        finding="softnet backlog",
        setting="net.core.netdev_max_backlog",
        keys=["/proc/sys/net/core/netdev_max_backlog"],
        before="1000",
        tried="4000",
        risk="delay, and memory",
        limit_before=112_889.0,
        limit_after=113_001.0,
        gain=0.001,
        undone=True,
        why="no gain above the uncertainty of the limit before",
    )
    words = {"before": "575799\t767734\t1151598", "tried": "2303196\t3070936\t4606392"}
    memory = {"finding": "socket memory", "setting": "net.ipv4.udp_mem", "keys": ["/proc/sys/net/ipv4/udp_mem"]}
    failed = Improvement(**memory, **words, limit_before=112_889.0, undone=True, why="the target has ended")
    unmet = "the target is in another network namespace: raise net.ipv4.tcp_max_syn_backlog there"
    left = Improvement(finding="SYN queue", setting="net.ipv4.tcp_max_syn_backlog", why=unmet)
    return limit(improvements=[raised, no_gain, left, failed])


def limit_interrupted() -> LimitResult:
    """A search stopped before its first trial ended."""
    nothing = Limit(
        axis="rate", value=None, lower=None, upper=None, unit="requests/s", goal=GOAL, stopped_by="interrupted"
    )
    return limit(limit=nothing, rate_per_s=None, trials=[], sentence="Interrupted before any trial ended.")


def limit_of_connections() -> LimitResult:
    """A search along connections at one rate."""
    found = limit()
    done = [
        msgspec.structs.replace(t, intended_per_s=20_000.0, intended_connections=round(t.intended_per_s / 20))
        for t in found.trials
    ]
    lower, upper = (round((bound or 0.0) / 20) for bound in (found.limit.lower, found.limit.upper))
    bounds = {"min_connections": 10, "max_connections": 100_000}
    search = msgspec.structs.replace(found.search, axis="connections", min_per_s=20_000.0, max_per_s=20_000.0, **bounds)
    return msgspec.structs.replace(
        found,
        search=search,
        limit=msgspec.structs.replace(
            found.limit,
            axis="connections",
            value=lower,
            lower=lower,
            upper=upper,
            unit="connections",
            conditional_throughput_per_s=None,
        ),
        rate_per_s=None,
        trials=done,
        sentence=f"Holds {lower:,} connections at 20,000/s (loss <= 0.5 %); fails at {upper:,} connections.",
    )
