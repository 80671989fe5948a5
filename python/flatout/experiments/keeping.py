"""The runs of an experiment in the store of runs, each once, under the experiment's name and the point's label.

A run is in its folder first. Where a crash came before it was in the store, it gets there when the experiment goes on.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable

import msgspec

from flatout.errors import FlatoutError
from flatout.experiments.folder import Folder
from flatout.experiments.points import Plan
from flatout.result import files
from flatout.result.experiment import ExperimentRun
from flatout.result.model import Result
from flatout.store.location import store_url


class Keeping:
    """Puts runs into the store; a store that fails is said once, and costs nothing else."""

    def __init__(self, plan: Plan, folder: Folder, *, keep: bool, say: Callable[[str], object]) -> None:
        """`keep`: whether anything is kept in the store. Errors: UsageError for a store that makes no sense."""
        self._url = store_url() if keep else None
        self._labels = {point.number: f"{plan.experiment.name}/{point.label}" for point in plan.points}
        self._folder, self._say = folder, say

    def made_up(self) -> list[ExperimentRun]:
        """The runs that have ended; those that the store lacks are put there."""
        ended = self._folder.runs()
        for run in ended if self._url is not None else ():
            if run.result is not None and run.kept is None:
                self.kept(run, files.read(self._folder.path / run.folder / run.result))
        return ended

    def kept(self, run: ExperimentRun, result: Result | None) -> ExperimentRun:
        """The run with its number in the store, where it has one, in its folder as well."""
        if self._url is None or result is None:
            return run
        # Late: what keeps nothing need not load it.
        from flatout.store.store import Store, Wanted

        label = self._labels[run.point]
        moment = datetime.datetime.fromisoformat(result.started_at).timestamp()
        try:
            with Store(self._url) as store:
                there = [one.id for one in store.runs(Wanted(label=label, since=moment)) if one.started_at == moment]
                number = there[0] if there else store.add(result, label)
        except FlatoutError as error:
            self._say(f"the runs are not kept: {error}")
            self._url = None
            return run
        run = msgspec.structs.replace(run, kept=number)
        self._folder.write(run)
        return run
