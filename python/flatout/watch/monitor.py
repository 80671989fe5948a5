"""Makes the lines of `flatout watch` from readings of the traffic and of the host. No clock: times are arguments."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from typing import NamedTuple

import msgspec

from flatout.watch import places
from flatout.watch.bursts import Burst, BurstFinder
from flatout.watch.host import HostReading
from flatout.watch.model import (
    Direction,
    PortTraffic,
    QuotaProjection,
    Spike,
    TalkingPrefix,
    WatchedCpu,
    WatchedSocket,
    WatchLine,
)
from flatout.watch.ports import WatchedPort
from flatout.watch.quota import CountedWay, QuotaMeter
from flatout.watch.source import BINS, Counted, Reading, TrafficSource
from flatout.watch.talkers import TalkerWindow, top

SPIKES_KEPT = 100
TALKERS = 10
_SPIKE_TALKERS = 3


_NOTHING = Counted((0, 0, 0, 0), None)


class Moment(NamedTuple):
    """When a reading was made: the second of CLOCK_MONOTONIC that is over, when that ended (Unix time, s), now (s)."""

    second: int
    unix_s: float
    now_s: float


class _Shares(NamedTuple):
    ipv6: float | None
    responses: float | None
    mix: dict[str, float]


class _Meanwhile(NamedTuple):
    """What else happened in the second of a spike."""

    moment: Moment
    drops: int
    talkers: list[TalkingPrefix]


class _Port:
    """What is kept of one port between seconds."""

    def __init__(self, label: str, port: WatchedPort | None) -> None:
        self.label = label
        self.port = port
        self.finders: dict[Direction, BurstFinder] = {"in": BurstFinder(), "out": BurstFinder()}
        self.ongoing: dict[Direction, Spike] = {}
        self.window = TalkerWindow()
        self.first: Counted | None = None
        self.last: Counted | None = None
        self.bytes_seen = [0, 0]
        self.socket_drops: int | None = None


class Monitor:
    """Keeps what lines need of the seconds before; begins with `start`."""

    def __init__(
        self,
        source: TrafficSource,
        ports: Sequence[WatchedPort],
        *,
        interfaces: Collection[str] = (),
        quota: QuotaMeter | None = None,
    ) -> None:
        self._source = source
        self._interfaces = frozenset(interfaces)
        self._quota = quota
        by_name = {port.name: port for port in ports}
        self._ports = [_Port(label, by_name.get(label)) for label in source.labels]
        self._host: tuple[HostReading, HostReading] | None = None
        self._cpus: dict[int, int] = {}
        self._begin_s = 0.0
        self._end_s = 0.0
        self.spikes: deque[Spike] = deque(maxlen=SPIKES_KEPT)
        self.spikes_seen = {(label, way): 0 for label in source.labels for way in ("in", "out")}
        self._first_cpus: dict[int, int] = {}
        self._reasons: dict[str, int] = {}
        self._first_reasons: dict[str, int] | None = {}

    def start(self, reading: Reading, host: HostReading) -> None:
        """What was counted before counts for nothing."""
        self._begin_s = self._end_s = host.at_s
        self._host = (host, host)
        self._cpus = self._first_cpus = dict(reading.cpus)
        self._reasons = reading.reasons or {}
        self._first_reasons = reading.reasons
        for port, counted in zip(self._ports, reading.ports, strict=True):
            port.first = port.last = counted

    def _started(self) -> tuple[HostReading, HostReading]:
        if self._host is None:
            raise RuntimeError("start() comes first")
        return self._host

    def second(self, moment: Moment, reading: Reading, host: HostReading, *, whole: bool = True) -> WatchLine:
        """The line of the second that is over. `whole`: it was watched from its beginning to its end."""
        begin, before = self._started()
        drops, blind = places.dropped(before, host, self._interfaces)
        seconds = max(host.at_s - self._end_s, 1e-3)
        ports = [
            self._of_port(port, counted, before, host) for port, counted in zip(self._ports, reading.ports, strict=True)
        ]
        spikes = self._spikes(moment, ports, sum(drops.values())) if whole else []
        line = WatchLine(
            t_s=host.at_s - self._begin_s,
            unix_s=moment.unix_s,
            seconds=seconds if not whole else 1.0,
            source=self._source.kind,
            ports=ports,
            drops=drops,
            reasons=_grown(reading.reasons, self._reasons),
            blind=blind,
            cpus=self._of_cpus(before, host, reading.cpus, self._cpus),
            spikes=spikes,
            quota=self._of_quota(ports, moment),
            notes=[*self._source.notes, *reading.notes, *(self._quota.notes if self._quota else ())],
        )
        self._host, self._cpus, self._end_s = (begin, host), dict(reading.cpus), host.at_s
        self._reasons = self._reasons if reading.reasons is None else reading.reasons
        return line

    def total(self, unix_s: float) -> WatchLine:
        """All since the start, with the spikes that are kept."""
        begin, last = self._started()
        drops, blind = places.dropped(begin, last, self._interfaces)
        quota = self._last_quota
        return WatchLine(
            t_s=last.at_s - self._begin_s,
            unix_s=unix_s,
            seconds=last.at_s - self._begin_s,
            source=self._source.kind,
            ports=[self._sum_of(port) for port in self._ports],
            drops=drops,
            reasons=None if self._first_reasons is None else _grown(self._reasons, self._first_reasons),
            blind=blind,
            cpus=self._of_cpus(begin, last, self._cpus, self._first_cpus),
            spikes=list(self.spikes),
            quota=quota,
            notes=[*self._source.notes, *(self._quota.notes if self._quota else ())],
            total=True,
        )

    _last_quota: QuotaProjection | None = None

    def _of_port(self, port: _Port, now: Counted, before: HostReading, host: HostReading) -> PortTraffic:
        last = port.last or now
        port.last = now
        if now.bins_in is not None and now.bins_out is not None:
            packets = (sum(now.bins_in), sum(now.bins_out))
        else:
            packets = _ways(now.packets, last.packets)
        port.window.add(now.prefixes, packets[0])
        sizes = now.second_bytes or (None if now.bytes is None else _ways(now.bytes, last.bytes or (0, 0, 0, 0)))
        shares = _shares(now, last, port.port)
        return PortTraffic(
            port=port.label,
            packets_in=packets[0],
            packets_out=packets[1],
            bytes_in=sizes[0] if sizes else None,
            bytes_out=sizes[1] if sizes else None,
            bins_in=now.bins_in,
            bins_out=now.bins_out,
            ipv6=shares.ipv6,
            responses=shares.responses,
            mix=shares.mix,
            socket=self._of_socket(port, before, host),
            talkers=port.window.top(TALKERS),
            whole_host=port.port is None,
        )

    def _of_socket(self, port: _Port, before: HostReading, host: HostReading) -> WatchedSocket | None:
        now = host.sockets.get(port.label)
        if now is None:
            return None
        drops = places.socket_drops(before.sockets.get(port.label), now)
        if drops is not None:
            port.socket_drops = (port.socket_drops or 0) + drops
        return WatchedSocket(sockets=len(now.drops), processes=now.processes, drops=drops, filled=now.filled)

    def _sum_of(self, port: _Port) -> PortTraffic:
        first, last = port.first or _NOTHING, port.last or _NOTHING
        packets = _ways(last.packets, first.packets)
        sizes = None if last.bytes is None or first.bytes is None else _ways(last.bytes, first.bytes)
        shares = _shares(last, first, port.port)
        host = self._host[1] if self._host else None
        sockets = host.sockets.get(port.label) if host else None
        return PortTraffic(
            port=port.label,
            packets_in=packets[0],
            packets_out=packets[1],
            bytes_in=sizes[0] if sizes else None,
            bytes_out=sizes[1] if sizes else None,
            ipv6=shares.ipv6,
            responses=shares.responses,
            mix=shares.mix,
            socket=None
            if sockets is None
            else WatchedSocket(
                sockets=len(sockets.drops), processes=sockets.processes, drops=port.socket_drops, filled=sockets.filled
            ),
            talkers=port.window.top(TALKERS),
            whole_host=port.port is None,
        )

    def _of_cpus(
        self, before: HostReading, after: HostReading, packets: dict[int, int], before_packets: dict[int, int]
    ) -> dict[str, WatchedCpu]:
        span = max(after.at_s - before.at_s, 1e-3)
        found = {}
        for cpu, now in sorted(after.cpus.items()):
            was = before.cpus.get(cpu)
            if was is not None:
                grown = (now.busy - was.busy, now.softirq - was.softirq, now.steal - was.steal)
                busy, softirq, steal = (min(max(one / span, 0.0), 1.0) for one in grown)
                counted = packets[cpu] - before_packets.get(cpu, 0) if cpu in packets else None
                found[str(cpu)] = WatchedCpu(busy=busy, softirq=softirq, steal=steal, packets=counted)
        return found

    def _of_quota(self, ports: Sequence[PortTraffic], moment: Moment) -> QuotaProjection | None:
        if self._quota is None:
            return None
        ways = _WAYS[self._quota.counted]
        size = sum((port.bytes_in or 0) * ways[0] + (port.bytes_out or 0) * ways[1] for port in ports)
        packets = sum(port.packets_in * ways[0] + port.packets_out * ways[1] for port in ports)
        self._last_quota = self._quota.add(size, packets, moment.unix_s, moment.now_s)
        return self._last_quota

    def _spikes(self, moment: Moment, ports: Sequence[PortTraffic], drops: int) -> list[Spike]:
        found: list[Spike] = []
        for kept, port in zip(self._ports, ports, strict=True):
            last = kept.last
            talkers = top(last.prefixes, port.packets_in, _SPIKE_TALKERS) if last else []
            meanwhile = _Meanwhile(moment, drops, talkers)
            for way, bins in (("in", port.bins_in), ("out", port.bins_out)):
                if bins is not None:
                    direction: Direction = "in" if way == "in" else "out"
                    bursts = kept.finders[direction].second(moment.second, bins)
                    found += [self._spike(kept, direction, burst, meanwhile) for burst in bursts]
        return found

    def _spike(
        self,
        port: _Port,
        direction: Direction,
        burst: Burst,
        meanwhile: _Meanwhile,
    ) -> Spike:
        """A burst as a spike; in place of the one that it continues."""
        moment, drops, talkers = meanwhile
        before = port.ongoing.get(direction) if burst.goes_on else None
        spike = Spike(
            port=port.label,
            direction=direction,
            begin_unix_s=round(moment.unix_s - 1 + (burst.first - moment.second * BINS) / BINS, 6),
            seconds=burst.seconds,
            packets=burst.packets,
            peak_per_s=float(burst.peak * BINS),
            usual_per_s=burst.usual * BINS,
            drops=drops,
            talkers=talkers,
        )
        if before is not None:
            spike = msgspec.structs.replace(
                spike, begin_unix_s=before.begin_unix_s, drops=before.drops + drops, talkers=before.talkers
            )
            if before in self.spikes:
                self.spikes.remove(before)
        else:
            self.spikes_seen[port.label, direction] += 1
        port.ongoing[direction] = spike
        self.spikes.append(spike)
        return spike


_WAYS: dict[CountedWay, tuple[int, int]] = {"in": (1, 0), "out": (0, 1), "both": (1, 1)}


def _ways(now: tuple[int, int, int, int], before: tuple[int, int, int, int]) -> tuple[int, int]:
    """In and out of both families together."""
    grown = [max(a - b, 0) for a, b in zip(now, before, strict=True)]
    return grown[0] + grown[1], grown[2] + grown[3]


def _shares(now: Counted, before: Counted, port: WatchedPort | None) -> _Shares:
    in4, in6, out4, out6 = (max(a - b, 0) for a, b in zip(now.packets, before.packets, strict=True))
    # The kernel's own counters of TCP have both families in one.
    ipv6 = in6 / (in4 + in6) if in4 + in6 and (port is not None or now.packets[1]) else None
    responses = (out4 + out6) / (in4 + in6) if in4 + in6 and port is not None else None
    if port is None or port.kind is None or not now.mix:
        return _Shares(ipv6, responses, {})
    grown = [max(a - b, 0) for a, b in zip(now.mix, before.mix or (0,) * len(now.mix), strict=True)]
    requests, *counts, answers = grown
    if not requests:
        return _Shares(ipv6, None, {})
    mix = {name: count / requests for name, count in zip(port.kind.shares, counts, strict=True)}
    return _Shares(ipv6, answers / requests, mix)


def _grown(now: dict[str, int] | None, before: dict[str, int]) -> dict[str, int] | None:
    """What counters grew by, of those that did."""
    if now is None:
        return None
    return {name: count - before.get(name, 0) for name, count in now.items() if count > before.get(name, 0)}
