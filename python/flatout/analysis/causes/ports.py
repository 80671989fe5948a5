"""No ephemeral port is left on the generator's host: connections cannot be opened (EADDRNOTAVAIL)."""

from __future__ import annotations

from flatout.analysis.troubles import enough_connections
from flatout.result.finding import Finding
from flatout.result.model import LoadResult


def find(run: LoadResult) -> Finding | None:
    """Connections that could not be opened for want of a port, by the kernel's error."""
    ledger, connections = run.ledger, run.connections
    if ledger is None or connections is None or not enough_connections(connections.no_port, run):
        return None
    limits = ledger.surroundings.limits
    ports = limits.get("ports")
    room = (
        f": the range has {ports:,} for one target, less those that others hold or that are in TIME_WAIT"
        if ports
        else ""
    )
    return Finding(
        name="ephemeral ports",
        sentence=f"This host had no port left for {connections.no_port:,} connections{room}.",
        evidence=[
            f"{connections.no_port:,} attempts ended with EADDRNOTAVAIL, {connections.peak:,} connections were open at "
            "once",
            f"/proc/net/sockstat: {limits.get('tcp_in_use', 0):,} other TCP sockets in use or in TIME_WAIT",
        ],
        remedy="more source addresses (--sources), or a wider net.ipv4.ip_local_port_range",
        confidence="high",
    )
