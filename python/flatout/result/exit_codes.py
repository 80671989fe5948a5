"""The exit code that a result has, by the contract, and one code for several. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from flatout.errors import FlatoutError, GeneratorError, Interrupted, TargetError, UsageError
from flatout.result.model import LimitResult, LoadResult, Result

DONE, UNMET = 0, FlatoutError.exit_code
BAD_USE, TARGET, GENERATOR = UsageError.exit_code, TargetError.exit_code, GeneratorError.exit_code
INTERRUPTED = Interrupted.exit_code
# Where several hold the first of these is the command's code.
_PRECEDENCE = (BAD_USE, INTERRUPTED, TARGET, GENERATOR, UNMET)


def worst(codes: Iterable[int]) -> int:
    """One code for several, by the contract's precedence."""
    given = set(codes)
    return next((code for code in _PRECEDENCE if code in given), DONE)


def exit_code(result: Result) -> int:
    """A result's exit code, by the contract."""
    return _limit_code(result) if isinstance(result, LimitResult) else _load_code(result)


def _load_code(result: LoadResult) -> int:
    codes = {"ok": DONE, "generator-limited": GENERATOR, "target-lost": TARGET, "interrupted": INTERRUPTED}
    unmet = any(not requirement.met for requirement in result.requirements)
    return worst([codes[result.verdict], UNMET if unmet or result.warnings else DONE])


def _limit_code(result: LimitResult) -> int:
    # A value that no long run confirmed, or that lost more than the goal over all, is no limit.
    held = DONE if result.limit.value and result.limit.holds else UNMET
    codes = {
        "found": held,
        "max": held,
        "min": UNMET,
        "budget": held,
        "generator": GENERATOR,
        "target": TARGET,
        "interrupted": INTERRUPTED,
    }
    later = INTERRUPTED if any(one.interrupted for one in result.improvements) else DONE
    return worst([codes[result.limit.stopped_by], later])
