"""Searches of servers made by hand: trials at given loads, with what was read of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ledgers
import msgspec
import results

from flatout.result.ledger import Ledger, LedgerLine, Place
from flatout.result.machine import Contention
from flatout.result.model import LimitResult, Outcomes, Rates, Trial

SECONDS = 10.0
Lines = Sequence[LedgerLine]


def line(place: Place, number: int | None, **changes: Any) -> LedgerLine:
    return LedgerLine(side="lost", place=place, count=number, **changes)


def trial(load: float, *, good: float | None = None, lines: Lines = (), about: Contention | None = None) -> Trial:
    """One trial at a load per second, of which `good` came back; the lines of the ledger name where the rest went."""
    planned = round(load * SECONDS)
    answered = planned if good is None else round(good * SECONDS)
    lost = planned - answered
    outcomes = Outcomes(
        planned=planned, sent=planned, unsent=0, answered=answered, late=0, lost=lost, refused=0, invalid=0, duplicate=0
    )
    fields = msgspec.structs.asdict(ledgers.run())
    known = sum(one.count or 0 for one in lines if one.side == "lost")
    fields |= {
        "outcomes": outcomes,
        "loss": lost / planned,
        "rate_per_s": Rates.over(outcomes, SECONDS),
        "ledger": Ledger(sent=planned, lost=lost, lines=list(lines), unexplained=max(lost - known, 0)),
        "contention": about,
        "verdict": "failed" if lost > 0.01 * planned else "held",
        "run_verdict": "ok",
        "intended_per_s": load,
        "phase": "search",
    }
    return Trial(**fields)


def busy(share: float, **changes: Any) -> Contention:
    """The target's one thread used this share of a CPU."""
    about = ledgers.threads(busiest_share=share, cpu_s=share * SECONDS)
    return ledgers.contention(target=about, **changes)


def search(trials: Sequence[Trial]) -> LimitResult:
    return msgspec.structs.replace(results.limit(), trials=list(trials), findings=[], knee=None)


def ramp(loads: Sequence[float], make: Callable[[float], Trial]) -> LimitResult:
    return search([make(load) for load in loads])


def one_thread(capacity: float, cpu_from: float = 1.0) -> Callable[[float], Trial]:
    """A server of one thread, full at a capacity: above `cpu_from` of it the receive buffer drops what is too much."""

    def make(load: float) -> Trial:
        good = min(load, capacity)
        dropped = round((load - good) * SECONDS)
        lines = [line("receive_buffer", dropped, where="ntpd")] if dropped else []
        return trial(load, good=good, lines=lines, about=busy(min(load / capacity, 1.0) * cpu_from))

    return make
