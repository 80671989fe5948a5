"""A simulated machine for whole searches: server and generator share it, both wander, and stalls take time from both.

In virtual time and from a seed. A stall is 1 to 10 ms long, and stalls come as Poisson events. One that hits the
server costs what its socket buffer cannot hold. One that hits the generator leaves requests unsent: all that waited
longer than 1 ms. What the search is told of a run is what a real one tells: counters and distributions.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from limit_runs import HOST, run
from limit_servers import search

from flatout.limits.drive import World, find_limit
from flatout.progress import RunProgress
from flatout.result import LimitResult, LoadResult, Search

CAPACITY = 290_000.0

_START_AND_WARMUP_S = 0.35
_DRAIN_AFTER_LOSS_S = 0.5
_PROBE_S = 0.45
_UNSENT_AFTER_S = 1e-3
_SHORTEST_STALL_S, _LONGEST_STALL_S = 1e-3, 10e-3
_WANDERS_OVER_S = 15.0
_ON_TIME_NS, _LATE_NS, _STOPPED_NS = 10_000, 900_000, 3_000_000
_NORMAL = statistics.NormalDist()


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What does not change: rates in requests per second, stalls per second; `steady` is the spread of both rates."""

    capacity: float = CAPACITY
    ceiling: float = 10e6
    buffer: int = 256
    generator_stalls: float = 0.0
    server_stalls: float = 0.0
    wander: float = 0.01
    noise: float = 0.005
    uneven: float = 0.02
    busy_every_s: float = math.inf
    busy_for_s: float = 2.0
    busy_share: float = 0.4
    loss: float = 0.005

    def asked(self, budget_s: float = 60.0) -> Search:
        return search(loss=self.loss, budget_s=budget_s)


@dataclass
class Moment:
    """A machine under way: virtual time, and where its rates have wandered to."""

    machine: Machine
    seed: int
    now_s: float = 0.0
    wandered: list[float] = field(default_factory=lambda: [0.0, 0.0])

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.wandered = [self.dice.gauss(0.0, self.machine.wander) for _ in self.wandered]

    def rest(self, seconds: float) -> None:
        self.now_s += seconds
        kept = math.exp(-seconds / _WANDERS_OVER_S)
        fresh = self.machine.wander * math.sqrt(1.0 - kept * kept)
        self.wandered = [value * kept + self.dice.gauss(0.0, fresh) for value in self.wandered]

    def recover(self) -> bool:
        self.rest(_PROBE_S)
        return True

    def measure(self, load: float, duration_s: float, _tell: Callable[[RunProgress], None]) -> LoadResult:
        self.rest(_START_AND_WARMUP_S)
        result = self.result(load, duration_s)
        self.rest(duration_s + (_DRAIN_AFTER_LOSS_S if result.outcomes.lost else 0.0))
        return result

    def result(self, load: float, duration_s: float) -> LoadResult:
        """One run at the rates of this moment."""
        capacity, ceiling = (self._rate(which) for which in (0, 1))
        held_up = self._stalls(self.machine.generator_stalls, duration_s)
        planned = round(load * duration_s)
        unsent = min(
            planned,
            round(
                self._beyond(load, ceiling) * duration_s + load * sum(max(0.0, s - _UNSENT_AFTER_S) for s in held_up)
            ),
        )
        lost = self._lost(load, duration_s, capacity, ceiling, len(held_up))
        share_late = self._share_late(load, duration_s, ceiling, held_up)
        return run(
            planned,
            answered=max(0, planned - unsent - lost),
            unsent=unsent,
            duration_s=duration_s,
            lateness_p99_ns=_STOPPED_NS if self._stopped(held_up) > 0.01 * duration_s else _LATE_NS,
            lateness_p50_ns=_LATE_NS if share_late > 0.5 else _ON_TIME_NS,
            lateness_p90_ns=_LATE_NS if share_late > 0.1 else _ON_TIME_NS,
        )

    def _lost(self, load: float, duration_s: float, capacity: float, ceiling: float, bursts: int) -> int:
        arriving, room = min(load, ceiling), self.machine.buffer
        overload = max(0.0, self._beyond(arriving, capacity) * duration_s - room)
        missed = sum(max(0.0, s * arriving - room) for s in self._stalls(self.machine.server_stalls, duration_s))
        burst = max(0.0, _UNSENT_AFTER_S * arriving * (1.0 - min(1.0, capacity / ceiling)) - room)
        return round(overload + missed + bursts * burst)

    def _share_late(self, load: float, duration_s: float, ceiling: float, held_up: list[float]) -> float:
        if load >= ceiling:
            return 1.0
        catching_up_s = _UNSENT_AFTER_S * load / (ceiling - load)
        slow = _NORMAL.cdf((load - ceiling) / (self.machine.uneven * ceiling))
        return slow + sum(s + catching_up_s for s in held_up) / duration_s

    def _stopped(self, held_up: list[float]) -> float:
        """For how long requests came due that the generator was to find 2 ms late or more."""
        return sum(max(0.0, s - 2.0 * _UNSENT_AFTER_S) for s in held_up)

    def _beyond(self, load: float, rate: float) -> float:
        """By how much a load exceeds a rate that is uneven from one moment to the next, on average."""
        spread = self.machine.uneven * rate
        far = (load - rate) / spread
        return spread * (far * _NORMAL.cdf(far) + _NORMAL.pdf(far))

    def _rate(self, which: int) -> float:
        nominal = (self.machine.capacity, self.machine.ceiling)[which]
        if which == 1 and self._busy():
            nominal *= 1.0 - self.machine.busy_share
        return nominal * math.exp(self.wandered[which] + self.dice.gauss(0.0, self.machine.noise))

    def _busy(self) -> bool:
        """Something else runs on the machine, in spells of which each has its own beginning."""
        every_s = self.machine.busy_every_s
        if math.isinf(every_s):
            return False
        spell = math.floor(self.now_s / every_s)
        begin_s = spell * every_s + random.Random(self.seed * 1000 + spell).uniform(
            0.0, every_s - self.machine.busy_for_s
        )
        return begin_s <= self.now_s < begin_s + self.machine.busy_for_s

    def _stalls(self, per_s: float, duration_s: float) -> list[float]:
        found, at_s = [], self.dice.expovariate(per_s) if per_s else math.inf
        while at_s < duration_s:
            found.append(math.exp(self.dice.uniform(math.log(_SHORTEST_STALL_S), math.log(_LONGEST_STALL_S))))
            at_s += self.dice.expovariate(per_s)
        return found


def play_on(machine: Machine, seed: int, budget_s: float = 60.0, hint_per_s: float | None = None) -> LimitResult:
    """A whole search, carried out by the real shell."""
    moment = Moment(machine, seed)
    world = World(
        measure=moment.measure,
        recover=moment.recover,
        clock=lambda: moment.now_s,
        rest=moment.rest,
        share_later_than=lambda _distribution, _ns: 0.0,
    )
    return find_limit({}, machine.asked(budget_s), world, host=HOST, started_at="", hint_per_s=hint_per_s)
