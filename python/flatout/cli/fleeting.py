"""`--fleet`: the load comes from all hosts of a Dask cluster."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Group, Parameter

from flatout.fleet.open import driven_by
from flatout.runner.run import RunTrial

FROM = Group("A fleet", sort_key=3)


@dataclass
class Fleeting:
    """Which hosts drive the load."""

    fleet: Annotated[
        str | None,
        Parameter(
            group=FROM,
            help="Drive the load from all hosts of a Dask cluster together: tcp://HOST:8786, a scheduler file, or "
            "local:N for N processes here. [this host]",
        ),
    ] = None

    def connected(self) -> AbstractContextManager[RunTrial | None]:
        """What runs a scenario over the fleet; None: here. Errors: UsageError, TargetError, FlatoutError."""
        return driven_by(self.fleet)
