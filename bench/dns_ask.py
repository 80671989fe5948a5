"""DNS clients against one Knot DNS, in turn: dnsperf and flatout, over UDP and TCP.

Each is asked for more than the pair can do (dnsperf without a limit, flatout up a climb of rates); kept are the best
answers per second and CPU seconds per million answers. Knot is on the last CPU, the client on the first; Knot's own CPU
share says whether it was the limit. Usage: python bench/dns_ask.py [--rounds 7] --out DIR
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from pathlib import Path

from peers import ASKER, cpu_s
from record import Record, ratios, spread
from streams import knot, run_on

SECONDS = 2
RATES = {"udp": [200e3, 260e3, 320e3, 400e3], "tcp": [60e3, 90e3, 120e3, 150e3, 180e3, 220e3]}
CONNECTIONS = {"udp": 64, "tcp": 100}


def dnsperf(target: str, transport: str, connections: int, _: float) -> tuple[float, float]:
    """Answers per second and CPU seconds of dnsperf, as fast as it goes with 100 queries under way a socket."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as queries:
        queries.write("example.com A\n")
        queries.flush()
        command = ["dnsperf", "-s", "127.0.0.1", "-p", target.rpartition(":")[2], "-d", queries.name, "-m", transport]
        command += ["-c", str(connections), "-T", "1", "-l", str(SECONDS), "-q", str(max(connections * 10, 500))]
        out, used = run_on(ASKER, command)
    found = re.search(r"Queries completed:\s+(\d+)", out)
    return (float(found[1]) / SECONDS if found else 0.0), used


def ours(target: str, transport: str, connections: int, rate: float) -> tuple[float, float]:
    """Answers per second and CPU seconds of `flatout load dns` at a rate."""
    command = [sys.executable, "-m", "flatout", "load", "dns", target, "--transport", transport, "--rate", str(rate)]
    command += ["--connections", str(connections), "--for", f"{SECONDS}s", "--warmup", "0s", "--timeout", "250ms"]
    out, used = run_on(ASKER, [*command, "--cpus", str(ASKER), "--json", "-", "--quiet"])
    result = json.loads(out[out.index("{") : out.rindex("}") + 1])
    return float(result["outcomes"]["answered"]) / SECONDS, used


def main() -> None:
    """Measures and keeps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    record = Record(arguments.out, "dns_ask")
    for number in range(arguments.rounds):
        for transport, connections in CONNECTIONS.items():
            for name, rates in (("dnsperf", [0.0]), ("flatout", RATES[transport])):
                best = (0.0, 0.0, 0.0)
                with knot() as (target, pid):
                    for rate in rates:
                        client = dnsperf if name == "dnsperf" else ours
                        before, began = cpu_s(pid), time.monotonic()
                        answered, used = client(target, transport, connections, rate)
                        busy = (cpu_s(pid) - before) / (time.monotonic() - began)
                        best = max(best, (answered, used, busy))
                answered, used, busy = best
                record.add(
                    round=number,
                    transport=transport,
                    client=name,
                    answered_per_s=round(answered),
                    cpu_s_per_million=round(used / max(answered * SECONDS, 1) * 1e6, 2),
                    knot_cpu=round(busy, 2),
                )
    text = []
    for transport in CONNECTIONS:
        for column in ("answered_per_s", "cpu_s_per_million", "knot_cpu"):
            found = {name: record.values(column, client=name, transport=transport) for name in ("dnsperf", "flatout")}
            text += [f"- {transport}, {name}, {column}: {spread(values, 2)}" for name, values in found.items()]
            text.append(
                f"- {transport}, {column}, flatout / dnsperf: {spread(ratios(found['flatout'], found['dnsperf']))}"
            )
    record.finish([*text, "- Knot's configuration: one worker a transport, one zone; in bench/streams.py"])


if __name__ == "__main__":
    main()
