"""The lines of `flatout watch` in a terminal. Pure apart from `Memory`, which keeps the last seconds and spikes.

A burst row has a character for each 1/64 s of a second, as ntptraf draws them: a blank for no packet, or else the whole
part of the count's logarithm to base 2, from 0 to 9 and then a, b, c.
"""

from __future__ import annotations

import datetime
from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from flatout.protocols import PROTOCOLS
from flatout.view import format as fmt
from flatout.view.ledger import PLACES
from flatout.view.terminal.frame import Line, Style, safe
from flatout.watch.model import PortTraffic, Spike, WatchedCpu, WatchLine
from flatout.watch.source import BINS

_LABEL = 9
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_SPIKES = 4
_TALKERS = 8
_HISTORY = 60
_CELL = 28
_PLACES: Mapping[str, str] = {
    **PLACES,
    "device_in": "device, in",
    "device_out": "device, out",
    "answer_send_buffer": "send buffer",
}
_SHARES = {
    name: words for one in PROTOCOLS.values() if one.traffic is not None for name, words in one.traffic.shares.items()
}


class _Row(NamedTuple):
    unix_s: float
    bins: Sequence[int]
    spikes: frozenset[int]


class Memory:
    """What a frame needs of the seconds before: burst rows by port, the last spikes, all drops so far."""

    def __init__(self, title: str) -> None:
        self.title = safe(title)
        self.rows: dict[str, deque[_Row]] = {}
        self.spikes: dict[tuple[str, str, float], Spike] = {}
        self.drops: dict[str, int] = {}

    def note(self, line: WatchLine) -> None:
        """Keeps what later frames show of a second."""
        for port in line.ports:
            if port.bins_in is not None:
                rows = self.rows.setdefault(port.port, deque(maxlen=_HISTORY))
                rows.append(_Row(line.unix_s, port.bins_in, _marked(port.port, line)))
        for spike in line.spikes:
            key = (spike.port, spike.direction, spike.begin_unix_s)
            self.spikes.pop(key, None)
            self.spikes[key] = spike
        while len(self.spikes) > _SPIKES:
            del self.spikes[next(iter(self.spikes))]
        for name, count in _all_drops(line).items():
            self.drops[name] = self.drops.get(name, 0) + count


def _all_drops(line: WatchLine) -> dict[str, int]:
    """Drops by place, of all ports, and those of the watched ports by the kernel's reason, which is upper case."""
    by_place: dict[str, int] = {place: count for place, count in line.drops.items()}  # noqa: C416 - widens the type
    return by_place | (line.reasons or {})


def _marked(port: str, line: WatchLine) -> frozenset[int]:
    """The bins of this second that are in a spike of packets in."""
    begin = line.unix_s - 1
    found: set[int] = set()
    for spike in line.spikes:
        if (spike.port, spike.direction) == (port, "in"):
            first = round((spike.begin_unix_s - begin) * BINS)
            found |= set(range(max(first, 0), min(first + round(spike.seconds * BINS), BINS)))
    return frozenset(found)


