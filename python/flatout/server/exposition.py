"""A server's counters as Prometheus reads them (text exposition format 0.0.4). Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_COUNTERS = (
    ("received", "received_total", "Requests that came."),
    ("answered", "answered_total", "Answers that left."),
    ("kissed", "kiss_total", "Of the answers those that were a kiss-o'-death."),
    ("sent_bytes", "sent_bytes_total", "Bytes of the answers over UDP, with UDP and IP headers."),
    ("kernel_drops", "kernel_drops_total", "Datagrams that the kernel dropped because they were not read in time."),
    ("clients_forgotten", "clients_forgotten_total", "Clients that were forgotten to make room for others."),
)


def prometheus(stats: Mapping[str, Any], protocol: str) -> str:
    """The counters of `stats` (see `Server.stats`) with the label `protocol`."""
    return "\n".join([*_lines(stats, f'protocol="{protocol}"'), ""])


def _lines(stats: Mapping[str, Any], label: str) -> Iterator[str]:
    for name, metric, text in _COUNTERS:
        if name in stats:
            yield from lines_of(f"flatout_{metric}", "counter", text, [(label, stats[name])])
    reasons = [(f'{label},reason="{reason}"', count) for reason, count in sorted(stats["dropped"].items())]
    yield from lines_of("flatout_not_answered_total", "counter", "Requests without answer, by reason.", reasons)
    of_workers = [(f'{label},worker="{n}"', worker["received"]) for n, worker in enumerate(stats["workers"])]
    yield from lines_of("flatout_worker_received_total", "counter", "Requests that came to each worker.", of_workers)
    cpu = [(f'{label},worker="{n}"', worker["cpu_ns"] / 1e9) for n, worker in enumerate(stats["workers"])]
    yield from lines_of("flatout_worker_cpu_seconds_total", "counter", "CPU time of each worker.", cpu)
    replaced = stats["replaced"]["count"]
    text = "Workers that failed or stalled and were replaced."
    yield from lines_of("flatout_workers_replaced_total", "counter", text, [(label, replaced)])
    yield from lines_of("flatout_uptime_seconds", "gauge", "Time since the start.", [(label, stats["t_s"])])
    yield from _xdp(stats.get("xdp") or {}, label)
    yield from _limits(stats.get("limits") or {}, label)
    yield from _stamps(stats.get("stamps") or {}, label)
    yield from _state(stats.get("state") or {}, label)


def _xdp(xdp: Mapping[str, Any], label: str) -> Iterator[str]:
    """What the network driver answered, which is part of the other counters too."""
    if not xdp:
        return
    where = f'{label},interface="{xdp["interface"] or ""}",mode="{xdp["mode"]}"'
    text = "Whether the network driver answers (1) or sockets alone (0)."
    yield from lines_of("flatout_xdp_attached", "gauge", text, [(where, int(xdp["mode"] != "off"))])
    text = "Of the answers those of the network driver."
    yield from lines_of("flatout_xdp_answered_total", "counter", text, [(label, xdp["answered"])])
    reasons = [(f'{label},reason="{reason}"', count) for reason, count in sorted(xdp["dropped"].items())]
    text = "Of the requests without answer those that the network driver dropped, by reason."
    yield from lines_of("flatout_xdp_not_answered_total", "counter", text, reasons)
    reasons = [(f'{label},reason="{reason}"', count) for reason, count in sorted(xdp["passed"].items())]
    yield from lines_of("flatout_xdp_passed_total", "counter", "Requests passed up to the sockets, by reason.", reasons)


_STAMPS = (
    ("unstamped", "unstamped_total", "Datagrams without a credible receive stamp of the kernel."),
    ("interleaved", "interleaved_total", "Answers that tell when the answer before left."),
    ("tx_sampled", "tx_sampled_total", "Answers whose transmit stamp was compared with the kernel's."),
    ("tx_late", "tx_late_total", "Those of them whose transmit stamp was later than the kernel's."),
)
_STATE_COUNTERS = ("asked", "told", "failed")


def _stamps(stamps: Mapping[str, Any], label: str) -> Iterator[str]:
    for name, metric, text in _STAMPS:
        if name in stamps:
            yield from lines_of(f"flatout_{metric}", "counter", text, [(label, stamps[name])])
    early = stamps.get("tx_early_ns") or {}
    text = "By how much transmit stamps were earlier than the kernel's."
    quantiles = [(f'{label},quantile="{name}"', ns / 1e9) for name, ns in early.items()]
    yield from lines_of("flatout_tx_early_seconds", "gauge", text, quantiles)


def _state(state: Mapping[str, Any], label: str) -> Iterator[str]:
    """Whatever the source of the state tells in numbers."""
    for name, value in state.items():
        if not isinstance(value, int | float):
            continue
        if isinstance(value, bool):
            text = "Whether answers have time to give (1) or not (0)."
            yield from lines_of(f"flatout_state_{name}", "gauge", text, [(label, int(value))])
        elif name in _STATE_COUNTERS:
            text = f"How often the source of the state was {name}." if name == "asked" else f"How often it {name}."
            yield from lines_of(f"flatout_state_{name}_total", "counter", text, [(label, value)])
        elif name.endswith("_ns"):
            seconds = [(label, value / 1e9)]
            yield from lines_of(f"flatout_state_{name[:-3]}_seconds", "gauge", "Of the last state.", seconds)
        elif name.endswith("_s"):
            yield from lines_of(f"flatout_state_{name[:-2]}_seconds", "gauge", "Of the last state.", [(label, value)])
        else:
            yield from lines_of(f"flatout_state_{name}", "gauge", "Of the last state.", [(label, value)])


def _limits(limits: Mapping[str, Any], label: str) -> Iterator[str]:
    if not limits:
        return
    peaks = [(f'{label},counter="{name}"', rate) for name, rate in sorted(limits["peaks_per_s"].items())]
    yield from lines_of("flatout_peak_per_second", "gauge", "The highest second of the last 24 hours.", peaks)
    if limits["bandwidth_bytes_per_s"] is not None:
        text = "Bandwidth that answers may take now."
        samples = [(label, limits["bandwidth_bytes_per_s"])]
        yield from lines_of("flatout_bandwidth_limit_bytes_per_second", "gauge", text, samples)
    if limits["quota"] is not None:
        for name, text in (("bytes", "Bytes in each period."), ("used", "Bytes used in this period.")):
            yield from lines_of(f"flatout_quota_{name}", "gauge", text, [(label, limits["quota"][name])])


def lines_of(name: str, kind: str, text: str, samples: list[tuple[str, float]]) -> Iterator[str]:
    """The lines of a metric: its samples, each with its labels as text; none where there are no samples."""
    if not samples:
        return
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    for labels, value in samples:
        yield f"{name}{{{labels}}} {value:.10g}" if isinstance(value, float) else f"{name}{{{labels}}} {value}"
