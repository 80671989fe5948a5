"""`--otlp`: a collector gets the numbers that Prometheus would read, and spans; without one the run goes on."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

import flatout
from conftest import Cli, free_tcp_port
from exposed import Everything
from flatout.view import otlp

ASKED = ("--rate", "500", "--for", "0.5s", "--warmup", "0", "--quiet")
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Collector:
    """Takes OTLP over HTTP on loopback, and keeps what came, decoded."""

    def __init__(self, code: int = 200) -> None:
        self.metrics: list[Any] = []
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.headers.append(dict(self.headers))
                if code == 200:
                    collector.take(self.path, body)
                self.send_response(code)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def take(self, path: str, body: bytes) -> None:
        if path == "/v1/metrics":
            for of_resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                self.resources.append(values(of_resource.resource.attributes))
                self.metrics.append({one.name: one for scope in of_resource.scope_metrics for one in scope.metrics})
        elif path == "/v1/traces":
            for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.spans += [span for scope in of_resource.scope_spans for span in scope.spans]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the environment's."""
    for name in ("ENDPOINT", "METRICS_ENDPOINT", "TRACES_ENDPOINT", "HEADERS", "TIMEOUT"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{name}", raising=False)


def test_a_load_is_exported(
    cli: Cli, ntp_server: flatout.Server, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "100")
    monkeypatch.setenv("TRACEPARENT", PARENT)
    ran = cli("load", "ntp", ntp_server.address, *ASKED, "--otlp", collector.url, "--json", "-")
    assert len(collector.metrics) > 1, "while it ran, too"
    last = collector.metrics[-1]
    (sent,) = last["flatout.load.sent"].sum.data_points
    assert sent.as_int == ran.json["outcomes"]["sent"]
    assert values(sent.attributes) == {"protocol": "ntp", "target": ntp_server.address}
    counter = last["flatout.load.sent"].sum
    assert counter.is_monotonic
    assert counter.aggregation_temporality == AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    assert sent.start_time_unix_nano < sent.time_unix_nano
    rates = [one["flatout.load.rate"].gauge for one in collector.metrics if "flatout.load.rate" in one]
    assert 500 in [point.as_double for rate in rates for point in rate.data_points]
    assert collector.resources[-1]["service.name"] == "flatout"
    (span,) = collector.spans
    assert (span.name, span.trace_id.hex(), span.parent_span_id.hex()) == ("flatout load", *PARENT.split("-")[1:3])
    assert 0.4e9 < span.end_time_unix_nano - span.start_time_unix_nano < 30e9


def test_each_trial_of_a_search_is_a_span(cli: Cli, ntp_server: flatout.Server, collector: Collector) -> None:
    asked = ("--min", "1k", "--max", "2k", "--budget", "5s", "--quiet", "--otlp", collector.url, "--json", "-")
    ran = cli("limit", "ntp", ntp_server.address, *asked)
    whole = [span for span in collector.spans if span.name == "flatout limit"]
    trials = [span for span in collector.spans if span.name == "trial"]
    assert len(whole) == 1
    assert {span.parent_span_id for span in trials} == {whole[0].span_id}
    assert len(trials) == len(ran.json["trials"])
    assert {values(span.attributes)["verdict"] for span in trials} == {one["verdict"] for one in ran.json["trials"]}


def test_headers_endpoint_and_names_of_the_environment_count(
    cli: Cli, ntp_server: flatout.Server, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=secret")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=ours,deployment.environment=lab")
    cli("load", "ntp", ntp_server.address, *ASKED, "--otlp", "env")
    assert collector.headers[0]["x-key"] == "secret"
    assert collector.resources[0]["service.name"] == "ours"
    assert collector.resources[0]["deployment.environment"] == "lab"
    assert [span.name for span in collector.spans] == ["flatout load"]


@pytest.mark.parametrize(("code", "why"), [(None, "Connection refused"), (403, "403")])
def test_a_collector_that_is_away_costs_nothing(
    cli: Cli, ntp_server: flatout.Server, code: int | None, why: str
) -> None:
    collector = Collector(code) if code else None
    url = collector.url if collector else f"http://127.0.0.1:{free_tcp_port()}"
    try:
        ran = cli("load", "ntp", ntp_server.address, *ASKED, "--otlp", url, "--json", "-")
    finally:
        if collector:
            collector.close()
    assert ran.json["kind"] == "load"
    assert ran.code in (0, 4)
    (line,) = [line for line in ran.err.splitlines() if "otlp" in line]
    assert line.startswith(f"flatout: --otlp: 1 of 1 exports to {url} failed: ")
    assert why in line


def test_an_address_that_cannot_be_sent_to_costs_nothing(cli: Cli, ntp_server: flatout.Server) -> None:
    ran = cli("load", "ntp", ntp_server.address, *ASKED, "--otlp", "http://", "--json", "-")
    assert ran.json["kind"] == "load"
    assert "1 of 1 exports to http:// failed: " in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("bad", ["127.0.0.1:4318", "grpc://x", "", "env"])
def test_what_is_no_address_is_found_before_anything_is_sent(cli: Cli, bad: str) -> None:
    for verb in ("load", "limit"):
        ran = cli(verb, "ntp", "127.0.0.1:9", "--otlp", bad)
        assert (ran.code, "--otlp" in ran.err) == (2, True)


def test_without_the_extra_it_says_so(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "flatout.view.otlp", raising=False)
    monkeypatch.delattr("flatout.view.otlp", raising=False)
    ran = cli("load", "ntp", "127.0.0.1:9", "--otlp", "http://127.0.0.1:1")
    assert (ran.code, "flatout[otel]" in ran.err) == (2, True)


def test_names_become_those_of_prometheus_again() -> None:
    """By the rules for both (opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics)."""
    suffixes = {"{request}": "_total", "s": "_seconds", "{request}/s": "_per_second", "": "", "{connection}": ""}
    for family in Everything().metrics.families():
        name, unit = otlp.names(family)
        assert name.replace(".", "_") + suffixes[unit] == family.name


def test_nothing_of_it_is_loaded_unasked() -> None:
    script = (
        "import sys, flatout.cli.app as app; app.build()\n"
        "sys.exit(any('opentelemetry' in name for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
