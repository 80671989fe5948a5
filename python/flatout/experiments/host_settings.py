"""Settings of this host for an experiment: set by `host apply` with a journal in its folder, undone at the end.

After a crash the journal is still there: the next run of the experiment undoes it first, and so does
`flatout host undo --journal FOLDER/host.json`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from flatout import arguments
from flatout.errors import UsageError
from flatout.experiments.conditions import transport_of
from flatout.experiments.folder import HOST_JOURNAL
from flatout.experiments.points import Plan
from flatout.host.tuning import apply as tuning
from flatout.host.tuning.aim import Aim
from flatout.host.tuning.check import check
from flatout.host.tuning.script import script
from flatout.host.tuning.system import System

Say = Callable[[str], object]


def aims(plan: Plan) -> list[Aim]:
    """What this host is to be good at. Errors: UsageError."""
    asked = plan.experiment.host
    if asked is None:
        return []
    scenarios = [point.scenario for point in plan.points]
    rate = max(scenario.peak_per_s for scenario in scenarios) if asked.rate is None else asked.rate
    most = max(scenario.askers for scenario in scenarios) if asked.connections is None else asked.connections
    ports = sorted({port for point in plan.points if (port := point.server.port) is not None})
    try:
        per_s = arguments.rate("rate", rate)
    except UsageError as error:
        raise plan.source.refuse(("host", "rate"), str(error)) from error
    return [
        Aim(
            role=role,
            transport=transport,
            connections=most,
            rate_per_s=per_s,
            ports=ports,
            interface=asked.interface,
        )
        for role in asked.roles
        for transport in dict.fromkeys(transport_of(scenario) for scenario in scenarios)
    ]


def scripts(plan: Plan) -> list[str]:
    """What would be set, as `host apply --dry-run` prints it."""
    return [script(check(aim, System()), System()) for aim in aims(plan)]


def undo_left(folder: Path, say: Say) -> None:
    """Undoes what a crash has left set."""
    if (folder / HOST_JOURNAL).exists():
        say("the last run of this experiment left the host's settings changed: undone first")
        _undo(folder, say)


@contextlib.contextmanager
def applied(plan: Plan, folder: Path, say: Say) -> Iterator[None]:
    """Settings that hold while the block runs. Errors: UsageError, with nothing changed."""
    wanted = aims(plan)
    try:
        for aim in wanted:
            for change in tuning.apply(aim, System(), folder / HOST_JOURNAL):
                if change.failed:
                    say(f"the host's {change.name} stays {change.after}: {change.failed}")
        yield
    finally:
        if wanted:
            _undo(folder, say)


def _undo(folder: Path, say: Say) -> None:
    """Undoes all; what cannot be undone is said, and stays in the journal."""
    at = folder / HOST_JOURNAL
    if not at.exists():
        return
    try:
        for one in tuning.undo(System(), at):
            if one.how in ("left", "failed"):
                say(f"the host's {one.name} was not restored to {one.before}: {one.reason}")
    except UsageError as error:
        say(str(error))
