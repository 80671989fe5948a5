"""The metrics of runs and searches, as a real parser of Prometheus' format reads them."""

from __future__ import annotations

from typing import Any

import pytest
import results
from prometheus_client.parser import text_string_to_metric_families

from flatout.runner.progress import HostProgress, RunProgress, SearchProgress
from flatout.view.metrics import RunMetrics


def run(**counts: Any) -> RunProgress:
    usual: dict[str, Any] = dict.fromkeys(
        ("planned", "sent", "unsent", "answered", "late", "refused", "invalid", "duplicate"), 0
    )
    return RunProgress(phase="running", t_s=1, total_s=10, rate_per_s=200.0, latest=None, **usual | counts)


def search(**changes: Any) -> SearchProgress:
    usual: dict[str, Any] = {"trial": 3, "phase": "x", "rate_per_s": 5e4, "trial_s": 1, "elapsed_s": 2, "budget_s": 60}
    unknown: dict[str, Any] = {"lower": None, "upper": None, "ceiling_hint_per_s": None}
    return SearchProgress(**usual | unknown | changes)


def values(metrics: RunMetrics) -> dict[str, float]:
    families = text_string_to_metric_families(metrics.text())
    samples = [sample for family in families for sample in family.samples]
    assert all(sample.labels["target"] == 'a"\\b' for sample in samples)
    return {
        sample.name + sample.labels.get("quantile", "") + sample.labels.get("host", ""): sample.value
        for sample in samples
    }


def test_a_run() -> None:
    metrics = RunMetrics("ntp", 'a"\\b')
    assert values(metrics)["flatout_load_sent_total"] == 0
    latest = results.limit().trials[0].intervals[0]
    metrics(run(sent=7, answered=5, lost=2))
    assert "flatout_load_latency_seconds0.99" not in values(metrics)
    metrics(
        RunProgress(**{name: getattr(run(sent=9), name) for name in RunProgress.__struct_fields__} | {"latest": latest})
    )
    found = values(metrics)
    assert found["flatout_load_sent_total"] == 9
    assert found["flatout_load_rate_per_second"] == 200
    assert latest.p99 is not None
    assert found["flatout_load_latency_seconds0.99"] == latest.p99 / 1e9


def test_counters_go_on_over_the_trials_of_a_search() -> None:
    metrics = RunMetrics("ntp", 'a"\\b')
    done = results.limit().trials[0]
    metrics(search(run=run(sent=10)))
    metrics(search(finished=done, lower=4e4))
    metrics(search(trial=4, run=run(sent=10), lower=4e4, upper=6e4))
    found = values(metrics)
    assert found["flatout_load_sent_total"] == done.outcomes.sent + 10
    assert (found["flatout_limit_trial"], found["flatout_limit_lower"], found["flatout_limit_upper"]) == (4, 4e4, 6e4)
    assert "flatout_limit_value" not in found
    metrics(search(limit=results.limit().limit))
    assert values(metrics)["flatout_limit_value"] == pytest.approx(results.limit().limit.value)


def test_hosts_of_a_fleet_have_series_of_their_own() -> None:
    metrics = RunMetrics("ntp", 'a"\\b')

    def hosts(sent: int) -> tuple[HostProgress, ...]:
        late = HostProgress(host='"2', phase="running", sent=1, lateness_p99_ns=1500, rate_per_s=20.0, silent_s=4)
        return (HostProgress(host="1", phase="running", sent=sent), late)

    metrics(search(run=run(sent=10, hosts=hosts(9))))
    found = values(metrics)
    assert found["flatout_load_sent_total"] == 10
    assert (found["flatout_load_host_sent_total1"], found['flatout_load_host_sent_total"2']) == (9, 1)
    assert found['flatout_load_host_lateness_seconds"2'] == 1.5e-6
    assert found['flatout_load_host_silent_seconds"2'] == 4
    assert found['flatout_load_host_rate_per_second"2'] == 20
    assert "flatout_load_host_lateness_seconds1" not in found
    metrics(search(finished=results.limit().trials[0]))
    assert values(metrics)["flatout_load_host_sent_total1"] == 9
    metrics(search(run=run(sent=1, hosts=hosts(3))))
    assert values(metrics)["flatout_load_host_sent_total1"] == 12
