"""The kernel's memory for sockets is scarce: net.ipv4.udp_mem for datagrams, tcp_mem for connections."""

from __future__ import annotations

from flatout.analysis.troubles import enough, in_trouble
from flatout.result.finding import Finding
from flatout.result.model import LoadResult


def find(run: LoadResult) -> Finding | None:
    """Udp MemErrors; in a run that had trouble TcpExt TCPMemoryPressures and TCPAbortOnMemory."""
    ledger = run.ledger
    if ledger is None:
        return None
    udp = ledger.count("udp_memory")
    if enough(udp, run):
        return _finding(
            "The kernel's memory for UDP sockets was used up (net.ipv4.udp_mem).",
            f"Udp MemErrors of the target's network namespace: {udp:,}",
            "raise net.ipv4.udp_mem, or hold less data in sockets",
            explains=udp,
        )
    aborted, pressed = (ledger.at_target(f"TcpExt.{name}") for name in ("TCPAbortOnMemory", "TCPMemoryPressures"))
    if run.connections is None or not aborted + pressed or not in_trouble(run):
        return None
    counted = f"TcpExt TCPMemoryPressures {pressed:,}, TCPAbortOnMemory {aborted:,}, of the target's network namespace"
    if not aborted:
        sentence = f"The kernel's memory for TCP sockets came under pressure {pressed:,} times (net.ipv4.tcp_mem)."
        return _finding(sentence, counted, "raise net.ipv4.tcp_mem, or hold less data in sockets", sure=False)
    # The kernel counts both in one number (tcp_check_oom).
    return _finding(
        f"The kernel ended {aborted:,} connections: its memory for TCP sockets was used up (net.ipv4.tcp_mem), or too "
        "many connections had no process any more (net.ipv4.tcp_max_orphans).",
        counted,
        "raise net.ipv4.tcp_mem or tcp_max_orphans: the kernel's log says which (dmesg)",
        sure=pressed > 0,
    )


def _finding(sentence: str, evidence: str, remedy: str, *, sure: bool = True, explains: int = 0) -> Finding:
    return Finding(
        name="socket memory",
        sentence=sentence,
        evidence=[evidence],
        remedy=remedy,
        confidence="high" if sure else "medium",
        explains=explains,
    )
