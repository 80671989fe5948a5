"""`--prometheus ADDR` and `--otlp URL` of `load` and `limit`: counters of what runs, for who watches it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from flatout.cli import output as out
from flatout.cli.flags.shared import OUTPUT
from flatout.errors import UsageError
from flatout.host.describe import describe
from flatout.scenario.model import Scenario
from flatout.server import endpoints
from flatout.view.metrics import RunMetrics

if TYPE_CHECKING:
    from flatout.view.otlp import Export

Progress = Callable[[Any], None]


@dataclass
class Exposing:
    """Whether metrics are served, or sent, while it runs."""

    prometheus: Annotated[
        str | None,
        Parameter(group=OUTPUT, help="While it runs, serve metrics for Prometheus at this address: 127.0.0.1:9125."),
    ] = None
    otlp: Annotated[
        str | None,
        Parameter(
            group=OUTPUT,
            help="While it runs, send metrics, and at its end spans, to an OpenTelemetry collector over OTLP/HTTP: "
            "http://127.0.0.1:4318, or env for OTEL_EXPORTER_OTLP_ENDPOINT.",
        ),
    ] = None

    @contextlib.contextmanager
    def served(self, scenario: Scenario) -> Iterator[tuple[Progress, ...]]:
        """What takes the progress of a run or a search besides the screen. Errors: UsageError, GeneratorError."""
        if self.prometheus is None and self.otlp is None:
            yield ()
            return
        metrics = RunMetrics(scenario.protocol, scenario.target)
        takers: list[Progress] = [metrics]
        with contextlib.ExitStack() as stack:
            if self.otlp is not None:
                takers.append(stack.enter_context(_export(self.otlp, metrics)))
            if self.prometheus is not None:
                stack.enter_context(endpoints.page(self.prometheus, metrics.text))
            yield tuple(takers)


def _export(where: str, metrics: RunMetrics) -> Export:
    """Errors: UsageError where it is no address, or the extra is missing."""
    try:
        # Late, and an extra.
        from flatout.view import otlp
    except ModuleNotFoundError as error:
        raise UsageError("--otlp needs the extra: pip install 'flatout[otel]'") from error
    if where != otlp.ENVIRONMENT and not where.startswith(("http://", "https://")):
        raise UsageError(
            f"--otlp '{where}': give the address of a collector, such as http://127.0.0.1:4318, or env for that of "
            "OTEL_EXPORTER_OTLP_ENDPOINT"
        )
    if otlp.endpoints(where, os.environ) is None:
        raise UsageError("--otlp env: OTEL_EXPORTER_OTLP_ENDPOINT is not set")
    return otlp.Export(where, metrics, describe().flatout, out.say)


def to_all(*takers: Progress) -> Progress:
    """One callback for several."""

    def call(progress: Any) -> None:
        for take in takers:
            take(progress)

    return call
