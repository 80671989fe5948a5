"""`flatout watch`: the traffic of a server in production, a line a second."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Literal

from cyclopts import Parameter

from flatout import units
from flatout.cli import output as out
from flatout.cli.seconds import For, Objects, Quiet, Stop, opened_for
from flatout.errors import UsageError
from flatout.server import endpoints
from flatout.server.quota import Quota
from flatout.server.usage import Usage
from flatout.view.terminal import watch as view
from flatout.view.terminal.screen import Screen, is_terminal
from flatout.watch import dashboard, ports
from flatout.watch.bpf import BTF, BpfRefusedError, BpfSource
from flatout.watch.host import KernelReader
from flatout.watch.metrics import Metrics
from flatout.watch.mib import MibSource
from flatout.watch.model import WatchLine
from flatout.watch.monitor import Moment, Monitor
from flatout.watch.ports import WatchedPort
from flatout.watch.quota import CountedWay, QuotaMeter
from flatout.watch.source import TrafficSource

USAGE_FILE = "/var/lib/flatout/watch.json"
# A second is read a little after its end: what ends it may be on its way through the kernel.
_SETTLE_S = 0.02
# The kernel's bins of so many seconds are there.
_KEPT_S = 3
Source = Literal["auto", "bpf", "mib"]


_Ports = Annotated[
    list[str] | None,
    Parameter(negative=(), help="Ports to watch, udp/123 or tcp/53; udp/11123:PROTOCOL where the port does not tell."),
]
_Interfaces = Annotated[list[str] | None, Parameter(negative=(), help="Only these interfaces. [all, each packet once]")]
_Json = Annotated[
    str | None,
    Parameter(allow_leading_hyphen=True, help="One JSON object a second and a last one with totals (-: stdout)."),
]
_Quota = Annotated[str | None, Parameter(help="Compare the traffic with a quota of bytes: 4TB/month, 100GB/day (UTC).")]
_Counts = Annotated[CountedWay, Parameter(help="Which direction counts against the quota.")]
_UsageFile = Annotated[
    str | None, Parameter(help=f"Keep here what is used of the quota, for the next start. [{USAGE_FILE}]")
]
_Prometheus = Annotated[
    str | None, Parameter(help="Serve metrics for Prometheus at this address, e.g. 127.0.0.1:9124.")
]
_Grafana = Annotated[
    bool,
    Parameter(negative=(), show_default=False, help="Print a dashboard for Grafana of these metrics, and end."),
]
_Source = Annotated[
    Source,
    Parameter(help="What counts: bpf: each packet of the ports, in the kernel, as root; mib: sums of /proc/net."),
]


def watch(
    *,
    port: _Ports = None,
    interface: _Interfaces = None,
    for_: For = None,
    json: _Json = None,
    quota: _Quota = None,
    quota_counts: _Counts = "out",
    usage_file: _UsageFile = None,
    prometheus: _Prometheus = None,
    grafana: _Grafana = False,
    source: _Source = "auto",
    quiet: Quiet = False,
) -> int:
    """Watch the traffic of a server in production: packets, bursts, drops, CPUs, top talkers, a quota.

    A program in the kernel counts; no packet is copied. Each second has 64 bins: what is far above the usual is
    flagged as a spike and kept. Runs until Ctrl-C.

    **Examples**
    ```
    flatout watch --port udp/123
    flatout watch --port udp/53 --port tcp/53 --json seconds.jsonl
    flatout watch --port udp/123 --quota 4TB/month --interface eth0
    flatout watch --port udp/123 --prometheus 127.0.0.1:9124 --quiet
    flatout watch --grafana > dashboard.json
    ```

    """
    if grafana:
        print(dashboard.text(), end="")
        return out.DONE
    watched = ports.parse(port or [])
    seconds = math.inf if for_ is None else units.duration(for_)
    chosen = tuple(interface or ())
    meter = _meter(quota, quota_counts, usage_file)
    stop = Stop()
    with contextlib.ExitStack() as opened:
        objects = Objects(opened_for(json, opened))
        counting = _source(source, watched, chosen, needs_bytes=quota is not None)
        opened.callback(counting.close)
        metrics = Metrics()
        if prometheus is not None:
            opened.enter_context(endpoints.page(prometheus, metrics.text))
        monitor = Monitor(counting, watched, interfaces=chosen, quota=meter)
        host, began = KernelReader(watched), time.monotonic()
        monitor.start(counting.read(math.floor(began)), host.read(began))
        # What comes from now on counts, so only now it says that it watches.
        shown = _Shown(counting, quiet=quiet, json=json)
        opened.callback(shown.close)
        for line in _seconds(monitor, counting, host, stop, (began, began + seconds)):
            metrics.add(line, monitor.spikes_seen)
            objects.write(line)
            shown.show(line)
        if meter is not None:
            meter.keep()
        total = monitor.total(time.time())
        objects.write(total)
        shown.end(total)
    return out.UNMET if objects.failed else out.DONE


def _meter(quota: str | None, counts: CountedWay, usage_file: str | None) -> QuotaMeter | None:
    """Errors: UsageError for a quota that is none, or a file without its folder, or without a quota."""
    if quota is None:
        if usage_file is not None:
            raise UsageError("--usage-file keeps what is used of a quota: give --quota, too")
        return None
    parsed = Quota.parse(quota)
    if usage_file is None:
        usage_file = USAGE_FILE
        with suppress(OSError):
            os.makedirs(os.path.dirname(USAGE_FILE), exist_ok=True)
    return QuotaMeter(parsed, counts, Usage(usage_file))


def _source(
    wanted: Source, watched: list[WatchedPort], interfaces: tuple[str, ...], *, needs_bytes: bool
) -> TrafficSource:
    """Errors: GeneratorError (BPF is refused, and something asked for needs it), UsageError."""
    transports = [port.transport for port in watched]
    if wanted == "mib":
        if interfaces or needs_bytes:
            flag = "--interface" if interfaces else "--quota"
            raise UsageError(f"{flag} needs counted packets: leave out --source mib")
        return _sums(transports, "asked for with --source mib")
    try:
        return BpfSource(watched, interfaces, btf=BTF)
    except BpfRefusedError as error:
        if wanted == "bpf" or interfaces or needs_bytes:
            raise
        return _sums(transports, str(error))


def _sums(transports: list[ports.Transport], why: str) -> TrafficSource:
    source = MibSource(transports)
    source.notes.append(
        f"only sums of all ports from /proc/net, without bytes, bursts and talkers, as packets cannot be counted: {why}"
        if not why.startswith("asked")
        else "sums of all ports from /proc/net, without bytes, bursts and talkers"
    )
    return source


def _seconds(
    monitor: Monitor, source: TrafficSource, host: KernelReader, stop: Stop, span: tuple[float, float]
) -> Iterator[WatchLine]:
    """A line for each second of the monotonic clock; the first and the last may be a part of one.

    span: its begin and end on that clock, s.
    """
    began, end = span
    due = math.floor(began)
    whole = False
    over = False
    while not over:
        now = time.monotonic()
        wait = min(due + 1 + _SETTLE_S, end) - now
        over = stop.wait(max(wait, 0.0)) or time.monotonic() >= end
        now = time.monotonic()
        # Those that ended while this process was stopped are in the totals only.
        due = max(due, math.floor(now) - _KEPT_S)
        while due < math.floor(now):
            yield _line(monitor, source, host, due, whole=whole)
            due, whole = due + 1, True
    yield _line(monitor, source, host, due, whole=False)


def _line(monitor: Monitor, source: TrafficSource, host: KernelReader, second: int, *, whole: bool) -> WatchLine:
    now = time.monotonic()
    unix_s = time.time() - max(now - (second + 1), 0.0)
    return monitor.second(Moment(second, unix_s, now), source.read(second), host.read(now), whole=whole)


class _Shown:
    """The view for people: drawn on a terminal, or else plain lines on standard error."""

    def __init__(self, source: TrafficSource, *, quiet: bool, json: str | None) -> None:
        # Objects on the same terminal and a frame that is drawn over would spoil each other.
        drawn = is_terminal(sys.stderr) and not (json == "-" and sys.stdout.isatty())
        self._screen = Screen(sys.stderr) if drawn and not quiet else None
        self._memory = view.Memory(f"flatout watch {', '.join(source.labels)}")
        self._quiet = quiet
        if not drawn or quiet:
            for note in source.notes:
                out.say(f"flatout: note: {note}")
        if not quiet and not drawn:
            out.say(f"watching {', '.join(source.labels)}. Ctrl-C stops it.")

    def show(self, line: WatchLine) -> None:
        if self._quiet:
            return
        self._memory.note(line)
        if self._screen is None:
            for text in view.plain(line):
                out.say(text)
            return
        # Whatever cannot be drawn, it goes on.
        with suppress(OSError, ValueError):
            columns, rows = self._screen.size
            self._screen.draw(view.lines(line, self._memory, columns, rows))

    def end(self, total: WatchLine) -> None:
        """The last frame stays, with the totals below."""
        self.close()
        for text in [] if self._quiet else view.totals(total):
            out.say(text)

    def close(self) -> None:
        if self._screen is not None:
            with suppress(OSError, ValueError):
                self._screen.close(cleared=False)
            self._screen = None
