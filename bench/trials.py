"""Records trials of a server over a grid of loads around its limit, with all measures of disturbance, one a line.

The loads are 0.5 to 1.2 times the limit, the lengths 0.25 to 2 s, in random order; nothing is pinned.
`tests/unit/limit_recorded.py` replays them. Usage:
python bench/trials.py --server chronyd [--threads 1] [--limit 240k] [--trials 300] [--seed 1] --out FILE
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

import msgspec

import flatout
from flatout import searching, units
from flatout.limit_search.trial_verdict import evaluate_trial
from flatout.plan.resolve import AsTrial
from flatout.result.histogram import share_later_than
from flatout.result.model import Goal, LoadResult
from flatout.runner.competition import competed
from flatout.runner.run import run
from installed import protocol_of, server

SHARES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975, 1.0, 1.025, 1.05, 1.1, 1.15, 1.2)
LENGTHS = (0.25, 0.5, 0.5, 0.5, 1.0, 1.0, 2.0)
GOAL = Goal(loss=0.001)


def row(result: LoadResult, load: int, limit: float) -> dict[str, object]:
    """What a decider may know of a trial, and what disturbed it."""
    found = evaluate_trial(result, GOAL, share_later_than)
    return {
        "load": load,
        "share": round(load / limit, 4),
        "duration_s": result.duration_s,
        **msgspec.structs.asdict(found),
        "run_loss": result.loss,
        "unsent": result.outcomes.unsent,
        "own_drops": result.own_drops,
        "lateness_p99_ns": result.lateness_ns.p99 if result.lateness_ns else None,
        "shared_cpus": result.placement.shared_cpus if result.placement else [],
        "contention": result.contention,
        "subintervals": result.subintervals,
        "at_s": round(time.monotonic(), 2),
    }


def main() -> None:
    """Measures and keeps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--limit", default=None)
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    dice = random.Random(arguments.seed)
    with server(arguments.server, arguments.threads) as target, arguments.out.open("wb") as out:
        protocol = protocol_of(arguments.server)
        limit = units.rate(arguments.limit) if arguments.limit else _limit(protocol, target)
        scenario, sharing = searching.trial_scenario(protocol, target), False
        for number in range(arguments.trials):
            load, seconds = round(limit * dice.choice(SHARES)), dice.choice(LENGTHS)
            result = run(scenario.at(load, seconds), as_trial=AsTrial(share_cpus=sharing))
            sharing = sharing or competed(result)
            out.write(msgspec.json.encode(row(result, load, limit)) + b"\n")
            out.flush()
            print(f"\r{number + 1}/{arguments.trials}", end="", file=sys.stderr)
            time.sleep(0.35 if result.loss else 0.1)


def _limit(protocol: str, target: str) -> float:
    found = flatout.limit(protocol, target)
    print(found.sentence, file=sys.stderr)
    return found.limit.value or 1e5


if __name__ == "__main__":
    main()
