"""Simulated servers and generators for the limit search, in virtual time: load and length in, a measured trial out.

Everything follows from a seed. Nothing here sleeps, opens a socket or knows how the search decides.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from flatout.limit_search.past import Conclusion, NextTrial, PastTrial
from flatout.limit_search.search import decide
from flatout.result.model import Goal, Search

LOSS = 0.001
# Load, length and how long the load ran before it counted -> the trial; the phase is filled in by `play`.
Server = Callable[[int, float, float], PastTrial]


def search(
    min_per_s: float = 1_000,
    max_per_s: float = 5_000_000,
    within: float = 0.02,
    budget_s: float = 60.0,
    loss: float = LOSS,
) -> Search:
    goal = Goal(loss=loss)
    return Search(goal=goal, min_per_s=min_per_s, max_per_s=max_per_s, within=within, budget_s=budget_s)


def reply(load: int, duration_s: float, loss: float, weight: float = 1.0) -> PastTrial:
    sent = round(load * duration_s * weight)
    verdict = "failed" if loss > LOSS else "held"
    return PastTrial(load, duration_s, verdict, loss, "search", weight=weight, sent=sent, lost=round(sent * loss))


def invalid(load: int, duration_s: float, *, undriven: bool) -> PastTrial:
    return PastTrial(load, duration_s, "invalid", 0.0, "search", weight=float(undriven), undriven=undriven)


def sharp(capacity: float) -> Server:
    """All above the capacity is lost."""
    return lambda load, s, _lead: reply(load, s, max(0.0, 1.0 - capacity / load))


def soft(capacity: float) -> Server:
    """Loss grows from nothing at 95 % of the capacity to `LOSS` at it, and on."""
    return lambda load, s, _lead: reply(load, s, max(0.0, (load / capacity - 0.95) / 0.05) ** 2 * LOSS)


def noisy(capacity: float, sigma: float, seed: int) -> Server:
    """Sharp, with a capacity that differs from trial to trial."""
    dice = random.Random(seed)
    return lambda load, s, _lead: reply(load, s, max(0.0, 1.0 - capacity * (1.0 + dice.gauss(0.0, sigma)) / load))


def unlucky(server: Server, share: float, seed: int) -> Server:
    """In some trials the server's own machine takes time away, unseen by the generator."""
    dice = random.Random(seed)

    def measured(load: int, s: float, lead: float) -> PastTrial:
        return reply(load, s, 0.05) if dice.random() < share else server(load, s, lead)

    return measured


def driven_up_to(server: Server, ceiling: float) -> Server:
    """A generator that cannot keep its schedule above its ceiling."""
    return lambda load, s, lead: invalid(load, s, undriven=True) if load > ceiling else server(load, s, lead)


def held_up(server: Server, per_s: float, seed: int) -> Server:
    """A machine that holds the generator up for some ms, so often: that part and the next are left out."""
    dice = random.Random(seed)

    def measured(load: int, s: float, lead: float) -> PastTrial:
        parts = [False] * max(1, round(s / 0.067))
        at = dice.expovariate(per_s)
        while at < s:
            for part in (int(at / 0.067), int(at / 0.067) + 1):
                if part < len(parts):
                    parts[part] = True
            at += dice.expovariate(per_s)
        share = 1.0 - sum(parts) / len(parts)
        return invalid(load, s, undriven=False) if share < 0.5 else replace(server(load, s, lead), weight=share)

    return measured


@dataclass
class Bucket:
    """A server behind a token bucket that fills at `rate` while nothing is asked: short bursts see more than that."""

    rate: float
    depth: float
    tokens: float = field(default=0.0)

    def __call__(self, load: int, s: float, lead: float) -> PastTrial:
        self.tokens = self.depth  # the rest between two trials
        for seconds in (lead, s):
            offered = load * seconds
            answered = min(offered, self.tokens + self.rate * seconds)
            self.tokens = min(self.depth, self.tokens + self.rate * seconds - answered)
        return reply(load, s, 1.0 - answered / offered)


@dataclass
class Stalling:
    """A server that stops for `stall_s` once in `every_s`; its buffer holds `room` requests."""

    capacity: float
    every_s: float = 10.0
    stall_s: float = 0.05
    room: float = 140.0
    now_s: float = 0.0

    def __call__(self, load: int, s: float, lead: float) -> PastTrial:
        began = self.now_s + lead
        self.now_s = began + s + 0.9
        stalls = int((began + s) / self.every_s) - int(began / self.every_s)
        lost = stalls * max(0.0, self.stall_s * load - self.room) + max(0.0, load - self.capacity) * s
        return reply(load, s, min(lost / (load * s), 1.0))


@dataclass(frozen=True)
class Played:
    done: Conclusion
    past: list[PastTrial]
    elapsed_s: float

    @property
    def interval(self) -> tuple[float, float]:
        assert self.done.interval is not None
        return self.done.interval

    @property
    def width(self) -> float:
        low, high = self.interval
        return high / low - 1.0

    def contains(self, limit: float) -> bool:
        low, high = self.interval
        return low <= limit <= high


def play(server: Server, asked: Search, hint_per_s: float | None = None, overhead_s: float = 0.5) -> Played:
    """A whole search; a failed trial costs 0.3 s more than others."""
    past: list[PastTrial] = []
    elapsed_s = 0.0
    while isinstance(step := decide(asked, past, elapsed_s, hint_per_s), NextTrial):
        trial = server(step.load, step.duration_s, step.lead_s)
        past.append(replace(trial, phase=step.phase))
        elapsed_s += step.lead_s + step.duration_s + overhead_s
        elapsed_s += 0.3 if trial.verdict == "failed" and overhead_s else 0.0
        assert len(past) < 2_000, "the search does not end"
    return Played(step, past, elapsed_s)
