"""The receive backlog of a CPU (softnet) overflows: packets come faster than its soft interrupt takes them in."""

from __future__ import annotations

from flatout.analysis.troubles import enough, share_of_load
from flatout.result.finding import Finding
from flatout.result.model import LoadResult


def find(run: LoadResult) -> Finding | None:
    """Drops by /proc/net/softnet_stat while something was lost."""
    ledger = run.ledger
    dropped = ledger.count("backlog") if ledger else 0
    if ledger is None or not enough(dropped, run):
        return None
    size = ledger.surroundings.limits.get("netdev_max_backlog")
    room = f" It has room for {size:,} packets (net.core.netdev_max_backlog)." if size else ""
    return Finding(
        name="softnet backlog",
        sentence=f"A CPU's receive backlog was full: this host dropped {dropped:,} packets before any socket.{room}",
        evidence=[_counted(run), *_softirq(run)],
        remedy="raise net.core.netdev_max_backlog, or spread the packets over more CPUs (RPS: rps_cpus)",
        confidence="medium",
        explains=ledger.lost_at("backlog"),
    )


def _counted(run: LoadResult) -> str:
    drops = run.contention.backlog_drops if run.contention else None
    return f"/proc/net/softnet_stat, column 2, of all programs: {drops or 0:,}"


def _softirq(run: LoadResult) -> list[str]:
    about = run.contention
    if about is None or not about.softirq_s:
        return []
    cpu, seconds = max(about.softirq_s.items(), key=lambda pair: pair[1])
    return [f"CPU {cpu}: {share_of_load(run, seconds):.0%} of the time in soft interrupts"]
