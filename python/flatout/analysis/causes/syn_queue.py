"""The SYN queue is full: the kernel answers with SYN cookies, or drops connection requests where these are off."""

from __future__ import annotations

from flatout.analysis.troubles import in_trouble
from flatout.result.finding import Finding
from flatout.result.model import LoadResult

# The kernel's first repetition of a handshake comes after 1 s.
_RETRY_NS = 900_000_000


def find(run: LoadResult) -> Finding | None:
    """TcpExt SyncookiesSent and TCPReqQFullDrop in a run that had trouble: alone they harm nobody."""
    ledger = run.ledger
    if ledger is None or not in_trouble(run):
        return None
    cookies, dropped = ledger.count("syn_cookies"), ledger.count("syn_queue")
    # 2: the kernel sends cookies for every request, full or not. That of another namespace cannot be read.
    always = ledger.target_namespace == "same" and ledger.surroundings.limits.get("tcp_syncookies") == 2
    # Without cookies the kernel keeps a quarter of the queue for hosts that it knows, and counts no more than a drop.
    unnamed = ledger.count("listen_drops") if not ledger.count("accept_queue") and _in_vain(run) else 0
    dropped = max(dropped, unnamed)
    if not cookies + dropped or always:
        return None
    what = [
        *([f"{cookies:,} handshakes went by SYN cookies"] if cookies else []),
        *([f"{dropped:,} connection requests were dropped"] if dropped else []),
    ]
    return Finding(
        name="SYN queue",
        sentence=f"The target's SYN queue was full: {' and '.join(what)}.",
        evidence=[
            f"TcpExt SyncookiesSent {cookies:,}, TCPReqQFullDrop {dropped:,}, of the network namespace",
            *([f"TcpExt ListenDrops beyond ListenOverflows: {unnamed:,}"] if unnamed else []),
        ],
        remedy="a larger backlog in listen(), net.core.somaxconn and net.ipv4.tcp_max_syn_backlog, then restart the "
        "program; or open connections more slowly (--connect-rate)",
        confidence="medium",
    )


def _in_vain(run: LoadResult) -> bool:
    """Whether connections were not established, or only when they were asked for again."""
    failed = run.connections is not None and run.connections.failed > 0
    return failed or (run.connect_ns is not None and run.connect_ns.max >= _RETRY_NS)
