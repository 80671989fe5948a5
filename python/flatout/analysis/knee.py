"""The knee of a search: which resource saturated first as the load rose. Pure: trials in, one `Knee` out.

Trials are put in the order of their load, and trials of one load are joined by the median. The onset of a resource is
where a step from free to saturated fits its course best, so that one disturbed trial makes no knee.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from flatout.analysis.measures import MEASURES, Measure
from flatout.result.finding import Confidence
from flatout.result.knee import CpuPoint, Knee, KneePoint
from flatout.result.model import LimitResult, Trial

# Loads nearer than this are one: a search narrows in on its limit by such steps, and chance decides between them.
_SAME_LOAD = 1.1
_STEADY, _IDLE = 0.75, 0.8
# What more came back of what more was asked: below it the rate is flat.
_FLAT = 0.1
_PROPORTIONAL = 1.5
_OF_CONNECTIONS = ("ephemeral ports", "SYN queue", "accept queue")
_MEMORY_FULL = ("receive buffer", "accept queue")


class _Onset(NamedTuple):
    """Where one measure saturated: the index of its first saturated point."""

    measure: Measure
    course: list[KneePoint]
    at: int

    @property
    def load(self) -> float:
        return self.course[self.at].load

    @property
    def times(self) -> int:
        """At how many loads it was saturated from there on."""
        return sum(point.saturated for point in self.course[self.at :])


def knee(result: LimitResult) -> Knee | None:
    """The first resource to saturate; None where fewer than two loads were tried, which are no ramp."""
    steps = by_load(result.trials)
    if len(steps) < 2:
        return None
    courses = [(measure, _course(measure, steps)) for measure in MEASURES]
    streams = any(trial.connections for trial in result.trials)
    unknown: list[str] = [
        measure.resource
        for measure, course in courses
        if not course and (streams or measure.resource not in _OF_CONNECTIONS)
    ]
    onsets = [found for measure, course in courses if course and (found := _onset(measure, course)) is not None]
    cpu = _cpu(steps)
    found = _first(onsets)
    named = _named(found, steps, result) if found else _none(steps, cpu, result, unknown)
    return _with_cpu(named, cpu, unknown)


def by_load(trials: Sequence[Trial]) -> list[tuple[float, list[Trial]]]:
    """The trials of each load, in ascending order."""
    loads: dict[float, list[Trial]] = {}
    for trial in trials:
        loads.setdefault(trial.load, []).append(trial)
    return sorted(loads.items())


def _course(measure: Measure, steps: Sequence[tuple[float, list[Trial]]]) -> list[KneePoint]:
    """The median of each load at which it was measured."""
    course = []
    for load, trials in steps:
        known = [level for trial in trials if (level := measure.level(trial)) is not None]
        if known:
            level = statistics.median(known)
            course.append(KneePoint(load=load, level=level, saturated=level >= measure.saturated_from))
    return course


def _onset(measure: Measure, course: list[KneePoint]) -> _Onset | None:
    """The step that fits best: fewest points saturated before it and free after it; of equals the highest."""
    saturated = [point.saturated for point in course]
    starts = [at for at, is_full in enumerate(saturated) if is_full]
    if not starts:
        return None
    wrong = {at: sum(saturated[:at]) + saturated[at:].count(False) for at in starts}
    at = min(starts, key=lambda start: (wrong[start], -start))
    after = saturated[at:]
    # A resource that is free again at the highest loads is not what holds them.
    steady = sum(after) >= _STEADY * len(after) and saturated[-1]
    return _Onset(measure, course, at) if steady else None


def _first(onsets: Sequence[_Onset]) -> _Onset | None:
    """The lowest onset; among those at nearly the same load the one that the others follow from."""
    if not onsets:
        return None
    lowest = min(onset.load for onset in onsets)
    return next(onset for onset in onsets if onset.load <= lowest * _SAME_LOAD)


def _named(found: _Onset, steps: Sequence[tuple[float, list[Trial]]], result: LimitResult) -> Knee:
    measure, course = found.measure, found.course
    what = measure.what(result.trials[-1])
    if measure.resource in _MEMORY_FULL and (idle := _idle(found.load, steps)) is not None:
        return _serialised(found, idle, result)
    said = _growth(found, result)
    points = course[found.at :]
    return Knee(
        resource=measure.resource,
        load=found.load,
        measure=what,
        sentence=f"{what[:1].upper()}{what[1:]}: {said}.",
        evidence=[f"saturated from {_share(measure.saturated_from)} on; at {found.times} of {len(points)} loads above"],
        confidence=_confidence(found),
        course=course,
    )


def _confidence(found: _Onset) -> Confidence:
    """How sure: it was free below, and full at several loads without exception."""
    above = len(found.course) - found.at
    if found.at == 0 or above < 2:
        return "low" if found.at == 0 else "medium"
    return "high" if found.times == above else "medium"


def _growth(found: _Onset, result: LimitResult) -> str:
    """The level well below the onset, and at it."""
    at = found.course[found.at]
    below = [point for point in found.course[: found.at] if not point.saturated]
    if not below:
        return f"{_share(at.level)} already at {_load(at.load, result)}, the lowest load tried"
    # Half of the onset's load, or the nearest to that, shows how it grew.
    before = min(below, key=lambda point: abs(point.load - at.load / 2))
    return f"{_share(before.level)} at {_load(before.load, result)}, {_share(at.level)} at {_load(at.load, result)}"


def _idle(load: float, steps: Sequence[tuple[float, list[Trial]]]) -> float | None:
    """The busiest thread's share at and above a load, where it is known, idle, and the rate is flat there; else None.

    One load alone shows no course: then what came back must be less than what was asked.
    """
    above = [(each, trials) for each, trials in steps if each >= load]
    shares = [s for _, trials in above for trial in trials if (s := _busiest(trial)) is not None]
    if not shares or max(shares) >= _IDLE or not _flat(above):
        return None
    return statistics.median(shares)


def _busiest(trial: Trial) -> float | None:
    return next(measure for measure in MEASURES if measure.resource == "single thread").level(trial)


def _flat(above: Sequence[tuple[float, list[Trial]]]) -> bool:
    """Whether hardly more came back from the first of these loads to the last."""
    rates = [(load, rate) for load, trials in above if (rate := _good(trials)) is not None]
    if len(rates) < 2 or rates[-1][0] < _SAME_LOAD * rates[0][0]:
        return False
    more_asked = rates[-1][0] / rates[0][0] - 1
    more_came = rates[-1][1] / rates[0][1] - 1 if rates[0][1] > 0 else 0.0
    return more_came < _FLAT * more_asked


def _good(trials: Sequence[Trial]) -> float | None:
    known = [rate for trial in trials if (rate := trial.good_per_s) is not None and trial.verdict != "invalid"]
    return statistics.median(known) if known else None


def _serialised(found: _Onset, idle: float, result: LimitResult) -> Knee:
    what = found.measure.what(result.trials[-1])
    return Knee(
        resource="application",
        load=found.load,
        measure=what,
        sentence=f"The rate is flat from {_load(found.load, result)} on, and the target's busiest thread used only "
        f"{_share(idle)} of a CPU: requests wait for one another in the application.",
        evidence=[f"{what}: {_growth(found, result)}", f"busiest thread {_share(idle)} of a CPU (schedstat)"],
        confidence="medium",
        course=found.course,
    )


def _none(
    steps: Sequence[tuple[float, list[Trial]]], cpu: Sequence[CpuPoint], result: LimitResult, unknown: Sequence[str]
) -> Knee:
    """Nothing saturated: the rate is flat with CPU idle, or it grew to the end, or nobody knows."""
    top = steps[-1][0]
    failed = list(itertools.takewhile(_failed, reversed(steps)))
    start = failed[-1][0] if failed else top
    if cpu and (idle := _idle(start, steps)) is not None:
        return Knee(
            resource="application",
            load=start,
            measure="",
            sentence=f"The rate is flat from {_load(start, result)} on, and the target's busiest thread used "
            f"only {_share(idle)} of a CPU: requests wait for one another in the application.",
            evidence=[f"busiest thread {_share(idle)} of a CPU (schedstat)"],
            confidence="medium",
        )
    why = f"; not known: {', '.join(unknown)}" if unknown else ""
    return Knee(resource=None, sentence=f"No measured resource saturated up to {_load(top, result)}{why}.")


def _failed(step: tuple[float, list[Trial]]) -> bool:
    """Whether more trials of a load failed than held."""
    verdicts = [trial.verdict for trial in step[1]]
    return verdicts.count("failed") > verdicts.count("held")


def _cpu(steps: Sequence[tuple[float, list[Trial]]]) -> list[CpuPoint]:
    """The target's CPU time against what came back, at each load at which both are known."""
    found = []
    for load, trials in steps:
        seconds = [
            trial.contention.target.cpu_s / trial.contention.elapsed_s
            for trial in trials
            if trial.contention and trial.contention.target and trial.contention.elapsed_s > 0
        ]
        good = _good(trials)
        if seconds and good:
            found.append(CpuPoint(load=load, good_per_s=good, cpu_s_per_s=statistics.median(seconds)))
    return found


