"""What a fleet costs by its number of hosts: 10, 30 and 100 simulated hosts, real scheduler, real orders and events.

The hosts are Dask workers, some processes of many; each sends progress as a real run does and returns a result of real
size (that of the file). The scheduler is a process of its own, and all of it in a network namespace, whose loopback
counts the bytes. Needs root.
Usage: python bench/scale.py RESULT.json [--hosts 10,30,100] [--rounds 3] [--seconds 10] --out DIR
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distributed
import msgspec

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from flatout.fleet.cluster import Fleet  # noqa: E402
from flatout.fleet.drive import FleetRun  # noqa: E402
from flatout.fleet.worker import TOPIC  # noqa: E402
from flatout.result.files import read, to_json  # noqa: E402
from flatout.result.merge import merge  # noqa: E402
from flatout.result.model import LoadResult  # noqa: E402
from flatout.scenario.build import scenario_of  # noqa: E402
from flatout.scenario.model import Scenario  # noqa: E402
from peers import cpu_s  # noqa: E402
from record import Record  # noqa: E402
from simulated_hosts import Simulation  # noqa: E402
from steady import resident  # noqa: E402

_PROCESSES = 4
# The scheduler unpickles what its clients send.
_ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT / "tests")}


# --- The laboratory ---


async def workers(address: str, first: int, count: int) -> None:
    """So many workers in this process, until the scheduler ends."""
    made = [
        distributed.Worker(address, nthreads=1, name=first + n, host="127.0.0.1", dashboard_address=None)
        for n in range(count)
    ]
    await asyncio.gather(*made)
    await asyncio.gather(*(one.finished() for one in made))


@contextlib.contextmanager
def laboratory(hosts: int) -> Iterator[tuple[int, str]]:
    """A scheduler and so many workers: the scheduler's process id and its address."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "scheduler.json")
        options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
        scheduler = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_scheduler", *options], env=_ENVIRONMENT
        )
        started = [scheduler]
        try:
            while not file.exists():
                time.sleep(0.05)
            address = msgspec.json.decode(file.read_bytes())["address"]
            for n in range(_PROCESSES):
                first, end = hosts * n // _PROCESSES, hosts * (n + 1) // _PROCESSES
                command = [sys.executable, __file__, "--workers", address, str(first), str(end - first)]
                started.append(subprocess.Popen(command, cwd=folder))
            yield scheduler.pid, address
        finally:
            for process in reversed(started):
                process.terminate()
            for process in started:
                process.wait()


# --- What is measured ---


class Sample(msgspec.Struct, frozen=True):
    """Counters at a moment."""

    at_s: float
    scheduler_s: float
    client_s: float
    events: int
    bytes: int
    packets: int


def sample(client: Any, scheduler: int) -> Sample:
    """Now."""
    events = client.run_on_scheduler(_events)
    fields = next(line for line in Path("/proc/net/dev").read_text().splitlines() if line.strip().startswith("lo:"))
    received, packets = fields.split(":")[1].split()[:2]
    return Sample(time.monotonic(), cpu_s(scheduler), time.process_time(), events, int(received), int(packets))


def _events(dask_scheduler: Any) -> int:
    return int(dask_scheduler._broker._topics[TOPIC].count)


def per_second(before: Sample, after: Sample) -> dict[str, float]:
    """The differences of all counters, per second."""
    seconds = after.at_s - before.at_s
    names = [name for name in Sample.__struct_fields__ if name != "at_s"]
    return {name: round((getattr(after, name) - getattr(before, name)) / seconds, 5) for name in names}


def idle(client: Any, scheduler: int) -> dict[str, float]:
    """Per second, without a run."""
    before = sample(client, scheduler)
    time.sleep(4)
    return per_second(before, sample(client, scheduler))


def watched(fleet: Fleet, run: FleetRun, scenario: Scenario, scheduler: int) -> dict[str, Any]:
    """One run: what it took beside its own seconds, and what it cost per second in the middle."""
    running, samples = threading.Event(), list[Sample]()

    def watch() -> None:
        running.wait()
        for wait in (1.0, scenario.duration_s - 2.5):
            time.sleep(wait)
            samples.append(sample(fleet.client, scheduler))

    watcher = threading.Thread(target=watch)
    watcher.start()
    first_s = []

    def progress(one: Any) -> None:
        if one.phase == "running" and not running.is_set():
            first_s.append(time.monotonic())
            running.set()

    begun = time.monotonic()
    result = run(scenario, progress, threading.Event())
    ended = time.monotonic()
    running.set()
    watcher.join()
    assert len(result.nodes) == len(fleet.hosts), result.warnings
    lead_s = first_s[0] - begun
    error_ns = max(node.clock_error_ns or 0 for node in result.nodes)
    return {
        "before_s": round(lead_s, 3),
        "after_s": round(ended - first_s[0] - scenario.duration_s, 3),
        "clock_error_us": round(error_ns / 1e3, 1),
        **per_second(*samples),
    }


