"""Which kept runs a text names, and both sides of a comparison with what else is known of their noise."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from flatout.errors import ArgumentError, UsageError
from flatout.store.compare import Comparison, compared
from flatout.store.differences import differences
from flatout.store.rows import StoredRun
from flatout.store.store import Store, Wanted

_NUMBERS = re.compile(r"[0-9]{1,18}(-[0-9]{1,18})?(,[0-9]{1,18}(-[0-9]{1,18})?)*")
# Older runs say less of the noise of today, and reading them takes time.
_EARLIER = 300
# A slip of the finger is not taken for a range.
_MOST_NUMBERS = 10_000


def numbers(text: str) -> list[int]:
    """Numbers of runs: `7`, `7,9` or `7-12`. Errors: UsageError."""
    if not _NUMBERS.fullmatch(text):
        raise UsageError(f"run '{text}': give a number, or several like 7,9 or 7-12")
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if int(last or first) - int(first) >= _MOST_NUMBERS:
            raise UsageError(f"run '{text}': at most {_MOST_NUMBERS:,} runs at once")
        found += range(int(first), int(last or first) + 1)
    return list(dict.fromkeys(found))


def numbers_given(text: str) -> bool:
    """Whether a text names runs by their numbers, and not by a label."""
    return _NUMBERS.fullmatch(text) is not None


def chosen(store: Store, text: str) -> tuple[str, list[StoredRun]]:
    """The runs of these numbers, or of this label, and what to call them. Errors: UsageError where there is none."""
    if numbers_given(text):
        return (f"run {text}" if text.isdigit() else f"runs {text}"), store.numbered(numbers(text))
    runs = store.runs(Wanted(label=text))
    if not runs:
        raise UsageError(f"no run has the label '{text}': see `flatout runs list`, or give numbers of runs")
    return text, runs


def compare(store: Store, a: str, b: str, tolerance: float = 0.05) -> Comparison:
    """Compares two runs, or two groups of runs, of a store.

    `a`, `b`: numbers of runs ("7", "7,9", "7-12") or a label; UsageError where there is no such run, where a side has
    runs of several kinds or units, and where both sides share a run.
    `tolerance`: by which share `b` may be worse, default 0.05; UsageError unless from 0 to below 1.
    """
    if not 0 <= tolerance < 1:
        raise ArgumentError("tolerance", f"={tolerance!r}: give a share from 0 to below 1, such as 5%")
    sides = chosen(store, a), chosen(store, b)
    _check_alike(*sides)
    earlier = [run for exchange, host in _asked(sides) for run in _alike(store, exchange, host)]
    found = compared(*sides, earlier, tolerance)
    firsts = [store.result(_typical(runs).id) for _, runs in sides]
    return msgspec.structs.replace(found, differences=differences(*firsts))


def _asked(sides: Sequence[tuple[str, Sequence[StoredRun]]]) -> list[tuple[str, str]]:
    return sorted({(run.exchange, run.hostname) for _, runs in sides for run in runs})


def _alike(store: Store, exchange: str, host: str) -> list[StoredRun]:
    return store.runs(Wanted(exchange=exchange, hostname=host), _EARLIER)


def _typical(runs: Sequence[StoredRun]) -> StoredRun:
    """A valid one, if there is one."""
    return next((run for run in runs if run.valid), runs[0])


def _check_alike(a: tuple[str, Sequence[StoredRun]], b: tuple[str, Sequence[StoredRun]]) -> None:
    kinds = {(run.kind, run.unit) for _, runs in (a, b) for run in runs}
    if len(kinds) > 1:
        words = " and ".join(sorted(f"{kind} in {unit}" for kind, unit in kinds))
        raise UsageError(f"only runs of one kind can be compared, and these are of {words}")
    if shared := {run.id for run in a[1]} & {run.id for run in b[1]}:
        raise UsageError(f"run {min(shared)} is on both sides of the comparison")
