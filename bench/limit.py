"""`flatout limit ntp --loss 0.5%` against chronyd: five searches and, in their middle, a plain sweep in steps of 2 %.

The sweep rises from 60 % of the first search's answer until three rates in a row lose more than 0.5 %; each rate for
2 s. Usage: python bench/limit.py [--searches 5] --out DIR
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import flatout
from peers import ASKER, ask, chronyd
from record import Record, spread

LOSS = 0.005


def sweep(target: str, begin: float) -> float:
    """The highest rate that held before three in a row did not."""
    best, misses, rate = 0.0, 0, begin
    while misses < 3:
        result = ask(target, rate, 2.0)
        if result.verdict == "ok":
            held = result.loss is not None and result.loss <= LOSS
            best, misses = (rate, 0) if held else (best, misses + 1)
        else:
            misses += 1
        rate *= 1.02
    return best


def main() -> None:
    """Measures and keeps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--searches", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    record = Record(arguments.out, "limit")
    begin = 0.0
    with chronyd() as target:
        for number in range(arguments.searches):
            started = time.monotonic()
            found = flatout.limit("ntp", target, loss=LOSS, cpus=(ASKER,))
            took = time.monotonic() - started
            begin = begin or 0.6 * (found.limit.value or 1e5)
            record.add(
                number=number,
                kind="search",
                value_per_s=found.limit.value or 0.0,
                stopped_by=found.limit.stopped_by,
                trials=len(found.trials),
                took_s=round(took, 1),
                sentence=found.sentence,
            )
            if number == arguments.searches // 2:
                started = time.monotonic()
                value = sweep(target, begin)
                row = {"stopped_by": "", "trials": 0, "sentence": ""}
                record.add(
                    number=number, kind="sweep", value_per_s=value, took_s=round(time.monotonic() - started, 1), **row
                )
    searches, sweeps = record.values("value_per_s", kind="search"), record.values("value_per_s", kind="sweep")
    middle = sum(sweeps) / len(sweeps)
    record.finish(
        [
            f"- searches: {spread(searches, 0)}/s; greatest / least {max(searches) / min(searches):.3f}",
            f"- plain sweeps: {spread(sweeps, 0)}/s",
            f"- each search / mean sweep: {spread([value / middle for value in searches])}",
            f"- time of a search: {spread(record.values('took_s', kind='search'), 1)} s",
        ]
    )


if __name__ == "__main__":
    main()
