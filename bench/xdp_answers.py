"""NTP answered per second in the network driver and by sockets, in turn, over veth with one CPU a side. Needs root.

The least XDP responder, `flatout serve ntp` with --xdp native (plain; with 100,000 prefixes and the limits of a million
clients), generic and off, chronyd and rsntp are asked over 64 source ports by a program that counts what comes back and
matches nothing. The most of several loads counts: rising rates beyond what a server can answer, and bounded numbers of
requests on their way. Usage: python bench/xdp_answers.py [--rsntp PATH] [--rounds 7] [--only NAME ...] --out DIR
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ntp_offset import chronyd, rsntp
from ntp_server import LIMITS, prefixes
from record import Record, ratios, spread
from xdp_pair import VB, Load, Pair, asker, bare, busy_ns, flatout, pair, polling

DRIVER = [Load(rate) for rate in (2e6, 3.5e6, 0)] + [Load(0, window=window) for window in (256, 512)]
SOCKETS = [Load(rate) for rate in (200e3, 300e3, 450e3, 1e6)] + [Load(0, window=window) for window in (64, 256, 512)]
GENERIC_LOADS = [Load(rate) for rate in (600e3, 1e6, 1.5e6, 2.5e6)] + SOCKETS[-2:]
CLIENTS = 1 << 20
FIRST_OF_MANY = "10.128.0.0"
BARE, VALID, NATIVE, GENERIC, SOCKET = (
    "bare XDP",
    "bare XDP, valid answers",
    "flatout --xdp native",
    "flatout --xdp generic",
    "flatout, sockets",
)
LISTS = "flatout --xdp native, lists and limits"
WANTED = {("rsntp", NATIVE): 12.0, ("chronyd", NATIVE): 12.0, (BARE, NATIVE): 0.8, (BARE, LISTS): 0.6}


class Case(NamedTuple):
    """A server: what starts it, and how it is asked."""

    start: Callable[[Pair], contextlib.AbstractContextManager[Path | None]]
    loads: list[Load]
    sources: str = "10.77.0.1"


@contextlib.contextmanager
def listed(pair: Pair) -> Iterator[Path]:
    """Ours in native mode with a list and with limits of many clients, which the loads do not reach."""
    with tempfile.TemporaryDirectory() as folder:
        limits = [*LIMITS, "--deny", prefixes(folder, 101, 200), "--clients", "1M"]
        with flatout(pair, "--xdp", "native", "--interface", VB, *limits, settle=3.0) as control:
            yield control


@contextlib.contextmanager
def uncounted(pair: Pair, start: Callable[[str], contextlib.AbstractContextManager[object]]) -> Iterator[None]:
    """A server that has no control socket."""
    with start(pair.serving):
        yield


def cases(path: str | None) -> dict[str, Case]:
    """All servers by their names."""
    many = [load._replace(addresses=CLIENTS) for load in DRIVER]
    in_mode = {mode: ("--xdp", mode, "--interface", VB) for mode in ("native", "generic")}
    return {
        BARE: Case(bare, DRIVER),
        VALID: Case(lambda pair: bare(pair, "valid"), DRIVER),
        NATIVE: Case(lambda pair: flatout(pair, *in_mode["native"]), DRIVER),
        LISTS: Case(listed, many, FIRST_OF_MANY),
        GENERIC: Case(lambda pair: flatout(pair, *in_mode["generic"]), GENERIC_LOADS),
        SOCKET: Case(flatout, SOCKETS),
        "chronyd": Case(lambda pair: uncounted(pair, chronyd), SOCKETS),
        **({"rsntp": Case(lambda pair: uncounted(pair, rsntp(path)), SOCKETS)} if path else {}),
    }


def by_driver(control: Path | None) -> float | str:
    """The share of answers that the driver gave, by the server's own statistics."""
    if control is None:
        return ""
    command = [sys.executable, "-m", "flatout", "ntp", "stats", str(control)]
    stats = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return round((stats.get("xdp") or {}).get("answered", 0) / max(stats["answered"], 1), 4)


def measured(pair: Pair, case: Case, seconds: float) -> dict[str, object]:
    """The most that a server answers, the load it was seen with, and each load's answers.

    `polling`: the share of its CPU that the kernel thread took then which polls the server's device; XDP runs in it.
    """
    came, shares, thread = {}, {}, polling(VB)
    with case.start(pair) as control, asker(pair, sources=case.sources) as asking:
        loads = [load._replace(seconds=seconds) for load in case.loads]
        asking.ask(loads[0])
        for load in loads:
            name, before = f"{load.rate / 1e3:.0f}k/{load.window}", busy_ns(thread)
            came[name] = asking.ask(load).answered
            shares[name] = (busy_ns(thread) - before) / 1e9 / load.seconds
        by_xdp = by_driver(control)
    best = max(came, key=lambda name: came[name])
    each = json.dumps({name: round(value) for name, value in came.items()})
    found = {"answers_per_s": round(came[best]), "load": best, "polling": round(shares[best], 3)}
    return {**found, "by_driver": by_xdp, "each": each}


def main() -> None:
    """Measures and keeps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rsntp")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each load")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    record = Record(arguments.out, "xdp_answers")
    servers = {
        name: case for name, case in cases(arguments.rsntp).items() if arguments.only is None or name in arguments.only
    }
    with pair() as made:
        for number in range(arguments.rounds):
            for name, case in servers.items():
                record.add(round=number, server=name, **measured(made, case, arguments.seconds))
    record.finish(_found(record, list(servers)))


def _found(record: Record, names: list[str]) -> list[str]:
    found = {name: record.values("answers_per_s", server=name) for name in names}
    lines = ["| server | answers per second, most | of it by the driver |", "| --- | --- | --- |"]
    for name, values in found.items():
        shares = [row["by_driver"] for row in record.rows if row["server"] == name and row["by_driver"] != ""]
        lines.append(f"| {name} | {spread(values, 0)} | {min(map(float, map(str, shares))) if shares else ''} |")
    lines.append("")
    for (other, mine), wanted in WANTED.items():
        if {other, mine} <= set(names):
            seen = ratios(found[mine], found[other])
            reached = "reached" if sorted(seen)[len(seen) // 2] >= wanted else "**missed**"
            lines.append(f"- {mine} / {other}, round by round: {spread(seen)}; wanted {wanted:g}: {reached}")
    return [
        *lines,
        "- the asker: live frames of BPF_PROG_TEST_RUN with UDP checksums, 64 source ports; lists: 1,048,576 addresses",
        f"- lists and limits: `{' '.join(LIMITS)} --clients 1M --deny` 100,000 prefixes",
        "- one CPU asks; what answers, and the asker's device, runs on the other (`polling`: its share of that CPU)",
    ]


if __name__ == "__main__":
    main()
