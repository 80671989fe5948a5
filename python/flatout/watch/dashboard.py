"""A dashboard for Grafana (10 or later) of the metrics that `flatout watch --prometheus` serves."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from flatout.watch.metrics import PREFIX

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH, _HEIGHT = 12, 8


class _Panel(NamedTuple):
    """A panel: queries with their legends, and the unit of the values as Grafana names it."""

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    kind: str = "timeseries"
    log: bool = False


def _rate(name: str, by: str = "", selected: str = 'instance=~"$instance"') -> str:
    return f"sum by ({by}) (rate({PREFIX}_{name}{{{selected}}}[$__rate_interval]))"


def _last(name: str) -> str:
    return f'{PREFIX}_{name}{{instance=~"$instance"}}'


_PANELS = (
    _Panel("Packets", "pps", ((_rate("packets_total", "port, direction"), "{{port}} {{direction}}"),)),
    _Panel("Bits", "bps", ((f"8 * {_rate('bytes_total', 'port, direction')}", "{{port}} {{direction}}"),)),
    _Panel(
        "Highest 1/64 s of each second",
        "pps",
        ((_last("peak_packets_per_second"), "{{port}} {{direction}}"),),
        log=True,
    ),
    _Panel("Spikes", "short", ((f"increase({_last('spikes_total')}[$__rate_interval])", "{{port}} {{direction}}"),)),
    _Panel(
        "Drops by place",
        "pps",
        (
            (f"{_rate('drops_total', 'place')} > 0", "{{place}}"),
            (_rate("socket_drops_total", "port"), "sockets {{port}}"),
        ),
    ),
    _Panel("Drops of the ports by reason", "pps", ((f"{_rate('drop_reasons_total', 'reason')} > 0", "{{reason}}"),)),
    _Panel("Receive buffers and accept queues", "percentunit", ((_last("socket_filled_ratio"), "{{port}}"),)),
    _Panel("CPUs", "percentunit", ((_rate("cpu_seconds_total", "cpu, mode"), "{{cpu}} {{mode}}"),)),
    _Panel("Packets on each CPU", "pps", ((_rate("cpu_packets_total", "cpu"), "{{cpu}}"),)),
    _Panel("Mix", "percentunit", ((_last("share_ratio"), "{{port}} {{of}}"),)),
    _Panel("Top talkers", "percentunit", ((f"topk(10, {_last('talker_ratio')})", "{{prefix}} {{port}}"),)),
    _Panel(
        "Quota",
        "decbytes",
        (
            (_last("quota_bytes"), "quota"),
            (_last("quota_used_bytes"), "used"),
            (_last("quota_projected_bytes"), "projected"),
        ),
    ),
    _Panel(
        "Rate that fits the quota",
        "Bps",
        (
            (_last("quota_fits_bytes_per_second"), "fits"),
            (_rate("bytes_total", "direction"), "{{direction}}"),
        ),
    ),
    _Panel("Watching for", "s", ((_last("up_seconds"), "{{source}}"),), kind="stat"),
    _Panel(
        "Quota ends", "dateTimeFromNow", ((f"1000 * {_last('quota_end_timestamp_seconds')}", "{{per}}"),), kind="stat"
    ),
)


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    return {
        "title": "flatout watch",
        "uid": "flatout-watch",
        "tags": ["flatout"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "5s",
        "time": {"from": "now-15m", "to": "now"},
        "timezone": "utc",
        "templating": {"list": [_datasource(), _instance()]},
        "panels": [_panel(number, panel) for number, panel in enumerate(_PANELS)],
    }


def text() -> str:
    """The dashboard as a file."""
    return json.dumps(dashboard(), indent=2) + "\n"


def _datasource() -> dict[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _instance() -> dict[str, Any]:
    query = f"label_values({PREFIX}_up_seconds, instance)"
    return {
        "name": "instance",
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": "instances"},
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }


def _panel(number: int, panel: _Panel) -> dict[str, Any]:
    custom = {"scaleDistribution": {"type": "log", "log": 2}} if panel.log else {}
    return {
        "id": number + 1,
        "title": panel.title,
        "type": panel.kind,
        "datasource": _SOURCE,
        "gridPos": {"x": number % 2 * _WIDTH, "y": number // 2 * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "custom": custom}, "overrides": []},
        "options": {},
        "targets": [
            {"refId": chr(ord("A") + at), "datasource": _SOURCE, "expr": query, "legendFormat": legend}
            for at, (query, legend) in enumerate(panel.queries)
        ],
    }
