"""What the ledger knows of a run whose frames go by a driver (XDP), past this host's sockets and network layer. Pure.

The engine counts in one number what AF_XDP sockets had no room for and what the interface did not send; the interface
has the latter alone. Refusals (ICMP) go to the kernel, which has no socket that they could be for.
"""

from __future__ import annotations

from collections.abc import Iterator

from flatout.host.counters import NETLINK
from flatout.host.drops import Dropped
from flatout.result.ledger import LedgerLine
from flatout.result.model import LoadResult
from flatout.runner.counters import Sampled

SOCKETS = "this generator's AF_XDP sockets"
SOURCE = "XDP_STATISTICS rx_dropped, rx_ring_full"


def unsent(result: LoadResult, sampled: Sampled) -> int:
    """Frames that the interface took and did not send. Where it is a veth its other end counts them too."""
    if result.link is None:
        return 0
    kind = "dev" if sampled.own.unknown(NETLINK) else "link"
    return sampled.own[f"{kind}.{result.link.interface}.tx_dropped"]


def unread(result: LoadResult, sampled: Sampled) -> int:
    """Replies that AF_XDP sockets had no room for. The interface counts them too."""
    return 0 if result.link is None else max(result.own_drops - unsent(result, sampled), 0)


def of_run(result: LoadResult, drops: list[Dropped]) -> list[Dropped]:
    """What the kernel dropped of this run: requests that it drops here itself are other programs'."""
    return [one for one in drops if result.link is None or one.space != "own" or not one.towards]


def refusals(result: LoadResult, sampled: Sampled) -> Iterator[LedgerLine]:
    """ICMP errors that came back, of the whole namespace: the kernel cannot tell whose they were."""
    name = "Icmp.InDestUnreachs" if sampled.version == 4 else "Icmp6InDestUnreachs"
    if result.link is not None and sampled.own[name] > 0:
        where = "this host's network namespace"
        yield LedgerLine(side="beside", place="port_closed", count=sampled.own[name], where=where, source=name)
