"""Raises a limit step by step: changes one setting that the findings name, searches again, keeps it if the limit rose.

Method: what is changed is in a journal before it is changed; a step that did not help is undone before the next one,
and all others at the end, unless they are to be kept; after an exception, whose report is lost, all of them.
A limit rose if it lies above the whole 90 %
interval of the one before, and by 2 % at least.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Protocol

import msgspec

from flatout.errors import FlatoutError
from flatout.host.tuning.remedies import Remedy
from flatout.result.finding import Improvement
from flatout.result.model import LimitResult

ROUNDS = 3
_RISES = 1.02


class Settings(Protocol):
    """What can be changed. `how_to_undo`: the command that restores what was kept."""

    how_to_undo: str

    def steps(self, result: LimitResult) -> list[Remedy]:
        """The steps that the findings of a search ask for, the first cause first."""
        ...

    def change(self, step: Remedy) -> str:
        """Changes the settings of a step, all or none; returns why not, or an empty text."""
        ...

    def undo(self, but: Collection[str] = ()) -> list[str]:
        """Restores all settings but these; returns what could not be restored, in words."""
        ...


def improved(
    first: LimitResult, settings: Settings, search: Callable[[], LimitResult], *, keep: bool, rounds: int = ROUNDS
) -> LimitResult:
    """The search with what was tried after it. Nothing stays changed without `keep`; see the module."""
    found: list[Improvement] = []
    kept: list[str] = []
    try:
        for one in _tried(first, settings, search, rounds):
            found.append(one)
        kept = [key for one in found if keep and one.kept for key in one.keys]
    finally:
        failed = settings.undo(kept)
    done = [_left(one, settings) if keep and one.kept else _undone(one, failed) for one in found]
    return msgspec.structs.replace(first, improvements=done)


def _tried(
    first: LimitResult, settings: Settings, search: Callable[[], LimitResult], rounds: int
) -> Iterator[Improvement]:
    current, seen, kept = first, set[str](), list[str]()
    for _ in range(rounds):
        step = None
        for one in settings.steps(current):
            if one.name in seen:
                continue
            seen.add(one.name)
            if not one.unmet:
                step = one
                break
            yield Improvement(finding=one.finding, setting=one.name, why=one.unmet)
        if step is None:
            return
        if why := settings.change(step):
            yield msgspec.structs.replace(_described(step), why=why)
            continue
        try:
            after = search()
        except FlatoutError as error:
            yield msgspec.structs.replace(_described(step), limit_before=current.limit.value, why=str(error))
            return
        judged = _judged(step, current, after)
        yield judged
        if judged.interrupted:
            return
        if judged.kept:
            current = after
            kept += judged.keys
        elif settings.undo(kept):
            # With a setting that cannot be restored, what comes after it would say nothing. The end tries again.
            return


def _described(step: Remedy) -> Improvement:
    values = [(one.now or "", one.wanted or "") for one in step.settings]
    return Improvement(
        finding=step.finding,
        setting=step.name,
        keys=[one.key for one in step.settings],
        before=", ".join(dict.fromkeys(now for now, _ in values)),
        tried=", ".join(dict.fromkeys(wanted for _, wanted in values)),
        risk=step.risk,
    )


def _judged(step: Remedy, before: LimitResult, after: LimitResult) -> Improvement:
    """Whether the limit rose."""
    was, now = before.limit.value, after.limit.value
    kept, why = False, ""
    interrupted = after.limit.stopped_by == "interrupted"
    if interrupted:
        why = "the search after it was interrupted"
    elif now is None:
        why = f"the search after it found no limit: {after.sentence}"
    else:
        # Where nothing held before, what failed is the bound.
        least = before.limit.upper or 0.0 if was is None else was * _RISES
        high = max(before.limit.interval[1] if before.limit.interval else 0.0, least)
        kept = now > high
        why = "the limit rose" if kept else "no gain above the uncertainty of the limit before"
    gain = now / was - 1 if was and now is not None else None
    return msgspec.structs.replace(
        _described(step), limit_before=was, limit_after=now, gain=gain, kept=kept, interrupted=interrupted, why=why
    )


def _left(one: Improvement, settings: Settings) -> Improvement:
    return msgspec.structs.replace(one, why=f"{one.why}, and it stays: `{settings.how_to_undo}` undoes it")


def _undone(one: Improvement, failed: list[str]) -> Improvement:
    """What could not be restored is said of each step: its words name the setting."""
    if not one.keys:
        return one
    return msgspec.structs.replace(one, undone=not failed, why="; ".join([one.why, *failed]))
