"""Metrics and spans of a run or a search for OpenTelemetry, over OTLP/HTTP (opentelemetry.io/docs/specs/otlp).

Method: the values that Prometheus would read, cumulative, under OpenTelemetry's names, each few seconds and at the end;
one span for the whole and one for each trial, at the end. A collector that is away delays the end by seconds at most.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import export as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from flatout.result.model import Trial
from flatout.runner.progress import RunProgress, SearchProgress
from flatout.view.metrics import Family, RunMetrics

# Stands for what OTEL_EXPORTER_OTLP_ENDPOINT and its like say.
ENVIRONMENT = "env"
_EVERY_S, _PATIENCE_S = 5.0, 3.0
_PREFIX = "OTEL_EXPORTER_OTLP"
_REASON = re.compile(r"\[Errno \d+\] ([\w ]+)|(code: \d+.*)|(timed out)")


class Names(NamedTuple):
    """What OpenTelemetry calls a metric, and its unit (UCUM)."""

    name: str
    unit: str


def names(family: Family) -> Names:
    """The names from which a collector makes those of Prometheus again."""
    stem = family.name.removesuffix("_total").removesuffix("_seconds").removesuffix("_per_second")
    unit = ""
    if family.kind == "counter":
        unit = "{request}"
    elif family.name.endswith("_per_second"):
        unit = "{request}/s"
    elif family.name.endswith("_seconds"):
        unit = "s"
    elif family.name.endswith("_connections"):
        unit = "{connection}"
    return Names(stem.replace("_", "."), unit)


def endpoints(where: str, environment: Mapping[str, str]) -> tuple[str | None, str | None] | None:
    """Where metrics and traces go; None for each that the SDK finds in the environment, no pair where nothing says.

    An empty text for traces: none are sent.
    """
    if where != ENVIRONMENT:
        return f"{where.rstrip('/')}/v1/metrics", f"{where.rstrip('/')}/v1/traces"
    both = environment.get(f"{_PREFIX}_ENDPOINT")
    if not both and not environment.get(f"{_PREFIX}_METRICS_ENDPOINT"):
        return None
    return None, None if both or environment.get(f"{_PREFIX}_TRACES_ENDPOINT") else ""


class Export:
    """Takes progress, and exports while it is open as a context manager.

    `where`: the address of a collector, or ENVIRONMENT. `say`: takes a line for people where exports failed.
    """

    def __init__(
        self, where: str, metrics: RunMetrics, version: str, say: Callable[[str], object], every_s: float | None = None
    ) -> None:
        found = endpoints(where, os.environ)
        assert found is not None, "checked before"
        self._metrics, self._say, self._where = metrics, say, where
        self._every_s = _interval_s() if every_s is None else every_s
        self._scope, self._resource = InstrumentationScope("flatout", version), _resource(version)
        self._values = OTLPMetricExporter(endpoint=found[0], timeout=_patience_s("METRICS"))
        traced = found[1] != "" and os.environ.get("OTEL_TRACES_EXPORTER") != "none"
        self._spans = OTLPSpanExporter(endpoint=found[1], timeout=_patience_s("TRACES")) if traced else None
        self._trials: list[tuple[Trial, float, int]] = []
        self._is_search, self._began_ns = False, time.time_ns()
        self._exports, self._failures, self._failed_last = 0, 0, False
        self._log = _LastWords()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="flatout-otlp", daemon=True)

    def __call__(self, progress: RunProgress | SearchProgress) -> None:
        """Takes one event of a run or of a search."""
        if isinstance(progress, SearchProgress):
            self._is_search = True
            if progress.finished is not None:
                self._trials.append((progress.finished, progress.load, time.time_ns()))

    def __enter__(self) -> Self:
        """Begins to export."""
        logging.getLogger("opentelemetry").addHandler(self._log)
        logging.getLogger("opentelemetry").propagate = False
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Exports once more, with the spans; says what failed."""
        self._over.set()
        self._thread.join()
        # One that has just failed is not waited for again.
        if not self._failed_last:
            self._export_values()
        if not self._failed_last and self._spans is not None:
            spans, exporter = self._all_spans(), self._spans
            self._sent(lambda: exporter.export(spans) is SpanExportResult.SUCCESS)
        logging.getLogger("opentelemetry").removeHandler(self._log)
        if self._failures:
            where = "the endpoint of the environment" if self._where == ENVIRONMENT else self._where
            share = f"{self._failures} of {self._exports} exports to {where} failed"
            self._say(f"flatout: --otlp: {share}: {self._log.reason or 'no reason is known'}")

    def _go_on(self) -> None:
        while not self._over.wait(self._every_s):
            self._export_values()

    def _export_values(self) -> None:
        metrics = [self._metric(family) for family in self._metrics.families()]
        scopes = [sdk.ScopeMetrics(self._scope, metrics, "")]
        data = sdk.MetricsData([sdk.ResourceMetrics(self._resource, scopes, "")])
        self._sent(lambda: self._values.export(data) is sdk.MetricExportResult.SUCCESS)

    def _sent(self, send: Callable[[], bool]) -> None:
        """Makes one export and counts it; whatever goes wrong with it is nothing of the run's."""
        try:
            succeeded = send()
        except Exception as error:
            succeeded = False
            self._log.reason = str(error)
        self._exports += 1
        self._failures += not succeeded
        self._failed_last = not succeeded

    def _metric(self, family: Family) -> sdk.Metric:
        now, name = time.time_ns(), names(family)
        points = [sdk.NumberDataPoint(labels, self._began_ns, now, value) for labels, value in family.samples]
        data: sdk.Sum | sdk.Gauge = sdk.Gauge(points)
        if family.kind == "counter":
            data = sdk.Sum(points, sdk.AggregationTemporality.CUMULATIVE, is_monotonic=True)
        return sdk.Metric(name.name, family.text, name.unit, data)

    def _all_spans(self) -> Sequence[Any]:
        """The whole as a span, within the one that TRACEPARENT names, and each trial within it."""
        kept = InMemorySpanExporter()
        provider = TracerProvider(resource=self._resource)
        provider.add_span_processor(SimpleSpanProcessor(kept))
        tracer = provider.get_tracer("flatout", self._scope.version)
        carrier = {"traceparent": os.environ.get("TRACEPARENT", "")}
        outside = TraceContextTextMapPropagator().extract(carrier)
        verb = "limit" if self._is_search else "load"
        whole = tracer.start_span(
            f"flatout {verb}", outside, attributes=self._metrics.labels, start_time=self._began_ns
        )
        inside = trace.set_span_in_context(whole)
        for trial, load, ended_ns in self._trials:
            began_ns = ended_ns - round(trial.duration_s * 1e9)
            attributes: dict[str, Any] = {"load": load, "phase": trial.phase, "verdict": trial.verdict}
            if trial.loss is not None:
                attributes["loss"] = trial.loss
            tracer.start_span("trial", inside, attributes=attributes, start_time=began_ns).end(ended_ns)
        whole.end()
        return kept.get_finished_spans()


