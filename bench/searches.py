"""Searches of one server as it is installed, nothing pinned, by this version and an older one in turn; a sweep between.

After each pair of searches the sweep measures trials at loads around what the first search found, so that all three see
the same machine. The sweep's value is the load at which half of all its trials hold. Usage:
python bench/searches.py --server chronyd [--threads 1] [--before PYTHON] [--pairs 7] [--searches 20] --out DIR
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
from pathlib import Path

import flatout
from flatout import searching
from flatout.limit_search.posterior import Evidence, Posterior
from flatout.limit_search.trial_verdict import evaluate_trial
from flatout.plan.resolve import AsTrial
from flatout.result.histogram import share_later_than
from flatout.result.model import Goal
from flatout.runner.competition import competed
from flatout.runner.run import run
from installed import protocol_of, server
from record import Record, spread

SHARES = (0.85, 0.9, 0.95, 0.975, 1.0, 1.025, 1.05, 1.1)
GOAL = Goal(loss=0.001)
SECONDS = 0.5


class Sweep:
    """Trials over a grid of loads, judged as those of a search."""

    def __init__(self, protocol: str, target: str, middle: float) -> None:
        self.scenario = searching.trial_scenario(protocol, target)
        self.middle = middle
        self.sharing = False
        self.evidence: list[Evidence] = []

    def once(self, dice: random.Random) -> None:
        """Two trials at each load, in random order."""
        for share in dice.sample(2 * SHARES, 2 * len(SHARES)):
            load = round(self.middle * share)
            result = run(self.scenario.at(load, SECONDS), as_trial=AsTrial(share_cpus=self.sharing))
            self.sharing = self.sharing or competed(result)
            trial = evaluate_trial(result, GOAL, share_later_than)
            if trial.verdict != "invalid":
                self.evidence.append(Evidence(load, trial.verdict == "held", trial.weight))

    def value(self) -> float:
        """Where half of them hold."""
        return Posterior(0.5 * self.middle, 2.0 * self.middle, self.evidence).quantile(0.5)


def before(python: str, protocol: str, target: str) -> dict[str, object]:
    """A search by another version."""
    command = [python, "-m", "flatout", "limit", protocol, target, "--budget", "60s", "--json", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    limit = json.loads(done.stdout)["limit"] if done.stdout.startswith("{") else {}
    return {"before": round(limit.get("value") or 0), "before_stopped_by": limit.get("stopped_by", done.stderr[-200:])}


def search(protocol: str, target: str) -> dict[str, object]:
    """A search by this version."""
    limit = (found := flatout.limit(protocol, target, budget="60s")).limit
    low, high = limit.interval or (0.0, 0.0)
    return {
        "value": round(limit.value or 0),
        "low": round(low),
        "high": round(high),
        "width": round(high / low - 1.0, 4) if low else 0.0,
        "confirmed": limit.confirmed,
        "stopped_by": limit.stopped_by,
        "censored": round(limit.censored, 3),
        "trials": len(found.trials),
    }


def main() -> None:
    """Measures and keeps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--before")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--searches", type=int, default=20)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    protocol, dice = protocol_of(arguments.server), random.Random(1)
    record = Record(arguments.out, "searches")
    with server(arguments.server, arguments.threads) as target:
        sweep = None
        for number in range(arguments.searches):
            row: dict[str, object] = {"search": number, **search(protocol, target)}
            paired = arguments.before is not None and number < arguments.pairs
            older = before(arguments.before, protocol, target) if paired else {"before": 0, "before_stopped_by": ""}
            sweep = sweep or Sweep(protocol, target, float(str(row["high"])))
            sweep.once(dice)
            record.add(**row, **older, sweep_so_far=round(sweep.value()))
    assert sweep is not None
    record.finish(_found(record, arguments.server, sweep.value()))


def _found(record: Record, name: str, sweep: float) -> list[str]:
    rows = record.rows
    inside = sum(float(str(row["low"])) <= sweep <= float(str(row["high"])) for row in rows)
    older = [float(str(row["before"])) for row in rows if row["before_stopped_by"]]
    lines = [
        f"- {name}, nothing pinned, 60 s each; the sweep says {sweep:,.0f}/s",
        f"- the 90 % interval contains it in {inside} of {len(rows)} searches; width {spread(record.values('width'))}",
        f"- value {spread(record.values('value'), 0)}/s, confirmed in {sum(bool(row['confirmed']) for row in rows)}",
        f"- ended by {', '.join(sorted({str(row['stopped_by']) for row in rows}))}",
    ]
    return [*lines, f"- the version before, in turn: {spread(older, 0)}/s"] if older else lines


if __name__ == "__main__":
    main()
