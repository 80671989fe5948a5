"""The recorded machine: trials of real servers (bench/trials.py), replayed by bootstrap. No clock, no socket.

A trial at some load is drawn from the recorded ones at the nearest loads and of the nearest length, with their verdict,
loss and disturbance. Above the highest recorded load the server carries what it carried there.
"""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec
from limit_servers import LOSS, Played, play, search

from flatout.limit_search.past import PastTrial
from flatout.limit_search.posterior import Evidence, Posterior
from flatout.result.model import TrialVerdict

# A sweep: so many trials at each load, of the length that a search of 60 s has.
SWEPT, SWEEP_S = 40, 0.5
RECORDED = sorted((Path(__file__).parents[2] / "bench/runs").glob("*/trials-*.jsonl.gz"))


class Recorded(msgspec.Struct, frozen=True):
    """One recorded trial; `share` is its load as a part of the limit that the recording was made around."""

    load: int
    share: float
    duration_s: float
    verdict: TrialVerdict
    loss: float
    weight: float
    undriven: bool
    sent: int
    lost: int
    run_loss: float | None = None


@dataclass
class Machine:
    """A server, its generator and their disturbances, as recorded."""

    name: str
    trials: list[Recorded]

    @classmethod
    def read(cls, path: Path) -> Machine:
        decoder = msgspec.json.Decoder(Recorded)
        with gzip.open(path, "rb") as lines:
            return cls(path.name.split("-", 1)[1].removesuffix(".jsonl.gz"), [decoder.decode(line) for line in lines])

    @cached_property
    def limit(self) -> float:
        """What a sweep says: the load at which half of the trials hold, by many short trials at each recorded load."""
        server, loads = self.server(1), sorted({trial.load for trial in self.trials})
        swept = [server(load, SWEEP_S, 0.0) for load in loads for _ in range(SWEPT)]
        counted = [t for t in swept if t.verdict != "invalid" or t.undriven]
        evidence = [Evidence(t.load, t.verdict == "held", t.weight) for t in counted]
        return Posterior(loads[0], loads[-1], evidence).quantile(0.5)

    def server(self, seed: int) -> Replay:
        return Replay(self, random.Random(seed))

    def search(self, seed: int) -> Played:
        return play(self.server(seed), search(), hint_per_s=1e6, overhead_s=0.45)


@dataclass
class Replay:
    """Answers the search from the record."""

    machine: Machine
    dice: random.Random

    def __call__(self, load: int, duration_s: float, _lead_s: float) -> PastTrial:
        if load < 0.9 * min(trial.load for trial in self.machine.trials):
            # Below what was recorded there is no data: the recording began where the server is far from its limit.
            return PastTrial(load, duration_s, "held", 0.0, "search", sent=round(load * duration_s))
        drawn = list(self._draw(load, duration_s))
        verdicts = {trial.verdict for trial in drawn}
        weight = sum(trial.weight * trial.duration_s for trial in drawn) / sum(trial.duration_s for trial in drawn)
        sent = round(load * duration_s * weight)
        loss = min(max(sum(self._loss(trial, load) for trial in drawn) / len(drawn), 0.0), 1.0)
        if verdicts == {"invalid"} or weight < 0.5:
            undriven = 2 * sum(trial.undriven for trial in drawn) >= len(drawn)
            return PastTrial(load, duration_s, "invalid", 0.0, "search", weight=weight, undriven=undriven)
        verdict: TrialVerdict = "failed" if loss > LOSS else "held"
        return PastTrial(load, duration_s, verdict, loss, "search", weight=weight, sent=sent, lost=round(sent * loss))

    def _draw(self, load: int, duration_s: float) -> Iterator[Recorded]:
        """One trial, or as many as a long run takes."""
        trials = self.machine.trials
        loads = sorted({trial.load for trial in trials}, key=lambda at: abs(at / load - 1.0))[:2]
        # Between two recorded loads the nearer one is drawn more often.
        gaps = [abs(at / load - 1.0) + 1e-6 for at in loads]
        drawn_s = 0.0
        while drawn_s < duration_s - 0.01:
            at = self.dice.choices(loads, [1.0 / gap for gap in gaps])[0] if gaps[0] < 0.1 else loads[0]
            left_s = duration_s - drawn_s
            there = [trial for trial in trials if trial.load == at]
            # Of about the same length: half to twice as long, where there are such.
            alike = [trial for trial in there if 0.5 <= trial.duration_s / left_s <= 2.0]
            trial = self.dice.choice(alike or there)
            drawn_s += max(trial.duration_s, 0.25)
            yield trial

    @staticmethod
    def _loss(trial: Recorded, load: int) -> float:
        loss = trial.lost / trial.sent if trial.sent else trial.loss
        # Far above what was recorded the server carries no more.
        return max(loss, 1.0 - trial.load * (1.0 - loss) / load) if load > 1.1 * trial.load else loss
