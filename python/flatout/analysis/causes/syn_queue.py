"""The SYN queue is full: the kernel answers with SYN cookies, or drops connection requests where these are off."""

from __future__ import annotations

from flatout.analysis.troubles import in_trouble
from flatout.result.finding import Finding
from flatout.result.model import LoadResult


def find(run: LoadResult) -> Finding | None:
    """TcpExt SyncookiesSent and TCPReqQFullDrop in a run that had trouble: alone they harm nobody."""
    ledger = run.ledger
    if ledger is None or not in_trouble(run):
        return None
    cookies, dropped = ledger.count("syn_cookies"), ledger.count("syn_queue")
    # 2: the kernel sends cookies for every request, full or not. That of another namespace cannot be read.
    always = ledger.target_namespace == "same" and ledger.surroundings.limits.get("tcp_syncookies") == 2
    if not cookies + dropped or always:
        return None
    what = [
        *([f"{cookies:,} handshakes went by SYN cookies"] if cookies else []),
        *([f"{dropped:,} connection requests were dropped"] if dropped else []),
    ]
    return Finding(
        name="SYN queue",
        sentence=f"The target's SYN queue was full: {' and '.join(what)}.",
        evidence=[f"TcpExt SyncookiesSent {cookies:,}, TCPReqQFullDrop {dropped:,}, of the network namespace"],
        remedy="a larger backlog in listen(), net.core.somaxconn and net.ipv4.tcp_max_syn_backlog; or open connections "
        "more slowly (--connect-rate)",
        confidence="medium",
    )
