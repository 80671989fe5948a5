"""Reads the kernel's counters of one network namespace, and how much they grew between two readings.

Sources below /proc/net, or /proc/PID/net of another namespace: snmp, snmp6, netstat (MIBs), dev (devices),
stat/nf_conntrack. Names are the kernel's: "Udp.RcvbufErrors", "TcpExt.ListenOverflows", "Udp6RcvbufErrors",
"dev.eth0.tx_dropped", "conntrack.drop". What cannot be read is named in `blind` with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_WORD = 2**32
# What another module reads.
NETLINK = "netlink"
_CONNTRACK = "stat/nf_conntrack"
_DEVICE_FIELDS = {2: "rx_errors", 3: "rx_dropped", 10: "tx_errors", 11: "tx_dropped"}
Values = dict[str, int]


class Counters(NamedTuple):
    """All counters of a namespace at one moment, and the sources that could not be read."""

    values: Values
    blind: dict[str, str]


@dataclass(frozen=True)
class Growth:
    """By how much counters grew: those that did. `blind`: the sources of which that is not known, with the reason."""

    values: Values
    blind: dict[str, str]

    def __getitem__(self, name: str) -> int:
        """By how much a counter grew; 0 where it did not."""
        return self.values.get(name, 0)

    def unknown(self, *names: str) -> str:
        """Why counters are unknown, themselves or their sources; empty where all are known."""
        of_all = (part for name in names for part in (name, source_of(name)))
        return next((self.blind[part] for part in of_all if part in self.blind), "")


def read(net: Path) -> Counters:
    """The counters below a directory such as /proc/net."""
    values: Values = {}
    blind: dict[str, str] = {}
    for name, parse in _SOURCES.items():
        try:
            values |= parse((net / name).read_text(encoding="ascii", errors="replace"))
        except FileNotFoundError:
            # A kernel without IPv6 or connection tracking counts nothing there, and loses nothing there.
            if name in ("snmp", "netstat", "dev"):
                blind[name] = f"{net / name} does not exist"
        except OSError as error:
            blind[name] = f"{net / name} cannot be read: {error.strerror}"
        except (ValueError, IndexError):
            blind[name] = f"{net / name} is not as this version of flatout knows it"
    return Counters(values, blind)


def tcp_in_use(net: Path) -> int:
    """TCP sockets in use now, with those in TIME_WAIT (sockstat); 0 where that cannot be read."""
    try:
        words = (net / "sockstat").read_text(encoding="ascii").partition("\nTCP:")[2].splitlines()[0].split()
        return sum(int(words[words.index(name) + 1]) for name in ("inuse", "tw"))
    except (OSError, ValueError, IndexError):
        return 0


def conntrack_entries(net: Path) -> int | None:
    """Entries of a namespace's table of tracked connections now (stat/nf_conntrack); None where that is not told."""
    try:
        names, row, *_ = (net / _CONNTRACK).read_text(encoding="ascii").splitlines()
        return int(row.split()[names.split().index("entries")], 16)
    except (OSError, ValueError, IndexError):
        return None


def growth(before: Counters, after: Counters) -> Growth:
    """What changed. A name that the kernel shows only since it was first used counts from 0.

    Nothing of a source counts that could not be read one of both times: all since boot would count as growth.
    """
    found: Values = {}
    blind = {**before.blind, **after.blind}
    for name, now in after.values.items():
        if source_of(name) in blind:
            continue
        grown = grew(before.values.get(name, 0), now)
        if grown is None:
            blind[name] = f"{name} was set back during the run"
        elif grown:
            found[name] = grown
    for name in before.values.keys() - after.values.keys():
        if before.values[name] and source_of(name) not in blind:
            blind[name] = f"{name} vanished during the run"
    return Growth(found, blind)


def source_of(name: str) -> str:
    """The source of a counter, by its name; a source is its own."""
    table, dot, _ = name.partition(".")
    if not dot:
        return name if name in (*_SOURCES, NETLINK) else "snmp6"
    return _TABLES.get(table, "snmp")


def grew(before: int, after: int) -> int | None:
    """By how much a counter grew, which may have passed 32 bits; None where it was set back."""
    if after >= before:
        return after - before
    passed = after + _WORD - before
    return passed if before < _WORD and passed < _WORD // 2 else None


def _pairs(text: str) -> Values:
    """Of snmp and netstat: a line of names and one of numbers."""
    found: Values = {}
    for names, numbers in _by_two(text.splitlines()):
        table, *columns = names.split()
        for column, number in zip(columns, numbers.split()[1:], strict=False):
            found[f"{table.rstrip(':')}.{column}"] = int(number)
    return found


def _by_two(lines: list[str]) -> list[tuple[str, str]]:
    return list(zip(lines[::2], lines[1::2], strict=False))


def _lines(text: str) -> Values:
    """Of snmp6: a name and a number a line."""
    words = (line.split() for line in text.splitlines())
    return {word[0]: int(word[1]) for word in words if len(word) == 2}


def _devices(text: str) -> Values:
    found: Values = {}
    for line in text.splitlines()[2:]:
        name, colon, rest = line.rpartition(":")
        fields = rest.split()
        if colon:
            found |= {f"dev.{name.strip()}.{what}": int(fields[at]) for at, what in _DEVICE_FIELDS.items()}
    return found


def _conntrack(text: str) -> Values:
    """One row a CPU, in hexadecimal, below a line of names."""
    names, *rows = [line.split() for line in text.splitlines()] or [[]]
    found: Values = {}
    for row in rows:
        for name, number in zip(names, row, strict=False):
            found[f"conntrack.{name}"] = found.get(f"conntrack.{name}", 0) + int(number, 16)
    # The number of entries now, the same in each row, is no counter.
    found.pop("conntrack.entries", None)
    return found


_SOURCES: dict[str, Callable[[str], Values]] = {
    "snmp": _pairs,
    "netstat": _pairs,
    "snmp6": _lines,
    "dev": _devices,
    _CONNTRACK: _conntrack,
}
# The source of each table that is not of snmp.
_TABLES = {
    **dict.fromkeys(("TcpExt", "IpExt", "MPTcpExt"), "netstat"),
    **dict.fromkeys(("qdisc", "ingress", "link"), NETLINK),
    "dev": "dev",
    "conntrack": _CONNTRACK,
}
