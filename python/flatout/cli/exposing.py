"""`--prometheus ADDR` of `load` and `limit`: counters of what runs, for who watches it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Parameter

from flatout.cli.flags.shared import OUTPUT
from flatout.scenario.model import Scenario
from flatout.server import endpoints
from flatout.view.metrics import RunMetrics

Progress = Callable[[Any], None]


@dataclass
class Exposing:
    """Whether metrics are served while it runs."""

    prometheus: Annotated[
        str | None,
        Parameter(group=OUTPUT, help="While it runs, serve metrics for Prometheus at this address: 127.0.0.1:9125."),
    ] = None

    @contextlib.contextmanager
    def served(self, scenario: Scenario) -> Iterator[tuple[Progress, ...]]:
        """What takes the progress of a run or a search besides the screen. Errors: UsageError, GeneratorError."""
        if self.prometheus is None:
            yield ()
            return
        metrics = RunMetrics(scenario.protocol, scenario.target)
        with endpoints.page(self.prometheus, metrics.text):
            yield (metrics,)


def to_all(*takers: Progress) -> Progress:
    """One callback for several."""

    def call(progress: Any) -> None:
        for take in takers:
            take(progress)

    return call
