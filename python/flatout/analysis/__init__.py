"""Findings: why a run lost requests or could not send them, by its ledger and its machine. Pure.

One file a cause in `causes/`; each looks at one result and says what it found, or nothing.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from flatout.analysis.causes import CAUSES
from flatout.analysis.hosts import of_hosts
from flatout.analysis.knee import knee
from flatout.result.finding import OF_GENERATOR, Finding
from flatout.result.model import LimitResult, LoadResult, Trial

__all__ = ["explained", "explained_limit", "findings"]

AnyRun = TypeVar("AnyRun", bound=LoadResult)
_CONFIDENCE = {"high": 0, "medium": 1, "low": 2}
# What is an effect where one of these causes accounts for it.
_EFFECTS = {
    "generator": {"other programs", "CPU quota"},
    "receive buffer": {"shared CPU", "CPU quota", "uneven workers", "single thread", "slow application", "CPU"},
    "shared CPU": {"CPU quota"},
}


def findings(run: LoadResult) -> list[Finding]:
    """What explains most comes first, a cause before its effect, then what is surest, then nearer to the generator."""
    found = [finding for find in CAUSES if (finding := find(run)) is not None]
    if run.nodes:
        found = [*of_hosts(run.nodes), *(finding for finding in found if finding.name not in OF_GENERATOR)]

    def weight(finding: Finding) -> tuple[int, bool, int]:
        reasons = _EFFECTS.get(finding.name, set())
        is_effect = any(each.name in reasons and each.explains >= finding.explains for each in found)
        return -finding.explains, is_effect, _CONFIDENCE[finding.confidence]

    return sorted(found, key=weight)


def explained(run: AnyRun) -> AnyRun:
    """The run with its findings. A trial is explained once it is judged: its verdict says whether it had trouble."""
    return msgspec.structs.replace(run, findings=findings(run))


def explained_limit(result: LimitResult) -> LimitResult:
    """The search with its knee, and the findings of the trial nearest above the limit that did not hold.

    Nearest, because there the first resource to run out does; far above, others follow.
    """
    result = msgspec.structs.replace(result, knee=knee(result))
    value = result.limit.value or 0.0
    verdict = "invalid" if result.limit.stopped_by == "generator" else "failed"
    above = [trial for trial in result.trials if trial.verdict == verdict and trial.load >= value and trial.findings]
    if not above or result.limit.stopped_by in ("max", "interrupted"):
        return result
    return msgspec.structs.replace(result, findings=min(above, key=_load).findings)


def _load(trial: Trial) -> float:
    return trial.load
