"""`--fleet`: the load comes from all hosts of a Dask cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Group, Parameter

from flatout.api import RunTrial

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

    @contextlib.contextmanager
    def connected(self) -> Iterator[RunTrial | None]:
        """What runs a scenario over the fleet; None: here. Errors: UsageError, TargetError, FlatoutError."""
        if self.fleet is None:
            yield None
            return
        # Late: it takes half a second.
        from flatout.fleet.cluster import connected
        from flatout.fleet.drive import FleetRun

        with connected(self.fleet) as fleet:
            yield FleetRun(fleet)
