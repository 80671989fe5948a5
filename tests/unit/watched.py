"""Traffic and hosts for tests of `flatout watch`: what a program in the kernel would have counted, in virtual time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from flatout.host.contention import CpuTimes
from flatout.host.counters import Counters
from flatout.watch.host import HostReading, PortSockets
from flatout.watch.model import WatchLine
from flatout.watch.monitor import Moment, Monitor
from flatout.watch.ports import parse
from flatout.watch.quota import QuotaMeter
from flatout.watch.source import BINS, Counted, Prefix, Reading

NOON = 1_764_331_200.0  # 2025-11-28 12:00 UTC
SIZE = 76
# Counters of a host that has been up for long.
MIB = {
    "Udp.RcvbufErrors": 100,
    "Udp.NoPorts": 7,
    "TcpExt.ListenOverflows": 3,
    "dev.eth0.rx_dropped": 5,
    "dev.eth1.rx_dropped": 9,
    "dev.eth0.tx_dropped": 1,
    "conntrack.drop": 2,
}


def even(packets: int) -> list[int]:
    """A second's packets, spread evenly over its bins."""
    return [packets * (at + 1) // BINS - packets * at // BINS for at in range(BINS)]


class FakeTraffic:
    """A source whose seconds a test writes."""

    kind: Literal["bpf"] = "bpf"

    def __init__(self, *texts: str) -> None:
        self.ports = parse(texts or ["udp/123"])
        self.labels = [port.name for port in self.ports]
        self.notes: list[str] = []
        self._sums = {label: [0] * 8 for label in self.labels}
        self._mix = dict.fromkeys(self.labels, (0, 0, 0, 0))
        self._cpu = 0
        self.closed = False

    def reading(
        self,
        bins: Sequence[int] = (),
        *,
        answered: float = 1.0,
        v6: float = 0.0,
        sntp: float = 0.0,
        prefixes: Sequence[Prefix] = (),
        reasons: dict[str, int] | None = None,
    ) -> Reading:
        """One more second: `bins` in, of them the share `answered` out again; the same for each port."""
        came = list(bins) or [0] * BINS
        left = [round(answered * packets) for packets in came]
        found = []
        for label in self.labels:
            way_in, way_out = sum(came), sum(left)
            six = round(v6 * way_in)
            grown = [way_in - six, six, way_out, 0]
            sums = self._sums[label]
            for at, packets in enumerate(grown):
                sums[at] += packets
                sums[4 + at] += packets * SIZE
            before = self._mix[label]
            fresh = (way_in, round(sntp * way_in), way_in, way_out)
            self._mix[label] = (
                before[0] + fresh[0],
                before[1] + fresh[1],
                before[2] + fresh[2],
                before[3] + fresh[3],
            )
            four, sizes = (sums[0], sums[1], sums[2], sums[3]), (sums[4], sums[5], sums[6], sums[7])
            second = (way_in * SIZE, way_out * SIZE)
            found.append(Counted(four, sizes, self._mix[label], came, left, second, tuple(prefixes)))
            self._cpu += way_in + way_out
        return Reading(found, {0: self._cpu, 1: 0}, (), reasons or {})

    def read(self, second: int) -> Reading:  # noqa: ARG002
        return self.reading()

    def close(self) -> None:
        self.closed = True


def host(at_s: float, busy: float = 0.0, drops: int | None = 0, **grown: int) -> HostReading:
    """The host at a moment; `grown`: by how much counters grew since the beginning, with __ for a dot."""
    values = dict(MIB)
    backlog = 40
    for name, count in grown.items():
        if name == "backlog":
            backlog += count
        else:
            key = name.replace("__", ".")
            values[key] = values.get(key, 0) + count
    cpus = {0: CpuTimes(50 + busy * at_s, 5 + busy * at_s / 2, 0.0), 1: CpuTimes(10.0, 0.0, 0.0)}
    sockets = {"udp/123": PortSockets({77: drops}, 0.25, ["chronyd (812)"])}
    return HostReading(at_s, Counters(values, {}), backlog, cpus, sockets)


class Watched:
    """A monitor in virtual time: a second for each call."""

    def __init__(self, traffic: FakeTraffic | None = None, quota: QuotaMeter | None = None, **options: object) -> None:
        self.traffic = traffic or FakeTraffic()
        self.monitor = Monitor(self.traffic, self.traffic.ports, quota=quota, **options)  # type: ignore[arg-type]
        self.at = 1000
        self.monitor.start(self.traffic.reading(), host(0.0))

    def second(self, bins: Sequence[int] = (), reading: Reading | None = None, **of_host: int) -> WatchLine:
        begin = self.at
        self.at += 1
        moment = Moment(begin, NOON + self.at - 1000, float(self.at))
        return self.monitor.second(
            moment, reading or self.traffic.reading(bins), host(float(self.at - 1000), **of_host)
        )