def lines(line: WatchLine, memory: Memory, columns: int, rows: int) -> list[Line]:
    """The whole frame, as high as there is room for."""
    head = [_title(line, memory)]
    below = [*_drops(line, memory, columns), *_cpus(line.cpus, columns), *_talkers(line.ports, columns)]
    below += [*_spikes(memory, columns, named=len(line.ports) > 1), *_quota(line), *_notes(line, columns)]
    ports: list[list[Line]] = [_port(port, line.seconds) for port in line.ports]
    used = len(head) + len(below) + sum(map(len, ports)) + 1
    # Where nothing came there is nothing to draw, and more room for the others.
    drawn = [port for port in line.ports if any(any(row.bins) for row in memory.rows.get(port.port, ()))]
    each = max((rows - 2 - used) // max(len(drawn), 1) - 1, 0)
    found: list[Line] = head
    for port, own in zip(line.ports, ports, strict=True):
        found += [*own, *(_bursts(memory.rows[port.port], min(each, 16)) if port in drawn and each else [])]
    return [*found, *below]


def _title(line: WatchLine, memory: Memory) -> Line:
    clock = _clock(line.unix_s, "%H:%M:%S")
    return [("bold", memory.title), ("", "  "), ("dim", f"{clock} UTC, for {fmt.seconds(round(line.t_s))}")]


def _clock(unix_s: float, form: str) -> str:
    return datetime.datetime.fromtimestamp(unix_s, datetime.UTC).strftime(form)


def _port(port: PortTraffic, seconds: float) -> list[Line]:
    first: list[tuple[Style, str]] = [("bold", f"{safe(port.port):<{_LABEL}}")]
    for way in ("in", "out"):
        packets = fmt.rate_short(getattr(port, f"packets_{way}") / seconds)
        size = getattr(port, f"bytes_{way}")
        first += [("dim", f" {way} "), ("", f"{packets:>9}"), ("dim", f" {bits(size, seconds):<12}")]
    return [first, *_mix(port), *_socket(port)]


def bits(size: int | None, seconds: float) -> str:
    """Bytes as bits per second, short."""
    return "" if size is None else fmt.rate_short(8 * size / seconds).replace("/s", "bit/s")


def _mix(port: PortTraffic) -> list[Line]:
    cells = [("IPv6", port.ipv6), ("answered", port.responses), *_words(port.mix)]
    line: list[tuple[Style, str]] = [("", " " * (_LABEL + 1))]
    for word, share in cells:
        if share is not None:
            line += [("dim", f"{word} "), ("", f"{percent(share)}  ")]
    return [line] if len(line) > 1 else []


def _socket(port: PortTraffic) -> list[Line]:
    found = port.socket
    if found is None:
        return []
    indent: tuple[Style, str] = ("", " " * (_LABEL + 1))
    if not found.sockets:
        return [[indent, ("yellow", "no socket of this network namespace is bound to it")]]
    line: list[tuple[Style, str]] = [
        indent,
        ("dim", "socket drops "),
        ("red" if found.drops else "", fmt.count(found.drops)),
    ]
    if found.filled is not None:
        line += [("dim", "  buffer "), ("", f"{100 * found.filled:.0f} % full")]
    if found.processes:
        line.append(("dim", f"  {safe(', '.join(found.processes))}"))
    return [line]


def _words(mix: Mapping[str, float]) -> list[tuple[str, float | None]]:
    return [(_SHARES.get(name, name), share) for name, share in mix.items()]


def percent(share: float) -> str:
    """0.1234 → "12.3 %": for numbers that change each second."""
    return f"{100 * share:.0f} %" if share in (0, 1) or share >= 0.995 else f"{100 * share:.1f} %"


def _bursts(kept: deque[_Row], most: int) -> list[Line]:
    found: list[Line] = [
        [("", "      "), ("dim", "packets in, each 1/64 s; digit x: 2^x to 2^(x+1) packets")],
    ]
    for row in list(kept)[-most:]:
        cells: list[tuple[Style, str]] = []
        for at, packets in enumerate(row.bins):
            style: Style = "red" if at in row.spikes else "cyan"
            if cells and cells[-1][0] == style:
                cells[-1] = (style, cells[-1][1] + digit(packets))
            else:
                cells.append((style, digit(packets)))
        clock = _clock(row.unix_s - 1, "%M:%S")
        total = fmt.rate_short(sum(row.bins))
        found.append([("dim", f"{clock}│"), *cells, ("dim", "│"), ("", f"{total:>8}")])
    return found


def digit(packets: int) -> str:
    """The whole part of the logarithm to base 2, as one character; a blank for none."""
    return _DIGITS[min(packets.bit_length() - 1, len(_DIGITS) - 1)] if packets > 0 else " "


def _drops(line: WatchLine, memory: Memory, columns: int) -> list[Line]:
    now = _all_drops(line)
    before = {place: count for place, count in memory.drops.items() if count}
    if not before:
        blind = f"   not known: {', '.join(_PLACES[place] for place in line.blind)}" if line.blind else ""
        return [[("dim", f"{'dropped':{_LABEL}}"), ("", " nothing"), ("yellow", blind)]]
    cells: list[Sequence[tuple[Style, str]]] = []
    for place, total in sorted(before.items(), key=lambda item: -item[1]):
        count = now.get(place, 0)
        cells.append(
            [
                ("dim", f"{safe(_PLACES.get(place, place))} "),
                ("red" if count else "", f"{count:,}"),
                ("dim", f" of {total:,}"),
            ]
        )
    return _columns("dropped", cells, columns)


def _cpus(cpus: Mapping[str, WatchedCpu], columns: int) -> list[Line]:
    cells: list[Sequence[tuple[Style, str]]] = []
    busiest = sorted(cpus.items(), key=lambda item: -item[1].busy)
    room = 2 * max((columns - 1 - _LABEL) // (_CELL + 6), 1)
    for cpu, used in sorted(busiest[:room], key=lambda item: int(item[0])):
        style: Style = "red" if used.busy > 0.9 else ""
        packets = "" if used.packets is None else f"  {fmt.rate_short(used.packets)}"
        steal = f", steal {100 * used.steal:.0f}" if used.steal >= 0.005 else ""
        cells.append(
            [
                ("dim", f"{cpu}: "),
                (style, f"{100 * used.busy:.0f} %"),
                ("dim", f" (softirq {100 * used.softirq:.0f}{steal})"),
                ("", packets),
            ]
        )
    found = _columns("CPU", cells, columns, _CELL + 6)
    if len(cpus) > room:
        found.append([("dim", f"{'':{_LABEL}} {len(cpus) - room} more are less busy")])
    return found


def _talkers(ports: Sequence[PortTraffic], columns: int) -> list[Line]:
    found: list[Line] = []
    for port in ports:
        cells: list[Sequence[tuple[Style, str]]] = [
            [("", f"{one.prefix} "), ("dim", percent(one.share))] for one in port.talkers[:_TALKERS]
        ]
        if cells:
            named: list[Sequence[tuple[Style, str]]] = [[("dim", f"to {safe(port.port)}:")]] if len(ports) > 1 else []
            found += _columns("" if found else "talkers", [*named, *cells], columns)
    return found


def _spikes(memory: Memory, columns: int, *, named: bool) -> list[Line]:
    found: list[Line] = []
    for spike in reversed(memory.spikes.values()):
        port = f" {safe(spike.port)}" if named else ""
        cells: list[tuple[Style, str]] = [
            ("dim", f"{'spikes' if not found else '':{_LABEL}} "),
            ("yellow", _clock(spike.begin_unix_s, "%H:%M:%S.%f")[:-3]),
            ("", f"{port} {spike.direction} {fmt.duration(spike.seconds * 1e9)}, "),
            ("", f"peak {fmt.rate_short(spike.peak_per_s)}"),
            ("dim", f", usual {fmt.rate_short(spike.usual_per_s)}"),
            ("red", f", {spike.drops:,} dropped" if spike.drops else ""),
        ]
        room = columns - 1 - sum(len(text) for _, text in cells)
        for one in spike.talkers:
            text = f", {one.prefix} {percent(one.share)}"
            # Whole, or not at all.
            room -= len(text)
            cells.append(("dim", text if room >= 0 else ""))
        found.append(cells)
    return found


def _quota(line: WatchLine) -> list[Line]:
    quota = line.quota
    if quota is None:
        return []
    over = quota.projected > quota.bytes
    packets = "" if quota.fits_packets_per_s is None else f" ({fmt.rate_short(quota.fits_packets_per_s)})"
    return [
        [
            ("dim", f"{'quota':{_LABEL}} "),
            ("", f"{size(quota.used)} of {size(quota.bytes)}/{quota.per}"),
            ("dim", ", projected "),
            ("red" if over else "green", size(quota.projected)),
            ("dim", ", fits "),
            ("", f"{fmt.rate_short(8 * quota.fits_bytes_per_s).replace('/s', 'bit/s')}{packets}"),
        ]
    ]


def size(value: int) -> str:
    """Bytes in powers of 1000, as quotas are written: "1.23 TB"."""
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if value >= unit:
            return f"{value / unit:.3g} {name}" if value < 1000 * unit else f"{value / unit:,.0f} {name}"
    return f"{value} B"


def _notes(line: WatchLine, columns: int) -> list[Line]:
    return [[("yellow", safe(note)[: columns - 1])] for note in line.notes]


def _columns(label: str, cells: Sequence[Sequence[tuple[Style, str]]], columns: int, width: int = _CELL) -> list[Line]:
    """Cells side by side below each other; `label` before the first."""
    each = max((columns - 1 - _LABEL) // width, 1)
    found: list[Line] = []
    for begin in range(0, len(cells), each):
        line: list[tuple[Style, str]] = [("dim", f"{label if not begin else '':{_LABEL}} ")]
        for cell in cells[begin : begin + each]:
            line += [*cell, ("", " " * max(width - sum(len(text) for _, text in cell), 2))]
        found.append(line)
    return found


def plain(line: WatchLine) -> list[str]:
    """A second for a log: a line for each port, and one for each spike."""
    found = []
    dropped = _dropped(line)
    for port in line.ports:
        rates = "  ".join(
            f"{way} {fmt.rate_short(getattr(port, f'packets_{way}') / line.seconds):>9}"
            f" {bits(getattr(port, f'bytes_{way}'), line.seconds):>11}"
            for way in ("in", "out")
        )
        peak = f"  peak {fmt.rate_short(max(port.bins_in) * BINS)}" if port.bins_in else ""
        found.append(f"{line.t_s:8.1f} s  {safe(port.port)}  {rates}{peak}  dropped: {dropped or 'nothing'}")
    for spike in line.spikes:
        found.append(
            f"{'':10}  spike: {safe(spike.port)} {spike.direction}, {fmt.duration(spike.seconds * 1e9)} with a peak of "
            f"{fmt.rate_short(spike.peak_per_s)} for {fmt.rate_short(spike.usual_per_s)}"
        )
    return found


def totals(line: WatchLine) -> list[str]:
    """All of it, for the end."""
    found = []
    for port in line.ports:
        sizes = "" if port.bytes_in is None else f" ({size(port.bytes_in)})"
        sent = "" if port.bytes_out is None else f" ({size(port.bytes_out)})"
        drops = "" if port.socket is None else f", dropped at its sockets {fmt.count(port.socket.drops)}"
        found.append(
            f"in {fmt.seconds(line.t_s)}: {safe(port.port)} in {port.packets_in:,}{sizes}, "
            f"out {port.packets_out:,}{sent}{drops}"
        )
    if spikes := line.spikes:
        highest = max(spikes, key=lambda one: one.peak_per_s)
        found.append(f"{len(spikes)} spikes kept, the highest with {fmt.rate_short(highest.peak_per_s)}")
    if dropped := _dropped(line):
        found.append(f"dropped on this host by place, all ports, and of the watched ports by REASON: {dropped}")
    return found


def _dropped(line: WatchLine) -> str:
    found = {safe(_PLACES.get(name, name)): count for name, count in _all_drops(line).items() if count}
    return ", ".join(f"{name} {count:,}" for name, count in found.items())