def merging_s(base: LoadResult, hosts: int) -> float:
    """What adding up so many results takes, from their JSON to the JSON of the sum."""
    parts = [
        to_json(msgspec.structs.replace(base, scenario=msgspec.structs.replace(base.scenario, node=(n, hosts))))
        for n in range(1, hosts + 1)
    ]
    begun = time.process_time()
    to_json(merge([msgspec.json.decode(part, type=LoadResult) for part in parts]))
    return time.process_time() - begun


# --- One size ---


def measured(record: Record, hosts: int, base: LoadResult, given: argparse.Namespace) -> None:
    """All rounds of a number of hosts."""
    with laboratory(hosts) as (scheduler, address), distributed.Client(address) as client:
        client.wait_for_workers(hosts, timeout=60)
        begun = time.monotonic()
        fleet = Fleet(client, Simulation(pace=1.0, base=to_json(base)).calls())
        joined_s = time.monotonic() - begun
        run = FleetRun(fleet)
        quiet = idle(client, scheduler)
        for number in range(given.rounds):
            begun = time.monotonic()
            fleet.offsets(fleet.hosts)
            clocks_s = time.monotonic() - begun
            scenario = scenario_of(
                "ntp", "127.0.0.1:123", rate=50 * hosts, duration=given.seconds, profile=None, flows=hosts, warmup=0
            )
            record.add(
                round=number,
                hosts=hosts,
                joined_s=round(joined_s, 3),
                clocks_s=round(clocks_s, 3),
                **watched(fleet, run, scenario, scheduler),
                merge_s=round(merging_s(base, hosts), 4),
                idle_scheduler_s=quiet["scheduler_s"],
                idle_bytes=quiet["bytes"],
                scheduler_mib=round(resident(scheduler) / 1024),
                client_mib=round(resident(os.getpid()) / 1024),
            )


_COLUMNS = {
    "events": "progress events/s",
    "packets": "packets/s",
    "bytes": "bytes/s",
    "scheduler_s": "scheduler, CPU s/s",
    "client_s": "client, CPU s/s",
    "idle_scheduler_s": "scheduler without a run, CPU s/s",
    "joined_s": "asking what each host is, s",
    "clocks_s": "reading all clocks, s",
    "clock_error_us": "worst error of a clock, µs",
    "before_s": "from the order to the start, s",
    "after_s": "from the end to the result, s",
    "merge_s": "of it adding up, CPU s",
    "scheduler_mib": "scheduler, MiB",
    "client_mib": "client, MiB",
}


def reported(record: Record, sizes: list[int], result: int) -> list[str]:
    """A table: medians by number of hosts."""
    lines = [
        f"Simulated hosts, real scheduler; {result / 1000:,.0f} kB a result. Medians. CPUs are shared by all of it.",
        "",
        f"| hosts | {' | '.join(map(str, sizes))} |",
        f"| --- |{' --- |' * len(sizes)}",
    ]
    for column, text in _COLUMNS.items():
        medians = [statistics.median(record.values(column, hosts=hosts)) for hosts in sizes]
        lines.append(f"| {text} | {' | '.join(f'{median:,.4g}' for median in medians)} |")
    return lines


def main() -> None:
    """Measures and keeps."""
    if sys.argv[1] == "--workers":
        address, first, count = sys.argv[2:]
        asyncio.run(workers(address, int(first), int(count)))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result")
    parser.add_argument("--hosts", default="10,30,100")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    if "FLATOUT_INSIDE" not in os.environ:
        inside = ["unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh", sys.executable, *sys.argv]
        sys.exit(subprocess.run(inside, check=False, env=os.environ | {"FLATOUT_INSIDE": "1"}).returncode)
    base = read(given.result)
    assert isinstance(base, LoadResult)
    sizes = [int(size) for size in given.hosts.split(",")]
    record = Record(given.out, "scale")
    for hosts in sizes:
        measured(record, hosts, base, given)
    record.finish(reported(record, sizes, len(to_json(base))))


if __name__ == "__main__":
    main()
