"""The places of the ledger that are devices: full rings told apart from other drops and errors. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flatout.host.counters import NETLINK, Growth
from flatout.runner.places import Counted

_SENDING = ("tx_dropped", "tx_errors")
_RECEIVING = ("rx_dropped", "rx_nohandler")


def names(growth: Growth) -> list[str]:
    """The devices of a namespace whose counters moved, without loopback, which counts what the backlog dropped."""
    found = {name.partition(".")[2].rpartition(".")[0] for name in growth.values if name.startswith(("dev.", "link."))}
    return sorted(found - {"lo"})


def places(
    growth: Growth, devices: Sequence[str], where: str, *, elsewhere: int = 0, only_sending: bool = False
) -> Iterator[Counted]:
    """Full rings, packets for other hosts, then all other drops and errors.

    elsewhere: what another place counts of the same packets. only_sending: nothing of this run comes in.
    """
    blind = growth.unknown(NETLINK)
    if blind:
        # /proc/net/dev adds rings to drops.
        blind = growth.unknown("dev")
        fields = _SENDING if only_sending else ("rx_errors", "rx_dropped", *_SENDING)
        number = max(sum(_sum(growth, "dev", device, fields) for device in devices) - elsewhere, 0)
        yield Counted("device", None if blind else number, where, "/proc/net/dev", blind)
        return
    if not only_sending:
        rings = sum(_ring(growth, device) for device in devices)
        yield Counted("device_ring", rings, where, "IFLA_STATS64 rx_missed_errors, rx_fifo_errors, rx_over_errors")
        other_host = sum(growth[f"link.{device}.rx_otherhost_dropped"] for device in devices)
        yield Counted("other_host", other_host, where, "IFLA_STATS64 rx_otherhost_dropped")
    fields = _SENDING if only_sending else (*_RECEIVING, *_SENDING)
    number = sum(_sum(growth, "link", device, fields) for device in devices)
    if not only_sending:
        number += sum(_errors(growth, device) for device in devices)
    moved = [name for name in ("rx_errors", *fields) if any(growth[f"link.{device}.{name}"] for device in devices)]
    yield Counted("device", max(number - elsewhere, 0), where, f"IFLA_STATS64 {', '.join(moved)}".strip())


def _sum(growth: Growth, kind: str, device: str, fields: Sequence[str]) -> int:
    return sum(growth[f"{kind}.{device}.{field}"] for field in fields)


def _overflows(growth: Growth, device: str) -> int:
    """Drivers use either counter, or both for one packet."""
    return max(growth[f"link.{device}.rx_fifo_errors"], growth[f"link.{device}.rx_over_errors"])


def _ring(growth: Growth, device: str) -> int:
    return growth[f"link.{device}.rx_missed_errors"] + _overflows(growth, device)


def _errors(growth: Growth, device: str) -> int:
    """The sum of errors has overflows in it with many drivers."""
    return max(growth[f"link.{device}.rx_errors"] - _overflows(growth, device), 0)
