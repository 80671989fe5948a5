"""From the runs of an experiment to its result: the spread of each point, and ratios between points. Pure."""

from __future__ import annotations

from pathlib import Path

from flatout.experiments.folder import Folder
from flatout.experiments.points import Plan, Point
from flatout.result import files
from flatout.result.experiment import ExperimentPoint, ExperimentResult, ExperimentRun, ratios, spread
from flatout.result.model import Result


def result_of(plan: Plan, folder: Folder) -> ExperimentResult:
    """The result of an experiment so far."""
    known = {point.number for point in plan.points}
    runs = [run for run in folder.runs() if run.point in known and run.repetition <= plan.experiment.repetitions]
    points = [_point(point, [run for run in runs if run.point == point.number], plan) for point in plan.points]
    identity = folder.identity
    return ExperimentResult(
        name=plan.experiment.name,
        id=identity.id,
        mode=plan.experiment.mode,
        protocol=plan.experiment.protocol,
        host=identity.host,
        started_at=identity.started_at,
        folder=str(folder.path),
        complete=len(runs) == plan.runs,
        points=points,
        runs=runs,
        ratios=ratios(points, runs, plan.compared),
    )


def typical(result: ExperimentResult) -> list[tuple[str, Result]]:
    """For each point the run nearest to its median, with the point's label: for a report of all points."""
    found = []
    for point in result.points:
        valid = [run for run in result.runs if run.point == point.number and run.result is not None]
        middle = point.value.median if point.value else 0.0
        nearest = min(valid, key=lambda run: (not run.valid, abs((run.value or 0.0) - middle)), default=None)
        if nearest is not None and nearest.result is not None:
            found.append((point.label, files.read(Path(result.folder) / nearest.folder / nearest.result)))
    return found


def _point(point: Point, runs: list[ExperimentRun], plan: Plan) -> ExperimentPoint:
    valid = [run for run in runs if run.valid]
    return ExperimentPoint(
        number=point.number,
        label=point.label,
        settings=point.settings,
        sizes=point.sizes,
        runs=plan.experiment.repetitions,
        done=sum(run.status == "done" for run in runs),
        failed=sum(run.status == "failed" for run in runs),
        valid=len(valid),
        unit=next((run.unit for run in runs if run.unit), ""),
        value=spread(run.value for run in valid),
        at_least=_at_least(runs, plan),
        loss=spread(run.loss for run in valid),
        p50_ns=spread(run.p50_ns for run in valid),
        p99_ns=spread(run.p99_ns for run in valid),
    )


def _at_least(runs: list[ExperimentRun], plan: Plan) -> float | None:
    """The most that held in searches that found no limit above it."""
    if plan.experiment.mode != "limit":
        return None
    held = [run.value for run in runs if not run.valid and run.value and run.verdict in ("budget", "generator")]
    return max(held, default=None)
