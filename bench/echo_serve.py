"""Echo servers under `flatout limit echo --p99 2ms`, in turn: tcpscaler's, plain epoll, flatout's.

All serve from the last CPU, the asker is on the first. Usage:
python bench/echo_serve.py --ceiling-tcp PATH --tcpserver PATH [--rounds 7] [--budget 10] --out DIR
"""

from __future__ import annotations

import argparse
import resource
from pathlib import Path

import flatout
from peers import ASKER
from record import Record, ratios, spread
from streams import ceiling_tcp, ours, tcpserver

CONNECTIONS = [5, 2000]
LEAST = 80e3


def limit(target: str, connections: int, budget: float) -> tuple[float, str]:
    """The highest rate at which 99 % of the answers come within 2 ms, and why the search ended."""
    found = flatout.limit(
        "echo",
        target,
        p99="2ms",
        budget=budget,
        least=LEAST,
        within=0.05,
        transport="tcp",
        connections=connections,
        cpus=(ASKER,),
    )
    return found.limit.value or 0.0, found.limit.stopped_by


def main() -> None:
    """Measures and keeps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ceiling-tcp", required=True)
    parser.add_argument("--tcpserver", help="tcpscaler's tcpserver, built with -O2; left out where it is absent")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--budget", type=float, default=10.0)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    record = Record(arguments.out, "echo_serve")
    servers = {
        "ceiling_tcp": lambda: ceiling_tcp(arguments.ceiling_tcp),
        "flatout": lambda: ours("echo"),
    }
    if arguments.tcpserver:
        servers["tcpserver"] = lambda: tcpserver(arguments.tcpserver)
    for number in range(arguments.rounds):
        for connections in CONNECTIONS:
            for name, server in servers.items():
                with server() as (target, _):
                    value, why = limit(target, connections, arguments.budget)
                record.add(round=number, connections=connections, server=name, per_s=round(value), stopped_by=why)
    text = []
    for connections in CONNECTIONS:
        found = {name: record.values("per_s", server=name, connections=connections) for name in servers}
        text += [f"- {connections} connections, {name}: {spread(values, 0)} /s" for name, values in found.items()]
        for other in servers.keys() - {"flatout"}:
            # One that fails at the minimum counts as holding it, which favours it.
            both = ratios(found["flatout"], [max(value, LEAST) for value in found[other]])
            text.append(f"- {connections} connections, flatout / {other}: {spread(both)}")
    if not arguments.tcpserver:
        text.append("- tcpserver was not given and is not compared")
    record.finish(text)


if __name__ == "__main__":
    main()
