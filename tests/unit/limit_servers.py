"""Simulated servers and generators for the limit search, in virtual time: load and length in, verdict and loss out.

Everything follows from a seed. Nothing here sleeps, opens a socket or knows how the search decides.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from flatout.limit_search.search import Conclusion, PastTrial, decide
from flatout.result.model import Goal, Search, TrialVerdict

LOSS = 0.001
Reply = tuple[TrialVerdict, float]
Server = Callable[[int, float], Reply]


def search(
    min_per_s: float = 1_000,
    max_per_s: float = 5_000_000,
    within: float = 0.02,
    budget_s: float = 60.0,
    loss: float = LOSS,
) -> Search:
    goal = Goal(loss=loss)
    return Search(goal=goal, min_per_s=min_per_s, max_per_s=max_per_s, within=within, budget_s=budget_s)


def reply(loss: float) -> Reply:
    return ("failed" if loss > LOSS else "held"), loss


def sharp(capacity: float) -> Server:
    """All above the capacity is lost."""
    return lambda load, _duration_s: reply(max(0.0, 1.0 - capacity / load))


def soft(capacity: float) -> Server:
    """Loss grows from nothing at 95 % of the capacity to `LOSS` at it, and on."""
    return lambda load, _duration_s: reply(max(0.0, (load / capacity - 0.95) / 0.05) ** 2 * LOSS)


def noisy(capacity: float, sigma: float, seed: int) -> Server:
    """Sharp, with a capacity that differs from trial to trial."""
    dice = random.Random(seed)

    def server(load: int, _duration_s: float) -> Reply:
        return reply(max(0.0, 1.0 - capacity * (1.0 + dice.gauss(0.0, sigma)) / load))

    return server


def disturbed(server: Server, share: float, seed: int) -> Server:
    """The machine takes time away in some trials, and the server loses then."""
    dice = random.Random(seed)
    return lambda load, duration_s: reply(0.05) if dice.random() < share else server(load, duration_s)


def driven_up_to(server: Server, ceiling: float) -> Server:
    """A generator that cannot keep its schedule above its ceiling."""
    return lambda load, duration_s: ("invalid", 0.0) if load > ceiling else server(load, duration_s)


def flattering(short: float, long: float) -> Server:
    """Deep buffers: runs of less than 3 s look better than the server is."""
    return lambda load, duration_s: sharp(short if duration_s < 3.0 else long)(load, duration_s)


@dataclass(frozen=True)
class Played:
    done: Conclusion
    past: list[PastTrial]
    elapsed_s: float


def play(server: Server, asked: Search, hint_per_s: float | None = None, overhead_s: float = 0.5) -> Played:
    """A whole search; a failed trial costs 0.3 s more than others."""
    past: list[PastTrial] = []
    elapsed_s = 0.0
    while True:
        step = decide(asked, past, elapsed_s, hint_per_s)
        if isinstance(step, Conclusion):
            return Played(step, past, elapsed_s)
        verdict, loss = server(step.load, step.duration_s)
        past.append(PastTrial(step.load, step.duration_s, verdict, loss, step.phase))
        elapsed_s += step.duration_s + overhead_s + (0.3 if verdict == "failed" and overhead_s else 0.0)
        assert len(past) < 2_000, "the search does not end"
