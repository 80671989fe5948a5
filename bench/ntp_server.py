"""One worker of the NTP server with everything on, in turn with chronyd, rsntp and the kernel's ceiling.

Three parts, each round by round: the most answers per second over a climb of rates; what is left of that under all that
the asker can send; and a million client addresses beside 64. All is asked over UDP without GSO, by a generator on the
first CPU; servers are on the last. Usage:
python bench/ntp_server.py --ceiling PATH [--rsntp PATH] [--rounds 7] [--only NAME ...] --out DIR
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import ipaddress
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from peers import ASKER, CHRONY, SERVER, ask, ceiling, chronyd, cpu_s, free_port, process
from record import Record, ratios, spread

RATES = [350e3, 450e3, 500e3, 550e3, 600e3]
OVERLOAD_PER_S = 700e3
CHRONYS = {
    "chronyd noclientlog": CHRONY,
    "chronyd": CHRONY.replace("noclientlog\n", ""),
    "chronyd clientloglimit 64M": CHRONY.replace("noclientlog", "clientloglimit 67108864"),
}
# The asker is one client, which must not be limited, but counted.
LIMITS = ["--client-rate", "1M", "--client-burst", "1000000", "--max-rate", "10Gbps"]
ALL_ON = ["--static", "stratum=2,refid=GPS", *LIMITS]
FULL, PLAIN, CEILING = "flatout, all on", "flatout", "ceiling stamp pktinfo"


def prefixes(folder: str, first: int = 1, last: int = 100) -> str:
    """A list of 100,000 prefixes of so many networks of 2^24 addresses, none of which covers loopback."""
    dice, path = random.Random(1), Path(folder, "deny")
    starts = {dice.randrange(first << 24, last << 24) & 0xFFFFFF00 for _ in range(101_000)}
    lines = [f"{ipaddress.IPv4Address(start)}/24" for start in sorted(starts)[:100_000]]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")
    return str(path)


@contextlib.contextmanager
def flatout(*options: str, clients: str = "256k") -> Iterator[tuple[str, int]]:
    """Ours on all addresses; its address and process."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        lists = ["--deny", prefixes(folder), "--clients", clients] if options else []
        command = [sys.executable, "-m", "flatout", "serve", "ntp", "--listen", f"0.0.0.0:{port}", "--threads", "1"]
        with process([*command, "--quiet", *options, *lists], SERVER) as running:
            time.sleep(2.0 if options else 0.7)
            yield f"127.0.0.1:{port}", running.pid


@contextlib.contextmanager
def rsntp(path: str) -> Iterator[tuple[str, int]]:
    """One rsntp with one thread; ours is its upstream, on the asker's CPU."""
    port, upstream = free_port(), free_port()
    stated = ["serve", "ntp", "--listen", f"127.0.0.1:{upstream}", "--static", "stratum=1,refid=GPS", "--threads", "1"]
    command = [path, "-4", "1", "-6", "0", "-a", f"0.0.0.0:{port}", "-s", f"127.0.0.1:{upstream}"]
    with process([sys.executable, "-m", "flatout", *stated, "--quiet"], ASKER), process(command, SERVER) as running:
        time.sleep(2.0)
        yield f"127.0.0.1:{port}", running.pid


@contextlib.contextmanager
def addressed(server: contextlib.AbstractContextManager[str]) -> Iterator[tuple[str, int]]:
    """A server whose process is not looked at."""
    with server as target:
        yield target, 0


def answered(target: str, rate: float, **options: object) -> float:
    """Answers per second that came back, right or not: the ceiling does not copy the origin stamp."""
    outcomes = (result := ask(target, rate, **options)).outcomes
    return (outcomes.answered + outcomes.late + outcomes.invalid) / result.duration_s


def most(target: str) -> float:
    """The most answers per second over a climb of rates."""
    best = 0.0
    for rate in RATES:
        if (came := answered(target, rate)) < 0.8 * best:
            break
        best = max(best, came)
    return best


def clients(target: str, pid: int, count: int) -> dict[str, float]:
    """CPU per answer and memory, asked by so many addresses at once."""
    many = {"flows": count, "sources": ("127.16.0.0/12",)} if count > 64 else {}
    before = cpu_s(pid)
    result = ask(target, 150e3, 8.0, warmup=0.0, **many)
    used = cpu_s(pid) - before
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    resident = next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    came = max(result.outcomes.answered, 1)
    return {"answered_per_s": round(came / result.duration_s), "cpu_ns": used * 1e9 / came, "resident_kib": resident}


def main() -> None:
    """Measures and keeps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ceiling", required=True)
    parser.add_argument("--rsntp")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    servers: dict[str, Callable[[], contextlib.AbstractContextManager[tuple[str, int]]]] = {
        CEILING: lambda: addressed(ceiling(arguments.ceiling, "stamp", "pktinfo")),
        **{name: functools.partial(lambda text: addressed(chronyd(text)), text) for name, text in CHRONYS.items()},
        **({"rsntp": lambda: rsntp(arguments.rsntp)} if arguments.rsntp else {}),
        PLAIN: flatout,
        FULL: lambda: flatout(*ALL_ON),
    }
    if not arguments.rsntp:
        print("rsntp is absent: give --rsntp PATH", file=sys.stderr)
    record, many = Record(arguments.out, "ntp_server"), Record(arguments.out, "ntp_clients")
    chosen = [name for name in servers if arguments.only is None or name in arguments.only]
    for number in range(arguments.rounds):
        for name in chosen:
            with servers[name]() as (target, _):
                best = most(target)
                left = answered(target, OVERLOAD_PER_S)
            record.add(round=number, server=name, answers_per_s=round(best), overloaded_per_s=round(left))
        for count in (64, 1_000_000):
            with flatout(*ALL_ON, clients="1M") as (target, pid):
                many.add(round=number, clients=count, **clients(target, pid, count))
    record.finish(_found(record, chosen))
    many.finish(_of_clients(many))


def _found(record: Record, chosen: list[str]) -> list[str]:
    found = {name: record.values("answers_per_s", server=name) for name in chosen}
    text = [f"- {name}: {spread(values, 0)} answers/s" for name, values in found.items()]
    others = [name for name in chosen if name != FULL]
    text += [f"- all on / {name}, round by round: {spread(ratios(found[FULL], found[name]))}" for name in others]
    left = ratios(record.values("overloaded_per_s", server=FULL), found[FULL])
    kernel = subprocess.run(["uname", "-r"], capture_output=True, text=True, check=False).stdout.strip()
    return [
        *text,
        f"- all on, asked {OVERLOAD_PER_S:,.0f}/s: {spread(left)} of its most",
        f"- all on: `{' '.join(ALL_ON)} --clients 256k --deny` 100,000 prefixes; kernel stamps, interleaved mode ready",
        f"- chronyd: `local stratum 10`, `cmdport 0`, one instance with `-x`, the client log as named; Linux {kernel}",
    ]


def _of_clients(many: Record) -> list[str]:
    few, million = (many.values("cpu_ns", clients=count) for count in (64, 1_000_000))
    resident = [many.values("resident_kib", clients=count) for count in (64, 1_000_000)]
    return [
        f"- CPU per answer: {spread(few, 0)} ns for 64 clients, {spread(million, 0)} ns for a million",
        f"- ratio, round by round: {spread(ratios(million, few))}",
        f"- resident memory: {spread(resident[0], 0)} KiB and {spread(resident[1], 0)} KiB; room for a million clients",
        "- 150,000 requests/s for 8 s, from addresses of 127.16.0.0/12; clients are limited, so each has an entry",
    ]


if __name__ == "__main__":
    main()
