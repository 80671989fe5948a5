"""What a growing number of connections costs: queries per second and p99 over 10 to 1,000,000 of them, UDP beside.

`serve echo` and `load echo` on one machine. For each number: how long opening took, the most queries per second out of
a climb of rates, p99 at 20,000 queries a second, memory per connection on both sides. `--only N` does one number
once at 20,000 a second: the million-connection run is `--only 1000000`. Usage: python bench/connections.py --out DIR
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import flatout
from peers import ASKER, SERVER
from record import Record
from streams import free_tcp_port

COUNTS = [10, 100, 1_000, 10_000, 100_000, 1_000_000]
RATES = [40e3, 60e3, 80e3, 100e3, 130e3, 160e3, 200e3]
STEADY = 20e3
WARMUP = 3.0


def asked(target: str, connections: int, rate: float, seconds: float, transport: str) -> flatout.LoadResult:
    """One load of 31-byte messages, uniformly over the connections."""
    streams: dict[str, object] = {"connect_rate": 40e3} if transport == "tcp" else {}
    return flatout.load(
        "echo",
        target,
        rate=rate,
        duration=seconds,
        warmup=WARMUP,
        transport=transport,
        connections=connections,
        arrivals="poisson",
        cpus=(ASKER,),
        **streams,  # type: ignore[arg-type]
    )


def most(target: str, connections: int, transport: str) -> float:
    """The most right answers per second over a climb of rates."""
    best = 0.0
    for rate in RATES:
        answered = asked(target, connections, rate, 2.0, transport).rate_per_s.answered
        best = max(best, answered)
        if answered < 0.9 * rate:
            break
    return best


def one(record: Record, connections: int, transport: str, *, climb: bool, seconds: float) -> None:
    """One row of the table, with a server of its own."""
    target = f"127.0.0.1:{free_tcp_port()}"
    with flatout.serve("echo", target, threads=1, cpus=(SERVER,)) as server:
        began = time.monotonic()
        steady = asked(target, connections, STEADY, seconds, transport)
        took = time.monotonic() - began
        stats = server.stats()
        top = most(target, connections, transport) if climb else 0.0
    links, due = steady.connections, steady.latency_ns.from_due
    opening_s = round(took - seconds - WARMUP, 1)
    record.add(
        transport=transport,
        connections=connections,
        open_and_close_s=opening_s,
        established=links.established if links else 0,
        lost=(links.reset + links.closed + links.failed) if links else 0,
        answered_share=round(steady.outcomes.answered / max(steady.outcomes.planned, 1), 5),
        p99_us=round(due.p99 / 1e3) if due else 0,
        most_per_s=round(top),
        asker_bytes_each=steady.memory.per_connection,
        server_bytes_each=round(stats.get("memory_bytes", 0) / max(connections, 1)),
        carrier=steady.carrier,
        verdict=steady.verdict,
    )


def main() -> None:
    """Measures and keeps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", type=int)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    record = Record(arguments.out, "million" if arguments.only else "connections")
    if arguments.only:
        one(record, arguments.only, "tcp", climb=False, seconds=arguments.seconds)
    else:
        one(record, 64, "udp", climb=True, seconds=arguments.seconds)
        for connections in COUNTS:
            one(record, connections, "tcp", climb=connections <= 100_000, seconds=arguments.seconds)
    record.finish(["- server and asker in one process, one thread and one CPU each"])


if __name__ == "__main__":
    main()
