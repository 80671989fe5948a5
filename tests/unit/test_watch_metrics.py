"""What Prometheus reads, by Prometheus's own parser; and a dashboard that asks for nothing else."""

from __future__ import annotations

import json
import re

from prometheus_client.parser import text_string_to_metric_families
from watched import SIZE, FakeTraffic, Watched, even

from flatout.server.quota import Quota
from flatout.server.usage import Usage
from flatout.watch import dashboard
from flatout.watch.metrics import Metrics
from flatout.watch.quota import QuotaMeter
from flatout.watch.source import Prefix


def scraped(seconds: int = 12) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """The samples of all metrics, by name, after some seconds with a spike and drops at the end."""
    watched = Watched(FakeTraffic("udp/123"), QuotaMeter(Quota.parse("4TB/month"), "out", Usage(None)))
    metrics = Metrics()
    for _ in range(seconds - 1):
        metrics.add(watched.second(even(640)), watched.monitor.spikes_seen)
    bins = even(640)
    bins[5] = 5000
    loud = [Prefix("192.0.2.0/24", 5000, 380_000)]
    reading = watched.traffic.reading(bins, prefixes=loud, v6=0.5, reasons={"NETFILTER_DROP": 4})
    line = watched.second(reading=reading, Udp__RcvbufErrors=3, backlog=2, drops=3)
    metrics.add(line, watched.monitor.spikes_seen)
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(metrics.text()):
        assert family.documentation
        assert family.type in ("counter", "gauge")
        for sample in family.samples:
            key = tuple(sorted(sample.labels.items()))
            assert key not in found.setdefault(sample.name, {}), "each sample once"
            found[sample.name][key] = sample.value
    return found


def test_what_prometheus_reads() -> None:
    found = scraped()
    of_port = (("direction", "in"), ("port", "udp/123"))
    packets = 11 * 640 + 5630
    assert found["flatout_watch_packets_total"][of_port] == packets
    assert found["flatout_watch_bytes_total"][of_port] == packets * SIZE
    assert found["flatout_watch_peak_packets_per_second"][of_port] == 5000 * 64
    assert found["flatout_watch_spikes_total"][of_port] == 1
    assert found["flatout_watch_drops_total"][("place", "receive_buffer"),] == 3
    assert found["flatout_watch_drops_total"][("place", "backlog"),] == 2
    assert found["flatout_watch_drop_reasons_total"][("reason", "NETFILTER_DROP"),] == 4
    assert found["flatout_watch_socket_drops_total"][("port", "udp/123"),] == 3
    assert found["flatout_watch_share_ratio"][("of", "ipv6"), ("port", "udp/123")] == 0.5
    assert found["flatout_watch_cpu_packets_total"][("cpu", "0"),] == 2 * packets
    assert found["flatout_watch_quota_used_bytes"][("counted", "out"), ("per", "month")] == packets * SIZE
    [(labels, share)] = found["flatout_watch_talker_ratio"].items()
    assert dict(labels)["prefix"] == "192.0.2.0/24"
    assert 0.4 < share < 0.5


def test_there_is_no_text_before_the_first_second() -> None:
    assert Metrics().text() == ""


def test_the_dashboard_asks_for_metrics_that_there_are_with_labels_that_they_have() -> None:
    found = scraped()
    labels = {name: {label for key in samples for label, _ in key} for name, samples in found.items()}
    made = json.loads(dashboard.text())
    queries = [target for panel in made["panels"] for target in panel["targets"]]
    asked: set[str] = set()
    for target in queries:
        names = re.findall(r"flatout_watch_\w+", target["expr"])
        assert names, target
        asked |= set(names)
        for name in names:
            assert name in found, f"{name} is no metric"
            grouped = re.search(r"sum by \(([\w, ]+)\)", target["expr"])
            wanted = {word.strip() for word in grouped[1].split(",")} if grouped else set()
            wanted |= set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert wanted <= labels[name], (name, wanted, labels[name])
            if name.endswith("_total"):
                assert re.search(rf"(rate|increase)\({name}", target["expr"]), "a counter as it is says nothing"
    assert asked == set(found), "each metric is shown"
    assert "flatout_watch_up_seconds" in json.dumps(made["templating"])


def test_the_dashboard_has_room_for_each_panel() -> None:
    panels = dashboard.dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len(panels), "none lies on another"
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)
