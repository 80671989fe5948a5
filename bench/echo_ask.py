"""Clients against one plain epoll echo server, in turn, by answers per CPU second: tcpclient, ceiling_tcp, flatout.

The server is on the last CPU, the client on the first. flatout and ceiling_tcp are asked for a climb of rates, of which
the best is kept; tcpclient for one that it is known to do, and all of its queries are taken to be answered, which
favours it (its own count, -R, would cost it much time). CPU seconds are those of the whole process, its start included.
Usage: python bench/echo_ask.py --ceiling-tcp PATH --tcpclient PATH [--rounds 7] --out DIR
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
CLIMB = {5: [250e3, 500e3, 900e3], 2000: [100e3, 140e3, 180e3]}
TCPCLIENT = {5: 250e3, 2000: 100e3}
Client = Callable[[str, int, float], tuple[float, float]]


def ours(target: str, connections: int, rate: float) -> tuple[float, float]:
    """Answers and CPU seconds of `flatout load echo`."""
    command = [sys.executable, "-m", "flatout", "load", "echo", target, "--transport", "tcp", "--rate", str(rate)]
    command += ["--connections", str(connections), "--for", f"{SECONDS}s", "--warmup", "0s", "--cpus", str(ASKER)]
    out, used = run_on(ASKER, [*command, "--json", "-", "--quiet"])
    result = json.loads(out[out.index("{") : out.rindex("}") + 1])
    return float(result["outcomes"]["answered"]), used


def ceiling_ask(path: str, target: str, connections: int, rate: float) -> tuple[float, float]:
    """Answers and CPU seconds of `ceiling_tcp ask`."""
    port = target.rpartition(":")[2]
    out, used = run_on(ASKER, [path, "ask", port, str(connections), str(rate), f"seconds={SECONDS}"])
    found = re.search(r"answered (\d+)/s", out)
    return float(found[1]) * SECONDS if found else 0.0, used


def tcpclient(path: str, target: str, connections: int, rate: float) -> tuple[float, float]:
    """Queries and CPU seconds of tcpscaler's client."""
    port = target.rpartition(":")[2]
    command = [path, "-p", port, "-r", str(int(rate)), "-c", str(connections), "-n", "5000", "-t", str(SECONDS)]
    _, used = run_on(ASKER, [*command, "127.0.0.1"])
    return rate * SECONDS, used


def best(client: Client, path: str, connections: int, rates: list[float]) -> tuple[float, float]:
    """The most answers per CPU second over a climb of rates, and the answers per second then."""
    found = (0.0, 0.0)
    for rate in rates:
        with ceiling_tcp(path) as (target, _):
            answered, used = client(target, connections, rate)
        found = max(found, (answered / max(used, 1e-3), answered / SECONDS))
    return found


def main() -> None:
    """Measures and keeps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ceiling-tcp", required=True)
    parser.add_argument("--tcpclient", help="tcpscaler's tcpclient, built with -O2; left out where it is absent")
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
        for connections, climb in CLIMB.items():
            for name, client in clients.items():
                rates = [TCPCLIENT[connections]] if name == "tcpclient" else climb
                per_cpu_s, per_s = best(client, arguments.ceiling_tcp, connections, rates)
                record.add(
                    round=number,
                    connections=connections,
                    client=name,
                    answered_per_s=round(per_s),
                    per_cpu_s=round(per_cpu_s),
                )
    text = []
    for connections in CLIMB:
        found = {name: record.values("per_cpu_s", client=name, connections=connections) for name in clients}
        for name, values in found.items():
            text.append(f"- {connections} connections, {name}: {spread(values, 0)} answers a CPU s")
        for other in clients.keys() - {"flatout"}:
            both = ratios(found["flatout"], found[other])
            text.append(f"- {connections} connections, flatout / {other}: {spread(both)}")
    record.finish(text)


if __name__ == "__main__":
    main()
