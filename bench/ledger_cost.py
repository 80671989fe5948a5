"""What the ledger costs a load: its highest rate with the counters sampled and drop reasons counted, and without.

Two servers: one that answers, and a socket that nobody reads, so that the kernel drops every request and tells each to
the program that counts drops. The load is asked for more than it can do; both kinds of run take turns, in changing
order, each in a process of its own. Needs root for drop reasons.
Usage: python bench/ledger_cost.py [--rounds 15] --out DIR
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from peers import ASKER, SERVER, free_port, process
from record import Record, ratios, spread

SECONDS, TOO_MUCH = 3, 3e6
KINDS = ("sampled", "not sampled")
SERVERS = ("answers", "never reads")


@contextlib.contextmanager
def serving(server: str) -> Iterator[str]:
    """The address of a server of that kind."""
    if server == "answers":
        port = free_port()
        command = [sys.executable, "-m", "flatout", "serve", "ntp", "--listen", f"127.0.0.1:{port}", "--quiet"]
        with process(command, SERVER):
            yield f"127.0.0.1:{port}"
        return
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{deaf.getsockname()[1]}"


def one_run(target: str, kind: str) -> None:
    """One load, in a process of its own: prints what it sent a second, and a CPU second of the load."""
    import flatout
    from flatout.runner import counters, run

    if kind == "not sampled":
        run.CounterSampler = NoSampler  # type: ignore[attr-defined, assignment, misc]
    asked = {"rate": TOO_MUCH, "duration": SECONDS, "warmup": 0, "flows": 64, "cpus": str(ASKER)}
    result = flatout.load("ntp", target, timeout="200ms", **asked)  # type: ignore[arg-type]
    assert kind == "not sampled" or (result.ledger and result.ledger.counters), counters.__name__
    print(json.dumps({"sent": result.outcomes.sent, "cpu_s": result.cpu_s["workers"]}))


class NoSampler:
    """Samples nothing."""

    waits = False

    def __init__(self, _plan: object) -> None:
        pass

    def tick(self, _t_s: float) -> None:
        """Samples nothing."""

    def watch(self) -> None:
        """Samples nothing."""

    def close(self) -> None:
        """Nothing was begun."""

    def end(self, placement: object) -> object:
        """Nothing was sampled."""
        from flatout.host.counters import Growth
        from flatout.result.ledger import Surroundings
        from flatout.runner.counters import Sampled

        return Sampled(Growth({}, {}), None, [], Surroundings(), placement, here=True, version=4)  # type: ignore[arg-type]


def measured(target: str, kind: str) -> dict[str, float]:
    """One load in a process of its own."""
    command = [sys.executable, __file__, "--one", target, kind]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Measures and keeps."""
    if sys.argv[1:2] == ["--one"]:
        one_run(*sys.argv[2:4])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if os.geteuid():
        parser.error("drop reasons need root")
    record = Record(arguments.out, "ledger_cost")
    for number in range(arguments.rounds):
        for server in SERVERS:
            for kind in KINDS if number % 2 else KINDS[::-1]:
                with serving(server) as target:
                    found = measured(target, kind)
                sent, cpu_s = found["sent"], found["cpu_s"]
                row = {"round": number, "server": server, "kind": kind}
                record.add(**row, sent_per_s=round(sent / SECONDS), per_cpu_s=round(sent / cpu_s))
    record.finish(reported(record))


def reported(record: Record) -> list[str]:
    """Medians, spreads and ratios."""
    text = []
    for server in SERVERS:
        for column, words in {"sent_per_s": "requests a second", "per_cpu_s": "requests a CPU second"}.items():
            found = {kind: record.values(column, server=server, kind=kind) for kind in KINDS}
            text += [f"- a server that {server}, {kind}: {spread(found[kind], 0)} {words}" for kind in KINDS]
            text.append(f"- sampled / not sampled: {spread(ratios(found[KINDS[0]], found[KINDS[1]]))}")
    return text


if __name__ == "__main__":
    main()
