"""What a fleet costs one host, and how far apart its hosts begin. Needs root, iproute2 and the extra `fleet`.

The cost: the same load by `flatout load` and by `--fleet` with one worker, in turn. The worker's CPU is the load's;
scheduler, client and target have the other one. One-way messages at more than can be sent, to a socket that nobody
reads, give the highest rate; NTP at a fixed rate gives CPU time per request. The start: 3 and 8 namespaces over a
bridge, whose clocks are one, so that what the measured offsets are wrong by is known. It is the start of the schedules
that is compared; how late requests leave by their schedule is each host's lateness, kept apart.
Usage: python bench/fleet.py [--rounds 7] [--starts 40] [--part cost|start|all] --out DIR
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from peers import ASKER, SERVER, cpu_s, ours, process
from record import Record, ratios, spread

FLATOUT = [sys.executable, "-m", "flatout"]
DASK = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--no-dashboard"]
WORKER = [sys.executable, "-m", "distributed.cli.dask_worker", "--no-nanny", "--no-dashboard", "--nthreads", "1"]
FORMAT = "id:u4 seq:u4 sent:u8 x:f4 y:f4"


# --- What it costs ---


class OneHost:
    """A scheduler and one worker, on CPUs of their own."""

    def __init__(self, scheduler: subprocess.Popen[bytes], worker: subprocess.Popen[bytes], address: str) -> None:
        self.scheduler, self.worker, self.address = scheduler.pid, worker.pid, address


@contextlib.contextmanager
def one_host() -> Iterator[OneHost]:
    """Starts it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "scheduler.json")
        with process([*DASK, "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file)], SERVER) as scheduler:
            _until(file.exists)
            address = json.loads(file.read_text())["address"]
            with process([*WORKER, address], ASKER) as worker:
                yield OneHost(scheduler, worker, address)


def _until(there: Any) -> None:
    end = time.monotonic() + 30
    while not there():
        if time.monotonic() > end:
            raise SystemExit("it does not start")
        time.sleep(0.05)


def loaded(host: OneHost | None, *words: str) -> dict[str, Any]:
    """A load, here or by the fleet of one worker: its result."""
    cpu = str(SERVER if host else ASKER)
    fleet = ["--fleet", host.address] if host else []
    command = ["taskset", "-c", cpu, *FLATOUT, "load", *words, "--cpus", str(ASKER), *fleet, "--json", "-", "--quiet"]
    environment = os.environ | {"FLATOUT_STORE": "off"}
    done = subprocess.run(command, capture_output=True, check=False, env=environment, timeout=60)
    if not done.stdout:
        raise SystemExit(done.stderr.decode())
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def most_per_s(host: OneHost | None, seconds: float) -> float:
    """Messages a second, asked for more than can be sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        words = ["record", target, "--format", FORMAT, "--rate", "5M", "--for", f"{seconds}s"]
        return float(loaded(host, *words)["rate_per_s"]["sent"])


def cost(record: Record, rounds: int, seconds: float) -> None:
    """Both, in turn, the first one in turn, too."""
    with one_host() as host, ours() as target:
        words = ["ntp", target, "--rate", "100k", "--for", f"{seconds}s", "--warmup", "200ms", "--timeout", "250ms"]
        for number in range(-1, rounds):
            row: dict[str, Any] = {"round": number}
            for by, where in (("direct", None), ("fleet", host)) if number % 2 else (("fleet", host), ("direct", None)):
                row[f"{by}_per_s"] = round(most_per_s(where, seconds))
                before, began = (cpu_s(host.worker), cpu_s(host.scheduler)), time.monotonic()
                result = loaded(where, *words)
                took = time.monotonic() - began
                row[f"{by}_ns"] = round(1e9 * result["cpu_s"]["workers"] / result["outcomes"]["sent"], 1)
                own = (cpu_s(host.worker) - before[0], cpu_s(host.scheduler) - before[1])
                # An idle worker's heartbeats are no part of the load's threads.
                own_s = own[0] - (result["cpu_s"]["workers"] if where else 0.0)
                row |= {f"{by}_worker_share": round(own_s / took, 4), f"{by}_scheduler_share": round(own[1] / took, 4)}
            # The first round compiles and imports.
            if number >= 0:
                record.add(**dict(sorted(row.items(), key=lambda pair: pair[0] != "round")))


def of_cost(record: Record) -> list[str]:
    """Medians and spreads."""
    lines = ["One host, by `flatout load` and by `--fleet` with one worker:", ""]
    for column, text, digits in (("per_s", "messages/s at most", 0), ("ns", "CPU ns per NTP request at 100,000/s", 1)):
        by, direct = record.values(f"fleet_{column}"), record.values(f"direct_{column}")
        lines += [
            f"- {text}: directly {spread(direct, digits)}, by the fleet {spread(by, digits)}; "
            f"fleet / direct, round by round: {spread(ratios(by, direct), 4)}"
        ]
    for who, text in (("worker", "Dask worker beside the load's threads"), ("scheduler", "scheduler")):
        busy, idle = record.values(f"fleet_{who}_share"), record.values(f"direct_{who}_share")
        lines.append(f"- the {text}, CPU s/s from command to result: {spread(busy, 4)}; idle {spread(idle, 4)}")
    return lines


# --- When its hosts begin ---


@contextlib.contextmanager
def namespaces(hosts: int) -> Iterator[tuple[str, list[str]]]:
    """One for server and scheduler, and one a host, on one bridge."""
    center, names = f"flatout-c{os.getpid()}", [f"flatout-h{os.getpid()}-{n}" for n in range(hosts)]
    try:
        for name in (center, *names):
            _ip("netns", "add", name)
        _ip("-n", center, "link", "add", "name", "bridge0", "type", "bridge")
        _ip("-n", center, "addr", "add", "10.97.0.1/24", "dev", "bridge0")
        for device in ("lo", "bridge0"):
            _ip("-n", center, "link", "set", device, "up")
        for n, name in enumerate(names):
            _ip("-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", f"v{n}", "netns", center)
            _ip("-n", name, "addr", "add", f"10.97.0.{n + 10}/24", "dev", "eth0")
            _ip("-n", center, "link", "set", f"v{n}", "master", "bridge0", "up")
            for device in ("lo", "eth0"):
                _ip("-n", name, "link", "set", device, "up")
        yield center, names
    finally:
        for name in (center, *names):
            subprocess.run(["ip", "netns", "delete", name], check=False, stderr=subprocess.DEVNULL)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextlib.contextmanager
def running(namespace: str, *command: str) -> Iterator[None]:
    """A program inside a namespace."""
    words = ["ip", "netns", "exec", namespace, *command]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as started:
        try:
            yield
        finally:
            started.terminate()


def started(record: Record, hosts: int, starts: int) -> None:
    """So many starts over so many namespaces."""
    with namespaces(hosts) as (center, names), contextlib.ExitStack() as stack:
        stack.enter_context(running(center, *FLATOUT, "serve", "ntp", "--listen", "10.97.0.1:1123", "--quiet"))
        stack.enter_context(running(center, *DASK, "--host", "10.97.0.1", "--port", "8786"))
        for name in names:
            stack.enter_context(running(name, *WORKER, "tcp://10.97.0.1:8786"))
        inside = ["ip", "netns", "exec", center, sys.executable, __file__, "--inside", str(hosts), str(starts)]
        done = subprocess.run(inside, stdout=subprocess.PIPE, check=True)
        for line in done.stdout.splitlines():
            record.add(hosts=hosts, **json.loads(line))


def inside(hosts: int, starts: int) -> None:
    """Drives the fleet from the namespace of the scheduler; prints one line a start."""
    import distributed

    from flatout.fleet.cluster import connected
    from flatout.fleet.drive import FleetRun
    from flatout.scenario.build import scenario_of

    with distributed.Client("tcp://10.97.0.1:8786", timeout=30) as client:
        client.wait_for_workers(hosts, timeout=60)
    asked: dict[str, Any] = {"rate": 100 * hosts, "duration": 0.5, "profile": None, "flows": 8 * hosts}
    scenario = scenario_of("ntp", "10.97.0.1:1123", **asked, warmup=0.0, timeout=0.2)
    with connected("tcp://10.97.0.1:8786") as fleet:
        run = FleetRun(fleet)
        for number in range(-1, starts):
            nodes = run(scenario, lambda _: None, threading.Event()).nodes
            truly = [(node.start_late_ns or 0) + (node.clock_offset_ns or 0) for node in nodes]
            found = {
                "start": number,
                "measured_us": max(node.start_late_ns or 0 for node in nodes) / 1e3,
                "true_us": (max(truly) - min(truly)) / 1e3,
                "error_us": max(node.clock_error_ns or 0 for node in nodes) / 1e3,
                "wrong_us": max(abs(node.clock_offset_ns or 0) for node in nodes) / 1e3,
            }
            if number >= 0:
                print(json.dumps(found), flush=True)


def of_starts(record: Record, sizes: list[int]) -> list[str]:
    """A table of both sizes."""
    columns = {
        "measured_us": "schedule of the last host after that of the first, as the result says",
        "true_us": "the same by the one clock of all namespaces",
        "error_us": "worst error that a measured offset may have",
        "wrong_us": "worst error that it had",
    }
    lines = ["", "The start over namespaces, µs: median / p99 / worst of all starts", ""]
    lines += [f"| | {' | '.join(f'{hosts} hosts' for hosts in sizes)} |", f"| --- |{' --- |' * len(sizes)}"]
    for column, text in columns.items():
        cells = []
        for hosts in sizes:
            values = record.values(column, hosts=hosts)
            p99 = float(np.percentile(values, 99))
            cells.append(f"{statistics.median(values):,.0f} / {p99:,.0f} / {max(values):,.0f} (n={len(values)})")
        lines.append(f"| {text} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Measures and keeps."""
    if sys.argv[1:2] == ["--inside"]:
        inside(int(sys.argv[2]), int(sys.argv[3]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--starts", type=int, default=40)
    parser.add_argument("--part", choices=["cost", "start"], required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    record = Record(given.out, f"fleet_{given.part}")
    if given.part == "cost":
        cost(record, given.rounds, given.seconds)
        record.finish(of_cost(record))
        return
    sizes = [3, 8]
    for hosts in sizes:
        started(record, hosts, given.starts)
    record.finish(of_starts(record, sizes))


if __name__ == "__main__":
    main()
