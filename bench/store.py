"""What lists and comparisons of 100,000 kept runs take, over SQLite. Times the operations, without Python's start.

Usage: python bench/store.py RESULT.json [--runs 100k] [--rounds 7] --out DIR
"""

from __future__ import annotations

import argparse
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sql

from flatout import units
from flatout.result.files import read, to_json
from flatout.store.choose import compare
from flatout.store.rows import row_of
from flatout.store.store import Store, Wanted
from flatout.store.tables import RESULTS, RUNS
from record import Record, spread

_BATCH = 1000


def fill(url: str, path: str, runs: int) -> None:
    """So many copies of one result, under a label for each ten, values some percent apart."""
    result = read(path)
    Store(url).close()
    row, data = row_of(result), zlib.compress(to_json(result), 6)
    engine = sql.create_engine(url)
    for first in range(0, runs, _BATCH):
        with engine.begin() as connection:
            numbers = range(first + 1, min(first + _BATCH, runs) + 1)
            rows = [row | {"id": n, "label": f"l{n // 10}", "value": 1e5 + n * 7919 % 1000} for n in numbers]
            connection.execute(RUNS.insert(), rows)
            connection.execute(RESULTS.insert(), [{"run": n, "result": data} for n in numbers])


def taken_ms(what: Callable[[], Any]) -> float:
    """How long one call takes."""
    begun = time.perf_counter()
    what()
    return (time.perf_counter() - begun) * 1e3


def main() -> None:
    """Fills a store, then times in turn; each operation opens the store anew, as a command does."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("result")
    asked.add_argument("--runs", type=units.count, default=100_000)
    asked.add_argument("--rounds", type=int, default=7)
    asked.add_argument("--out", type=Path, required=True)
    given = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/runs.db"
        fill(url, given.result, given.runs)
        middle = f"l{given.runs // 20}"

        def opened(do: Callable[[Store], Any]) -> Callable[[], Any]:
            def call() -> None:
                with Store(url) as store:
                    do(store)

            return call

        kinds = {
            "list the last 20": opened(lambda store: store.runs(last=20)),
            "list one label": opened(lambda store: store.runs(Wanted(label=middle))),
            "list one protocol's last 100": opened(lambda store: store.runs(Wanted(protocol="ntp"), 100)),
            "compare two labels": opened(lambda store: compare(store, middle, "l3")),
            "add one": opened(lambda store: store.add(read(given.result))),
        }
        record = Record(given.out, "store")
        for n in range(given.rounds):
            record.add(round=n, **{name: round(taken_ms(do), 2) for name, do in kinds.items()})
    record.finish(
        [
            f"{given.runs:,} kept runs in SQLite; ms an operation, with opening the store, without Python's start.",
            "",
            "| operation | ms: median (least to greatest) |",
            "| --- | --- |",
            *(f"| {name} | {spread(record.values(name), 1)} |" for name in kinds),
        ]
    )


if __name__ == "__main__":
    main()
