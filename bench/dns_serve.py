"""DNS servers of one static answer on one core, in turn: Knot DNS, `flatout serve dns`, and the kernel's ceilings.

Each round finds for each server the most right answers per second over a climb of rates; over UDP from 64 flows without
GSO, over TCP from 100 connections. The ceilings echo, so they are asked with echo. All serve from the last CPU.
Usage: python bench/dns_serve.py --ceiling PATH --ceiling-tcp PATH [--rounds 7] --out DIR
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import flatout
from peers import ASKER, ceiling
from record import Record, ratios, spread
from streams import ceiling_tcp, knot, ours

RATES = {"udp": [220e3, 270e3, 330e3, 400e3], "tcp": [120e3, 170e3, 230e3, 300e3]}
Server = Callable[[], AbstractContextManager[object]]


def most(target: str, protocol: str, transport: str) -> float:
    """The most answers per second over a climb of rates."""
    best = 0.0
    for rate in RATES[transport]:
        result = flatout.load(
            protocol,
            target,
            rate=rate,
            duration=1.0,
            warmup=0.2,
            timeout=0.25,
            transport=transport,
            connections=64 if transport == "udp" else 100,
            cpus=(ASKER,),
        )
        # The ceiling over UDP mirrors nothing of a request, but it answers.
        outcomes = result.outcomes
        answers = (outcomes.answered + outcomes.late + outcomes.invalid) / result.duration_s
        best = max(best, answers)
        if answers < 0.8 * best:
            break
    return best


def main() -> None:
    """Measures and keeps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ceiling", required=True)
    parser.add_argument("--ceiling-tcp", required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    record = Record(arguments.out, "dns_serve")
    static = ("--answer", "192.0.2.1")
    servers: dict[str, dict[str, Server]] = {
        "udp": {
            "ceiling": lambda: ceiling(arguments.ceiling, "stamp", "pktinfo"),
            "knot": knot,
            "flatout": lambda: ours("dns", *static),
        },
        "tcp": {
            "ceiling": lambda: ceiling_tcp(arguments.ceiling_tcp),
            "knot": knot,
            "flatout": lambda: ours("dns", *static),
        },
    }
    for number in range(arguments.rounds):
        for transport, some in servers.items():
            for name, server in some.items():
                protocol = ("ntp" if transport == "udp" else "echo") if name == "ceiling" else "dns"
                with server() as started:
                    target = started if isinstance(started, str) else started[0]  # type: ignore[index]
                    found = most(target, protocol, transport)
                record.add(round=number, transport=transport, server=name, answers_per_s=round(found))
    text = []
    for transport, some in servers.items():
        found_by = {name: record.values("answers_per_s", server=name, transport=transport) for name in some}
        text += [f"- {transport}, {name}: {spread(values, 0)} answers/s" for name, values in found_by.items()]
        for other in ("ceiling", "knot"):
            text.append(f"- {transport}, flatout / {other}: {spread(ratios(found_by['flatout'], found_by[other]))}")
    record.finish([*text, "- Knot's configuration: one worker a transport, one zone; in bench/streams.py"])


if __name__ == "__main__":
    main()
