"""The kernel's memory for sockets is used up: net.ipv4.udp_mem or tcp_mem."""

from __future__ import annotations

from flatout.analysis.troubles import enough
from flatout.result.finding import Finding
from flatout.result.model import LoadResult


def find(run: LoadResult) -> Finding | None:
    """Udp MemErrors; TcpExt TCPMemoryPressures and TCPAbortOnMemory."""
    ledger = run.ledger
    if ledger is None:
        return None
    udp = ledger.count("udp_memory")
    aborted = ledger.at_target("TcpExt.TCPAbortOnMemory") if run.connections else 0
    pressed = ledger.at_target("TcpExt.TCPMemoryPressures") if run.connections else 0
    if not enough(udp, run) and not aborted and not pressed:
        return None
    setting = "udp_mem" if udp else "tcp_mem"
    return Finding(
        name="socket memory",
        sentence=f"The kernel's memory for {setting[:3].upper()} sockets was used up (net.ipv4.{setting}).",
        evidence=[f"Udp MemErrors {udp:,}", f"TcpExt TCPMemoryPressures {pressed:,}, TCPAbortOnMemory {aborted:,}"],
        remedy=f"raise net.ipv4.{setting}, or hold less data in sockets",
        confidence="high",
        explains=udp,
    )
