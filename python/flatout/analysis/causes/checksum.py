"""Datagrams arrive with a wrong checksum: something on the way changes them."""

from __future__ import annotations

from flatout.analysis.troubles import enough, many
from flatout.result.finding import Finding
from flatout.result.model import LoadResult


def find(run: LoadResult) -> Finding | None:
    """Udp InCsumErrors in the target's network namespace."""
    ledger = run.ledger
    wrong = ledger.count("udp_checksum") if ledger else 0
    if ledger is None or not enough(wrong, run):
        return None
    return Finding(
        name="wrong checksum",
        sentence=f"{many(run, wrong)} arrived with a wrong UDP checksum and were dropped: something on the way "
        "changes them.",
        evidence=[
            f"{line.where}: {line.counted or line.count:,} ({line.source})"
            for line in ledger.lines
            if line.place == "udp_checksum" and line.count
        ],
        remedy="look for what rewrites packets (NAT, tunnels); try without offloads: ethtool -K DEVICE tx off rx off",
        confidence="high",
        explains=wrong,
    )
