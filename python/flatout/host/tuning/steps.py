"""Changes settings step by step, with a journal of its own, and undoes them: for `limit --improve`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from flatout.errors import UsageError
from flatout.host.tuning import apply as tuning
from flatout.host.tuning import journal as journals
from flatout.host.tuning.knobs import At, Context, Knob, knob
from flatout.host.tuning.system import System
from flatout.result.model import LimitResult, Trial

_NAME = "flatout/improve.json"


def journal_path() -> Path:
    """Where the values before are kept: for root /var/lib, for others their own state folder."""
    if os.geteuid() == 0:
        return Path("/var/lib", _NAME)
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state", _NAME)


class Steps:
    """The settings of this host and of the target's sockets. Errors: UsageError where the journal cannot be used."""

    def __init__(self, targets: Sequence[At], at: Path | None = None, system: System | None = None) -> None:
        """`targets`: addresses and ports of the target; `at`: the journal's file."""
        self.at = at or journal_path()
        self.how_to_undo = f"flatout host undo --journal {shlex.quote(str(self.at))}"
        self._targets = targets
        self._system = system or System()
        with journals.locked(self.at, make=True):
            if journals.load(self.at) is not None:
                raise UsageError(
                    f"an earlier --improve kept its changes, or did not live to undo them: `{self.how_to_undo}` does, "
                    "and then this can begin"
                )

    def steps(self, result: LimitResult) -> list[Knob]:
        """The steps that the findings of a search ask for, the first cause first."""
        run = _run_of(result)
        if run is None:
            return []
        context = Context(run, self._targets, self._system)
        made = (knob(finding, context) for finding in result.findings)
        return [one for one in made if one is not None]

    def change(self, step: Knob) -> str:
        """Changes the settings of a step, all or none; returns why not, or an empty text."""
        try:
            changes = tuning.set_all(step.settings, self._system, self.at)
        except UsageError as error:
            return str(error)
        failed = [f"{one.name}: {one.failed}" for one in changes if one.failed]
        if failed:
            keys = {one.key for one in step.settings}
            failed += self._restore(lambda key: key in keys)
        return "; ".join(failed)

    def undo(self, but: Collection[str] = ()) -> list[str]:
        """Restores all settings but these; returns what could not be restored, in words."""
        return self._restore(lambda key: key not in but)

    def _restore(self, asked: Callable[[str], bool]) -> list[str]:
        try:
            journal = journals.load(self.at)
            if journal is None:
                return []
            only = [one.key for one in journal.entries if asked(one.key)]
            done = tuning.undo(self._system, self.at, only=only)
        except UsageError as error:
            return [str(error)]
        return [
            f"{one.name} could not be restored to {one.before}: {one.reason}; `{self.how_to_undo}`"
            for one in done
            if one.how in ("left", "failed")
        ]


def _run_of(result: LimitResult) -> Trial | None:
    """The trial whose findings are those of the search."""
    found = [trial for trial in result.trials if trial.findings and trial.findings == result.findings]
    return min(found, key=lambda trial: trial.load, default=None)
