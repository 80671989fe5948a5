"""No ephemeral port is left on the generator's host: connections cannot be opened (EADDRNOTAVAIL)."""

from __future__ import annotations

from flatout.analysis.troubles import enough
from flatout.result.finding import Finding
from flatout.result.model import LoadResult

_NEARLY = 0.9


def find(run: LoadResult) -> Finding | None:
    """Connections that failed on this host while they were about as many as it has ports."""
    ledger, connections = run.ledger, run.connections
    if ledger is None or connections is None or not enough(connections.local, run):
        return None
    limits = ledger.surroundings.limits
    ports, files = limits.get("ports"), limits.get("files")
    # Those of others, and of closed connections for 60 s, are seen when this run's own are closed.
    wanted = limits.get("tcp_in_use", 0) + connections.peak + connections.local
    if ports is None or wanted < _NEARLY * ports or (files is not None and connections.peak >= 0.95 * files):
        return None
    return Finding(
        name="ephemeral ports",
        sentence=f"This host had no port left for {connections.local:,} connections: the range has {ports:,} for one "
        "target, less those that others hold or that are in TIME_WAIT.",
        evidence=[
            f"{connections.local:,} attempts failed on this host, {connections.peak:,} connections were open at once",
            f"/proc/net/sockstat: {limits.get('tcp_in_use', 0):,} other TCP sockets in use or in TIME_WAIT",
        ],
        remedy="more source addresses (--sources), or a wider net.ipv4.ip_local_port_range",
        confidence="high" if wanted >= ports else "medium",
    )
