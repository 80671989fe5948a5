"""No ephemeral port is left on the generator's host: connections cannot be opened (EADDRNOTAVAIL)."""

from __future__ import annotations

from flatout.analysis.troubles import enough
from flatout.result.finding import Finding
from flatout.result.model import LoadResult

# Fewer free ports than this share: others hold some of the range, and closed connections keep theirs for 60 s.
_NEARLY = 0.5


def find(run: LoadResult) -> Finding | None:
    """Connections that failed on this host while they were about as many as it has ports."""
    ledger, connections = run.ledger, run.connections
    if ledger is None or connections is None or not enough(connections.local, run):
        return None
    limits = ledger.surroundings.limits
    ports, files = limits.get("ports"), limits.get("files")
    opened = connections.peak + connections.local
    if ports is None or opened < _NEARLY * ports or (files is not None and connections.peak >= 0.95 * files):
        return None
    return Finding(
        name="ephemeral ports",
        sentence=f"This host had no port left for {connections.local:,} connections: the range has {ports:,} for one "
        "target, less those that others hold or that are in TIME_WAIT.",
        evidence=[f"{connections.local:,} attempts failed on this host, {connections.peak:,} connections were open"],
        remedy="more source addresses (--sources), or a wider net.ipv4.ip_local_port_range",
        confidence="high" if opened >= ports else "medium",
    )
