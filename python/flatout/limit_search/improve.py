"""Raises a limit step by step: changes one setting that the findings name, searches again, keeps it if the limit rose.

Method: what is changed is in a journal before it is changed; a step that did not help is undone before the next one,
and all others at the end, unless they are to be kept; after an exception, whose report is lost, all of them. A limit
rose if it lies above the whole 90 % interval of the one before, by 2 % at least, and if without the change its load
fails again: so a machine that has become quieter meanwhile is no gain.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Protocol

import msgspec

from flatout.errors import FlatoutError, Interrupted
from flatout.host.tuning.remedies import Remedy
from flatout.result.finding import Improvement
from flatout.result.model import LimitResult

ROUNDS = 3
_RISES = 1.02

# The search after a change; what it is compared with is the result before.
Again = Callable[[Remedy, LimitResult], LimitResult]
# Whether the target holds a load as things are now; None where trials were disturbed.
Holds = Callable[[float], bool | None]


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
    first: LimitResult,
    settings: Settings,
    search: Again,
    *,
    keep: bool,
    holds: Holds | None = None,
    rounds: int = ROUNDS,
) -> LimitResult:
    """The search with what was tried after it. Nothing stays changed without `keep`; see the module.

    Without `holds` a new limit is not checked without the change.
    """
    found: list[Improvement] = []
    kept: list[str] = []
    try:
        for one in _tried(first, settings, search, holds, rounds):
            found.append(one)
        kept = [key for one in found if keep and one.kept for key in one.keys]
    finally:
        failed = settings.undo(kept)
    done = [_left(one, settings) if keep and one.kept else _undone(one, failed) for one in found]
    return msgspec.structs.replace(first, improvements=done)


def _tried(
    first: LimitResult, settings: Settings, search: Again, holds: Holds | None, rounds: int
) -> Iterator[Improvement]:
    current, seen, kept = first, set[str](), list[str]()
    for _ in range(rounds):
        step = None
        for one in settings.steps(current):
            if (one.name or one.finding) in seen:
                continue
            seen.add(one.name or one.finding)
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
            after = search(step, current)
        except Exception as error:  # what was measured before it is kept
            yield msgspec.structs.replace(_described(step), limit_before=current.limit.value, why=_because(error))
            return
        judged = _judged(step, current, after)
        if judged.kept and holds is not None:
            judged = _in_turn(judged, step, settings, kept, holds)
        yield judged
        if judged.interrupted:
            return
        if judged.kept:
            current = after
            kept += judged.keys
        elif settings.undo(kept):
            # With a setting that cannot be restored, what comes after it would say nothing. The end tries again.
            return


def _in_turn(judged: Improvement, step: Remedy, settings: Settings, kept: Collection[str], holds: Holds) -> Improvement:
    """The new limit once more without the change: what holds there too is no gain of it. Then with it again."""
    interrupted, load = False, judged.limit_after or 0.0
    if left := settings.undo(kept):
        return msgspec.structs.replace(judged, kept=False, why="; ".join(left))
    try:
        held = holds(load)
        why = f"{load:,.0f} holds without it too: the limit rose for another reason" if held else settings.change(step)
    except (Interrupted, KeyboardInterrupt):
        interrupted, why = True, "the check without it was interrupted"
    except Exception as error:  # what was measured before it is kept
        why = f"the check without it failed: {_because(error)}"
    if why:
        return msgspec.structs.replace(judged, kept=False, interrupted=interrupted, why=why)
    sure = "without it that load failed" if held is False else "not checked without it, for trials were disturbed"
    return msgspec.structs.replace(judged, why=f"{judged.why}: {sure}")


def _because(error: Exception) -> str:
    """The words of an error of flatout's; any other is named too."""
    return str(error) if isinstance(error, FlatoutError) else f"{type(error).__name__}: {error}"


def _described(step: Remedy) -> Improvement:
    # What goes with it is named.
    beside = [f" ({one.name})" if one.name != step.name else "" for one in step.settings]
    values = [(f"{one.now}{name}", f"{one.wanted}{name}") for one, name in zip(step.settings, beside, strict=True)]
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