def _with_cpu(named: Knee, cpu: list[CpuPoint], unknown: list[str]) -> Knee:
    return Knee(
        resource=named.resource,
        sentence=named.sentence,
        load=named.load,
        measure=named.measure,
        evidence=named.evidence,
        confidence=named.confidence,
        course=named.course,
        cpu=cpu,
        cpu_sentence=_per_request(cpu),
        unknown=unknown,
    )


def _per_request(cpu: Sequence[CpuPoint]) -> str:
    """What one request costs at the lowest and at the highest load, where these differ by half or more."""
    if len(cpu) < 2:
        return ""
    low, high = cpu[0], cpu[-1]
    costs = [1e6 * point.cpu_s_per_s / point.good_per_s for point in (low, high)]
    if min(costs) <= 0 or max(costs) < _PROPORTIONAL * min(costs):
        return ""
    return (
        f"The target's CPU does not grow with the rate: {costs[0]:.3g} µs each at {low.good_per_s:,.0f}/s, "
        f"{costs[1]:.3g} µs at {high.good_per_s:,.0f}/s"
    )


def _share(level: float) -> str:
    return f"{100 * level:.0f} %" if level >= 0.095 else f"{100 * level:.2g} %"


def _load(load: float, result: LimitResult) -> str:
    number = f"{load / 1e6:.3g} M" if load >= 999_500 else f"{load / 1e3:.3g} k" if load >= 1_000 else f"{load:.0f}"
    if result.limit.axis == "connections":
        return f"{number} connections"
    return f"{number}/s"
