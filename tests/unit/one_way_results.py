"""Results of messages that go one way, made without an engine: see results.py."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import results

from flatout.limit_search.sentence import sentence
from flatout.result.model import Interval, Latency, LimitResult, LoadResult, Outcomes, Rates, ReceiverCounts, Trial
from flatout.runner.exchange.one_way import OneWay
from flatout.runner.verdict import verdict
from flatout.scenario.model import Scenario, Segment

RATE, FOR_S = 800_000.0, 4


def scenario() -> Scenario:
    options = {"format": "id:u4 seq:u4 sent:u8 x:f4 y:f4", "endian": "little", "values": None, "reply": None}
    profile = (Segment(FOR_S, RATE, RATE),)
    return Scenario(protocol="record", target="192.0.2.10:31234", profile=profile, threads=2, options=options)


def second(t_s: float, sent: int, lost: int | None) -> Interval:
    nothing = dict.fromkeys(("unsent", "answered", "late", "lost", "refused", "invalid", "duplicate"), 0)
    fields: dict[str, Any] = {"planned": sent, "sent": sent, "received": None if lost is None else sent - lost}
    return Interval(t_s=t_s, **nothing, **fields, p50=None, p99=None, lateness_p99=11_000 + int(t_s) * 500)


def run(lost_in_kernel: int = 0, lost_elsewhere: int = 0, malformed: int = 0, **changes: Any) -> LoadResult:
    """A run that was driven, with so many messages of 3.2 million lost at the receiver's sockets, and elsewhere."""
    sent = int(RATE * FOR_S)
    lost = lost_in_kernel + lost_elsewhere
    right = sent - lost - malformed
    words: dict[str, int] = {"duplicate": lost // 1000, "reordered": lost // 500}
    outcomes = Outcomes(
        planned=sent, sent=sent, unsent=0, answered=0, late=0, lost=lost, refused=0, invalid=malformed,
        received=right, **words,
    )  # fmt: skip
    there = ReceiverCounts(
        received=right + malformed, parsed=right, malformed=malformed, missing=lost, restarts=0, untracked=0,
        kernel_drops=lost_in_kernel, handed_over=right, dropped=0, queued=0, senders=8, workers=2, size=24,
        lost_in_kernel=lost_in_kernel, lost_elsewhere=lost_elsewhere, **words,
    )  # fmt: skip
    result = results.load(
        scenario=scenario(),
        duration_s=float(FOR_S),
        outcomes=outcomes,
        loss=(sent - right) / sent,
        rate_per_s=Rates(planned=RATE, sent=RATE, answered=0.0, received=right / FOR_S),
        latency_ns=Latency(from_due=None, from_sent=None),
        # As the engine ends a run: what is left of the last second.
        intervals=[*(second(n + 1.0, int(RATE), lost // FOR_S) for n in range(FOR_S)), second(FOR_S + 0.001, 0, 0)],
        tallies={"replied": 0},
        requirements=[],
        receiver=there,
        one_way=True,
    )
    return msgspec.structs.replace(result, **changes)


def uncounted() -> LoadResult:
    """The same where nobody at the target counts."""
    good = run()
    return msgspec.structs.replace(
        good,
        outcomes=msgspec.structs.replace(good.outcomes, received=None),
        loss=None,
        rate_per_s=Rates(planned=RATE, sent=RATE, answered=0.0),
        receiver=None,
        intervals=[second(n + 1.0, int(RATE), None) for n in range(FOR_S)],
    )


def behind() -> LoadResult:
    """The same where the generator could not follow its schedule."""
    good = run()
    planned = good.outcomes.planned
    words = {"planned": planned, "sent": planned // 2, "unsent": planned // 2, "received": planned // 2}
    outcomes = msgspec.structs.replace(good.outcomes, **words)
    word, why = verdict(outcomes, good.lateness_ns, 0, OneWay(), lost=None, interrupted=False)
    return msgspec.structs.replace(
        good, verdict=word, why=why, outcomes=outcomes, unsent_because={"late": planned // 2}
    )


def trial(rate_per_s: float, phase: str, capacity_per_s: float) -> Trial:
    sent = int(rate_per_s)
    lost = max(0, int(rate_per_s - capacity_per_s))
    good = run()
    outcomes = msgspec.structs.replace(good.outcomes, planned=sent, sent=sent, received=sent - lost, lost=lost)
    there = msgspec.structs.replace(
        cast("ReceiverCounts", good.receiver),
        received=sent - lost,
        parsed=sent - lost,
        lost_in_kernel=lost,
        kernel_drops=lost,
    )
    fields = msgspec.structs.asdict(good) | {
        "outcomes": outcomes,
        "receiver": there,
        "loss": lost / sent,
        "duration_s": 1.0,
        "rate_per_s": Rates(planned=rate_per_s, sent=rate_per_s, answered=0.0, received=float(sent - lost)),
        "intervals": [second(1.0, sent, lost)],
        "verdict": "failed" if lost else "held",
        "why": f"loss {100 * lost / sent:.2f} % is above 0.1 %" if lost else "held",
        "run_verdict": "ok",
        "intended_per_s": rate_per_s,
        "phase": phase,
    }
    return Trial(**fields)


def limit() -> LimitResult:
    """A search that found a receiver's limit."""
    found = results.limit()
    rates = (("bracket", 5e5), ("bracket", 1e6), ("search", 7e5), ("search", 6e5), ("confirm", 6e5))
    goal = msgspec.structs.replace(found.search.goal, loss=0.001, p99_ns=None)
    search = msgspec.structs.replace(found.search, goal=goal, one_way=True)
    limit = msgspec.structs.replace(
        found.limit, value=6e5, lower=6e5, upper=7e5, goal=goal, unit=search.unit, conditional_throughput_per_s=6e5
    )
    return msgspec.structs.replace(
        found,
        scenario=scenario(),
        search=search,
        limit=limit,
        rate_per_s=6e5,
        trials=[trial(rate, phase, 620_000) for phase, rate in rates],
        sentence=sentence(limit, search, "loss 11.43 %"),
    )
