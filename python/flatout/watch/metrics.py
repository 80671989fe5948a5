"""Watched traffic as Prometheus reads it (text exposition format 0.0.4): sums of the lines since the start."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator

from flatout.server.exposition import lines_of
from flatout.watch.model import PortTraffic, WatchLine

PREFIX = "flatout_watch"
Samples = list[tuple[str, float]]


class Metrics:
    """Adds up lines; another thread may ask for the text meanwhile."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._line: WatchLine | None = None
        self._packets: Counter[tuple[str, str]] = Counter()
        self._bytes: Counter[tuple[str, str]] = Counter()
        self._socket_drops: Counter[str] = Counter()
        self._drops: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._cpu: Counter[tuple[str, str]] = Counter()
        self._cpu_packets: Counter[str] = Counter()
        self._spikes: Counter[tuple[str, str]] = Counter()
        self._peaks: dict[tuple[str, str], int] = {}

    def add(self, line: WatchLine, spikes_seen: dict[tuple[str, str], int]) -> None:
        """A second; `spikes_seen`: all spikes since the start, by port and direction."""
        with self._lock:
            self._line = line
            for port in line.ports:
                self._add_port(port)
            self._drops.update({str(place): count for place, count in line.drops.items()})
            self._reasons.update(line.reasons or {})
            for cpu, used in line.cpus.items():
                for mode in ("busy", "softirq", "steal"):
                    self._cpu[cpu, mode] += getattr(used, mode) * line.seconds
                if used.packets is not None:
                    self._cpu_packets[cpu] += used.packets
            self._spikes.update({key: count - self._spikes[key] for key, count in spikes_seen.items()})

    def _add_port(self, port: PortTraffic) -> None:
        for way in ("in", "out"):
            key = (port.port, way)
            self._packets[key] += getattr(port, f"packets_{way}")
            size = getattr(port, f"bytes_{way}")
            if size is not None:
                self._bytes[key] += size
            bins = getattr(port, f"bins_{way}")
            if bins is not None:
                self._peaks[key] = max(bins) * len(bins)
        if port.socket is not None and port.socket.drops is not None:
            self._socket_drops[port.port] += port.socket.drops

    def text(self) -> str:
        """All metrics."""
        with self._lock:
            return "\n".join([*self._lines(), ""])

    def _lines(self) -> Iterator[str]:
        line = self._line
        if line is None:
            return
        yield from _counter("packets_total", "Packets.", _by_way(self._packets))
        yield from _counter("bytes_total", "Bytes, with IP headers.", _by_way(self._bytes))
        text = "Rate of the highest 1/64 s of the last second."
        yield from _gauge("peak_packets_per_second", text, _by_way(self._peaks))
        yield from _counter("spikes_total", "Times with far more packets than usual.", _by_way(self._spikes))
        yield from self._of_drops()
        yield from _of_mix(line)
        yield from self._of_cpus()
        yield from _of_talkers(line)
        yield from _of_quota(line)
        yield from _gauge("up_seconds", "Time since the start.", [(f'source="{line.source}"', line.t_s)])

    def _of_drops(self) -> Iterator[str]:
        by_place: Samples = [(f'place="{place}"', count) for place, count in sorted(self._drops.items())]
        yield from _counter("drops_total", "Packets that the kernel dropped, of all ports, by place.", by_place)
        by_reason: Samples = [(f'reason="{reason}"', count) for reason, count in sorted(self._reasons.items())]
        text = "Packets of the watched ports that the kernel dropped, by its reason."
        yield from _counter("drop_reasons_total", text, by_reason)
        by_port: Samples = [(f'port="{port}"', count) for port, count in sorted(self._socket_drops.items())]
        yield from _counter("socket_drops_total", "Packets dropped at the sockets of a port.", by_port)
        sockets = [(port.port, port.socket) for port in self._line.ports if port.socket] if self._line else []
        filled: Samples = [(f'port="{port}"', one.filled) for port, one in sockets if one.filled is not None]
        yield from _gauge("socket_filled_ratio", "How full the fullest receive buffer or accept queue is.", filled)

    def _of_cpus(self) -> Iterator[str]:
        times: Samples = [(f'cpu="{cpu}",mode="{mode}"', value) for (cpu, mode), value in sorted(self._cpu.items())]
        text = "Time of each CPU: busy in all, of it in soft interrupts, stolen."
        yield from _counter("cpu_seconds_total", text, times)
        packets: Samples = [(f'cpu="{cpu}"', count) for cpu, count in sorted(self._cpu_packets.items())]
        yield from _counter("cpu_packets_total", "Packets of the watched ports on each CPU.", packets)


def _by_way(found: dict[tuple[str, str], int]) -> Samples:
    return [(f'port="{port}",direction="{way}"', count) for (port, way), count in sorted(found.items())]


def _of_mix(line: WatchLine) -> Iterator[str]:
    shares: Samples = []
    for port in line.ports:
        known = {"ipv6": port.ipv6, "responses": port.responses, **port.mix}
        shares += [(f'port="{port.port}",of="{name}"', value) for name, value in known.items() if value is not None]
    yield from _gauge("share_ratio", "Shares of the last second's packets in, or requests.", shares)


def _of_talkers(line: WatchLine) -> Iterator[str]:
    text = "Share of the packets in of the last 10 s, of the prefixes with the most."
    shares: Samples = [
        (f'port="{port.port}",prefix="{one.prefix}"', one.share) for port in line.ports for one in port.talkers
    ]
    yield from _gauge("talker_ratio", text, shares)


def _of_quota(line: WatchLine) -> Iterator[str]:
    quota = line.quota
    if quota is None:
        return
    for name, text, value in (
        ("quota_bytes", "Bytes in each period.", quota.bytes),
        ("quota_used_bytes", "Bytes used in this period.", quota.used),
        ("quota_projected_bytes", "Bytes used at its end, at the rate of the last hour.", quota.projected),
        ("quota_fits_bytes_per_second", "The rate at which the rest lasts.", quota.fits_bytes_per_s),
        ("quota_end_timestamp_seconds", "When the period ends, Unix time.", quota.ends_unix_s),
    ):
        yield from _gauge(name, text, [(f'per="{quota.per}",counted="{quota.counted}"', value)])


def _counter(name: str, text: str, samples: Samples) -> Iterator[str]:
    yield from lines_of(f"{PREFIX}_{name}", "counter", text, samples)


def _gauge(name: str, text: str, samples: Samples) -> Iterator[str]:
    yield from lines_of(f"{PREFIX}_{name}", "gauge", text, samples)
