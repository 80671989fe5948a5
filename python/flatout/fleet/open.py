"""Opens what drives a load: a fleet, or this host. Dask is imported only where a fleet is asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from flatout.runner.run import RunTrial


@contextlib.contextmanager
def driven_by(where: str | None) -> Iterator[RunTrial | None]:
    """What runs a scenario over the fleet behind `where`; None for None: this host.

    Errors: UsageError, TargetError, FlatoutError, as for `fleet.cluster.connected`.
    """
    if where is None:
        yield None
        return
    # Late: it takes half a second.
    from flatout.fleet.cluster import connected
    from flatout.fleet.drive import FleetRun

    with connected(where) as fleet:
        yield FleetRun(fleet)
