"""Clients against one plain epoll echo server, in turn, by what they get answered per CPU second: tcpclient, ceiling_tcp, flatout.

The server is on the last CPU, the client on the first. CPU seconds are those of the whole client process, its start
included. Usage: python bench/echo_ask.py --ceiling-tcp PATH --tcpclient PATH [--rounds 7] --out DIR
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

from peers import ASKER
from record import Record, ratios, spread
from streams import ceiling_tcp, run_on

SECONDS = 6.0
ASKED = {5: 150e3, 2000: 100e3}


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
    """Answers and CPU seconds of tcpscaler's client; it prints a line for every answer, and these are counted."""
    port = target.rpartition(":")[2]
    command = [path, "-p", port, "-r", str(int(rate)), "-c", str(connections), "-n", "5000", "-t", str(int(SECONDS))]
    out, used = run_on(ASKER, ["sh", "-c", f"{' '.join([*command, '-R', '127.0.0.1'])} | grep -c '^A'"])
    found = re.search(r"^(\d+)$", out, re.MULTILINE)
    answers = float(found[1]) if found else 0.0
    # Printing costs it much, so its CPU time is taken from a run without.
    _, used = run_on(ASKER, [*command, "127.0.0.1"])
    return answers, used


def main() -> None:
    """Measures and keeps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ceiling-tcp", required=True)
    parser.add_argument("--tcpclient", help="tcpscaler's tcpclient, built with -O2; left out where it is absent")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    record = Record(arguments.out, "echo_ask")
    clients = {"flatout": ours, "ceiling_tcp": lambda *told: ceiling_ask(arguments.ceiling_tcp, *told)}
    if arguments.tcpclient:
        clients["tcpclient"] = lambda *told: tcpclient(arguments.tcpclient, *told)
    for number in range(arguments.rounds):
        for connections, rate in ASKED.items():
            for name, client in clients.items():
                with ceiling_tcp(arguments.ceiling_tcp) as (target, _):
                    answered, used = client(target, connections, rate)
                record.add(
                    round=number,
                    connections=connections,
                    client=name,
                    answered_per_s=round(answered / SECONDS),
                    cpu_s=round(used, 2),
                    per_cpu_s=round(answered / max(used, 1e-3)),
                )
    text = []
    for connections in ASKED:
        found = {name: record.values("per_cpu_s", client=name, connections=connections) for name in clients}
        text += [
            f"- {connections} connections, {name}: {spread(values, 0)} answers a CPU s"
            for name, values in found.items()
        ]
        for other in clients.keys() - {"flatout"}:
            text.append(
                f"- {connections} connections, flatout / {other}: {spread(ratios(found['flatout'], found[other]))}"
            )
    record.finish(text)


if __name__ == "__main__":
    main()
