"""Clients against one plain epoll echo server, in turn, by answers per CPU second: tcpclient, ceiling_tcp, flatout.

The server is on the last CPU, the client on the first. flatout and ceiling_tcp are asked for a climb of rates, of which
the best is kept; tcpclient for one that it is known to do, and all of its queries are taken to be answered, which
favours it (its own count, -R, would cost it much time).

The climb ends above what any of them can do: all spin, so that at a rate that they reach, answers per CPU second say
how long they took to start and nothing else. CPU seconds are counted twice: of the whole process, which for flatout
includes some 0.4 s of Python's start, and of the load alone, for flatout that of its load threads.
Usage: python bench/echo_ask.py --ceiling-tcp PATH [--tcpclient PATH] [--connections 5 2000] [--rounds 7] --out DIR
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

from peers import ASKER
from record import Record, ratios, spread
from streams import ceiling_tcp, run_on

SECONDS = 3
CLIMB = {5: [500e3, 900e3, 1.2e6], 2000: [240e3, 300e3]}
TCPCLIENT = {5: 250e3, 2000: 100e3}
# Answers, CPU seconds of the whole process, CPU seconds of the load.
Asked = tuple[float, float, float]
Client = Callable[[str, int, float], Asked]


def ours(target: str, connections: int, rate: float) -> Asked:
    """`flatout load echo`."""
    command = [sys.executable, "-m", "flatout", "load", "echo", target, "--transport", "tcp", "--rate", str(rate)]
    command += ["--connections", str(connections), "--for", f"{SECONDS}s", "--warmup", "0s", "--cpus", str(ASKER)]
    out, used = run_on(ASKER, [*command, "--json", "-", "--quiet"])
    result = json.loads(out[out.index("{") : out.rindex("}") + 1])
    return float(result["outcomes"]["answered"]), used, float(result["cpu_s"]["workers"])


def ceiling_ask(path: str, target: str, connections: int, rate: float) -> Asked:
    """`ceiling_tcp ask`."""
    port = target.rpartition(":")[2]
    out, used = run_on(ASKER, [path, "ask", port, str(connections), str(rate), f"seconds={SECONDS}"])
    found = re.search(r"answered (\d+)/s", out)
    return float(found[1]) * SECONDS if found else 0.0, used, used


def tcpclient(path: str, target: str, connections: int, rate: float) -> Asked:
    """Tcpscaler's client: its queries."""
    port = target.rpartition(":")[2]
    command = [path, "-p", port, "-r", str(int(rate)), "-c", str(connections), "-n", "5000", "-t", str(SECONDS)]
    _, used = run_on(ASKER, [*command, "127.0.0.1"])
    return rate * SECONDS, used, used


def best(client: Client, path: str, connections: int, rates: list[float]) -> Asked:
    """The most answers per CPU second of the load over a climb of rates; per CPU second, and per second then."""
    found = (0.0, 0.0, 0.0)
    for rate in rates:
        with ceiling_tcp(path) as (target, _):
            answered, used, loading = client(target, connections, rate)
        found = max(found, (answered / max(loading, 1e-3), answered / max(used, 1e-3), answered / SECONDS))
    return found


def main() -> None:
    """Measures and keeps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ceiling-tcp", required=True)
    parser.add_argument("--tcpclient", help="tcpscaler's tcpclient, built with -O2; left out where it is absent")
    parser.add_argument("--connections", type=int, nargs="+", default=list(CLIMB), choices=list(CLIMB))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    record = Record(arguments.out, "echo_ask")
    clients: dict[str, Client] = {
        "flatout": ours,
        "ceiling_tcp": lambda *reported: ceiling_ask(arguments.ceiling_tcp, *reported),
    }
    if arguments.tcpclient:
        clients["tcpclient"] = lambda *reported: tcpclient(arguments.tcpclient, *reported)
    for number in range(arguments.rounds):
        for connections in arguments.connections:
            for name, client in clients.items():
                rates = [TCPCLIENT[connections]] if name == "tcpclient" else CLIMB[connections]
                per_load_cpu_s, per_cpu_s, per_s = best(client, arguments.ceiling_tcp, connections, rates)
                record.add(
                    round=number,
                    connections=connections,
                    client=name,
                    answered_per_s=round(per_s),
                    per_cpu_s=round(per_cpu_s),
                    per_load_cpu_s=round(per_load_cpu_s),
                )
    record.finish(reported(record, arguments.connections, list(clients)))


def reported(record: Record, connections: list[int], clients: list[str]) -> list[str]:
    """Medians, spreads and ratios."""
    text = []
    for number in connections:
        for column, words in {"per_cpu_s": "CPU s", "per_load_cpu_s": "CPU s of the load alone"}.items():
            found = {name: record.values(column, client=name, connections=number) for name in clients}
            text += [f"- {number} connections, {name}: {spread(found[name], 0)} answers a {words}" for name in clients]
            text += [
                f"- {number} connections, flatout / {name}, by {words}: {spread(ratios(found['flatout'], found[name]))}"
                for name in clients
                if name != "flatout"
            ]
    return text


if __name__ == "__main__":
    main()
