"""The hosts of a fleet in the live view: one line each, those in trouble first. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from flatout.runner.progress import HostProgress
from flatout.view import format as fmt

# So many have a line of their own.
MOST = 8
# A host tells its progress four times a second.
_SILENT_S = 2.0


def worst_first(hosts: Sequence[HostProgress]) -> list[HostProgress]:
    """Those that tell nothing, then those that left most unsent, then the latest; equal ones as they came."""
    return sorted(hosts, key=lambda host: (-_silent(host), -host.unsent, -(host.lateness_p99_ns or 0)))


def _silent(host: HostProgress) -> float:
    return host.silent_s if host.silent_s >= _SILENT_S and host.phase != "done" else 0.0


def cells(hosts: Sequence[HostProgress]) -> list[tuple[str, str, str]]:
    """The lines as name, numbers, and what is wrong; the last one counts those without a line."""
    shown = worst_first(hosts)[:MOST]
    found = [(fmt.plain(host.host), _numbers(host), _trouble(host)) for host in shown]
    more = len(hosts) - len(shown)
    return [*found, ("", f"and {more} more", "")] if more else found


def _numbers(host: HostProgress) -> str:
    streams = "" if host.connections is None else f"  {fmt.count(host.connections)} connections"
    lost = f"  lost {fmt.count(host.lost)}" if host.lost else ""
    rate = fmt.rate(host.rate_per_s)
    return f"{host.phase:10}  {rate:>12}  late p99 {fmt.duration(host.lateness_p99_ns):>7}{streams}{lost}"


def _trouble(host: HostProgress) -> str:
    if silent := _silent(host):
        return f"no word for {fmt.seconds(silent)}"
    return f"unsent {fmt.count(host.unsent)}" if host.unsent else ""
