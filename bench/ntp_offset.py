"""How true the stamps of NTP servers are: client and server in two namespaces over veth, which share one clock.

The offset that the client measures is then the error of the stamps. At 1,000/s, and at 50 % and 90 % of what each
server was seen to answer. Needs root and iproute2. Usage:
python bench/ntp_offset.py [--rsntp PATH] [--rounds 7] --out DIR
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from peers import ASKER, CHRONY, SERVER, process
from record import Record, spread
from veth import namespaces, run

TARGET = "10.77.0.2:1123"
CLIMB = (100e3, 150e3, 200e3, 250e3, 300e3, 350e3, 400e3, 450e3)
SHARES = {"1k/s": None, "50 %": 0.5, "90 %": 0.9}
Serve = Callable[[str], contextlib.AbstractContextManager[object]]


def flatout(namespace: str) -> contextlib.AbstractContextManager[object]:
    """Ours, with one worker and a stated clock."""
    words = ["serve", "ntp", "--listen", TARGET, "--threads", "1", "--static", "stratum=2,refid=GPS", "--quiet"]
    return process(["ip", "netns", "exec", namespace, sys.executable, "-m", "flatout", *words], SERVER)


@contextlib.contextmanager
def chronyd(namespace: str) -> Iterator[None]:
    """chronyd, which does not touch the clock."""
    path = shutil.which("chronyd", path="/usr/sbin:/usr/bin")
    if path is None:
        raise SystemExit("chronyd is not installed (Debian: chrony)")
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "chrony.conf")
        text = CHRONY.replace("127.0.0.0/8", "10.77.0.0/24").replace("127.0.0.1", "10.77.0.2")
        config.write_text(text.format(port=1123, folder=folder), encoding="ascii")
        command = ["ip", "netns", "exec", namespace, path, "-x", "-d", "-U", "-u", "root", "-f", str(config)]
        with process(command, SERVER):
            yield


def rsntp(path: str) -> Serve:
    """One rsntp with one thread; ours is its upstream."""
    words = [path, "-4", "1", "-6", "0", "-a", TARGET, "-s", "127.0.0.1:11123"]
    upstream = ["serve", "ntp", "--listen", "127.0.0.1:11123", "--static", "stratum=1,refid=GPS", "--threads", "1"]

    @contextlib.contextmanager
    def serve(namespace: str) -> Iterator[None]:
        inside = ["ip", "netns", "exec", namespace]
        with process([*inside, sys.executable, "-m", "flatout", *upstream, "--quiet"], ASKER):
            time.sleep(1.0)
            with process([*inside, *words], SERVER):
                time.sleep(1.0)
                yield

    return serve


def measured(asking: str, rate: float, seconds: float, *more: str) -> dict[str, Any]:
    """A load from the other namespace."""
    words = ("--rate", f"{rate:.0f}", "--for", f"{seconds:g}s", "--flows", "64", "--warmup", "300ms", *more)
    return run(asking, "load", "ntp", TARGET, *words)


def capacity(asking: str) -> float:
    """The most answers per second over a climb of rates, with offsets measured."""
    best = 0.0
    for rate in CLIMB:
        came = measured(asking, rate, 0.5, "--offset")["rate_per_s"]["answered"]
        best = max(best, came)
        if came < 0.9 * rate:
            break
    return best


def main() -> None:
    """Measures and keeps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rsntp")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    servers: dict[str, Serve] = {"flatout": flatout, "chronyd": chronyd}
    if arguments.rsntp:
        servers["rsntp"] = rsntp(arguments.rsntp)
    record = Record(arguments.out, "ntp_offset")
    with namespaces() as (asking, serving):
        for number in range(arguments.rounds):
            for name, serve in servers.items():
                with serve(serving):
                    time.sleep(1.0)
                    most = capacity(asking)
                    for load, share in SHARES.items():
                        rate = 1e3 if share is None else share * most
                        record.add(round=number, server=name, load=load, rate=round(rate), **_errors(asking, rate))
    record.finish(_table(record, list(servers)))


def _errors(asking: str, rate: float) -> dict[str, object]:
    """Mean and percentiles of the offset, and of the round trip, ns."""
    result = measured(asking, rate, 3.0 if rate <= 1e3 else 1.0, "--offset")
    offset, latency = result["offset_ns"], result["latency_ns"]["from_sent"]
    kept = {name: round(offset[name]) for name in ("mean", "p50", "p99", "p999", "min", "max")}
    return {**kept, "loss": result["loss"], "round_trip_p50": latency["p50"], "verdict": result["verdict"]}


def _table(record: Record, servers: list[str]) -> list[str]:
    lines = ["| server | load | mean, µs | p50, µs | p99.9, µs | most, µs |", "| --- | --- | --- | --- | --- | --- |"]
    for name in servers:
        for load in SHARES:
            cells = [
                spread([value / 1e3 for value in record.values(column, server=name, load=load)], 2)
                for column in ("mean", "p50", "p999", "max")
            ]
            lines.append(f"| {name} | {load} | {' | '.join(cells)} |")
    return [*lines, "", "The client's first stamp is read before its sending call, its last one is the kernel's."]


if __name__ == "__main__":
    main()
