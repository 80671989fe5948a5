"""`flatout limit` as a newcomer uses it, against servers as they are installed: nothing pinned, default flags.

Beside each search, in the same minute, the most that dnsperf (16 clients) gets out of the same server, or the
kernel's ceiling with 1 % of loss. A search must end at 0.9 of that or more, or name the generator. Usage:
python bench/as_installed.py [--rounds 7] [--budget 20s] [--ceiling PATH] [--only NAME ...] --out DIR
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import flatout
from installed import protocol_of, server
from record import Record, spread


class Case(NamedTuple):
    """A server, its threads, and over what it is asked."""

    name: str
    threads: int
    transport: str = "udp"

    @property
    def title(self) -> str:
        """As the table has it."""
        return f"{self.name}, {self.threads} thread{'s' * (self.threads > 1)}, {self.transport}"


CASES = (
    Case("knot", 2),
    Case("unbound", 2),
    Case("nsd", 1),
    Case("chronyd", 1),
    Case("serve ntp", 1),
    Case("serve dns", 1),
    Case("knot", 2, "tcp"),
    Case("unbound", 2, "tcp"),
)
CLIENTS = 16
SECONDS = 3
CEILING_RATES = (200e3, 300e3, 350e3, 400e3, 450e3, 500e3, 550e3, 600e3)


def dnsperf(target: str, transport: str) -> float:
    """Answers per second, as fast as it goes."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as queries:
        queries.write("www.example.com A\n")
        queries.flush()
        host, _, port = target.rpartition(":")
        command = ["dnsperf", "-s", host, "-p", port, "-d", queries.name, "-m", transport]
        done = subprocess.run(
            [*command, "-c", str(CLIENTS), "-l", str(SECONDS)], capture_output=True, text=True, check=False
        )
    found = re.search(r"Queries per second:\s+([\d.]+)", done.stdout)
    return float(found[1]) if found else 0.0


def ceiling(path: str, target: str) -> float:
    """The most answers per second over a climb of rates, of those of which 99 % are answered."""
    best = 0.0
    for rate in CEILING_RATES:
        command = [path, "ask", target.rpartition(":")[2], str(rate), "seconds=1", "flows=64"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found = re.search(r"answered ([\d.]+)/s", done.stdout)
        answered = float(found[1]) if found else 0.0
        best = max(best, answered if answered >= 0.99 * rate else 0.0)
    return best


def measure(case: Case, budget: str, ceiling_path: str | None) -> dict[str, object]:
    """The peer, then a search of the same server."""
    options: dict[str, object] = {}
    protocol = protocol_of(case.name)
    with server(case.name, case.threads) as target, tempfile.NamedTemporaryFile("w", suffix=".txt") as queries:
        queries.write("www.example.com A\n")
        queries.flush()
        if protocol == "dns":
            options = {"queries": queries.name, "transport": case.transport}
            options |= {"connections": CLIENTS} if case.transport == "tcp" else {}
            peer = dnsperf(target, case.transport)
        else:
            peer = ceiling(ceiling_path, target) if ceiling_path else 0.0
        found = flatout.limit(protocol, target, budget=budget, **options)  # type: ignore[arg-type]
    limit = found.limit
    low, high = limit.interval or (0.0, 0.0)
    value = limit.value or 0.0
    right = limit.stopped_by == "generator" or not peer or value >= 0.9 * peer
    return {
        "peer_per_s": round(peer),
        "value_per_s": round(value),
        "ratio": round(value / peer, 3) if peer else 0.0,
        "low": round(low),
        "high": round(high),
        "stopped_by": limit.stopped_by,
        "holds": limit.holds,
        "censored": round(limit.censored, 3),
        "right": right,
        "took_s": round(found.duration_s, 1),
        "shared_cpus": bool(found.trials and found.trials[-1].placement and found.trials[-1].placement.shared_cpus),
        "sentence": found.sentence,
    }


def main() -> None:
    """Measures and keeps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--budget", default="20s")
    parser.add_argument("--ceiling", default=None)
    parser.add_argument("--only", nargs="*", default=None)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if shutil.which("dnsperf") is None:
        raise SystemExit("dnsperf is not installed here (Debian: dnsperf)")
    if arguments.ceiling is None:
        print("no --ceiling: NTP servers are searched without a comparison", file=sys.stderr)
    record = Record(arguments.out, "as_installed")
    cases = [case for case in CASES if arguments.only is None or case.name in arguments.only]
    for number in range(arguments.rounds):
        for case in cases:
            record.add(round=number, case=case.title, **measure(case, arguments.budget, arguments.ceiling))
    record.finish([_line(record, case) for case in cases])


def _line(record: Record, case: Case) -> str:
    values = record.values("value_per_s", case=case.title)
    peers = record.values("peer_per_s", case=case.title)
    rows = [row for row in record.rows if row["case"] == case.title]
    wrong = sum(not row["right"] for row in rows)
    by = ", ".join(sorted({str(row["stopped_by"]) for row in rows}))
    ratios = [value / peer for value, peer in zip(values, peers, strict=True) if peer] or [0.0]
    return (
        f"- {case.title}: {spread(values, 0)}/s against {spread(peers, 0)}/s of the peer, {spread(ratios)} of it; "
        f"ended by {by}; not right in {wrong} of {len(rows)}"
    )


if __name__ == "__main__":
    main()