class _LastWords(logging.Handler):
    """Keeps why an export failed, instead of the SDK's lines on the screen."""

    reason = ""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        found = _REASON.search(text)
        if found is not None:
            self.reason = next(filter(None, found.groups()))
        elif not self.reason:
            self.reason = text[:200]


def _resource(version: str) -> Resource:
    """What sends: as the environment says, else flatout on this host."""
    given = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    attributes = {"service.version": version}
    if "OTEL_SERVICE_NAME" not in os.environ and "service.name=" not in given:
        attributes["service.name"] = "flatout"
    if "service.instance.id=" not in given:
        attributes["service.instance.id"] = f"{socket.gethostname()}:{os.getpid()}"
    return Resource.create(attributes)


def _interval_s() -> float:
    """Errors are those of a variable that the specification has in ms: it is then left out."""
    given = os.environ.get("OTEL_METRIC_EXPORT_INTERVAL", "")
    return max(int(given) / 1e3, 0.1) if given.isdigit() else _EVERY_S


def _patience_s(signal: str) -> float | None:
    """How long an export may take; None: as the environment says."""
    asked = any(os.environ.get(name) for name in (f"{_PREFIX}_TIMEOUT", f"{_PREFIX}_{signal}_TIMEOUT"))
    return None if asked else _PATIENCE_S
