"""What goes wrong in a fleet, on real Dask processes: each is named within bounded time, and nobody waits for ever."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from conftest import Cli, Ran, Running, free_port, wait_until
from flatout.fleet import at_scheduler

distributed = pytest.importorskip("distributed")
# The module finder of an environment without flatout.
BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "flatout":
            raise ModuleNotFoundError(f"No module named {name!r}", name="flatout")
sys.meta_path.insert(0, Blocked())
"""


class Cluster:
    """A scheduler and workers of this host, and a server that they load."""

    def __init__(self, folder: Path, cli: Cli) -> None:
        self.folder, self.cli = folder, cli
        self.processes: list[subprocess.Popen[bytes]] = []
        self.workers: list[subprocess.Popen[bytes]] = []
        file = folder / "scheduler.json"
        options = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", file)
        self.scheduler = self._start("dask_scheduler", *options, log="scheduler.log")
        wait_until(lambda: file.exists() and file.read_text().endswith("}"), 30, "started")
        self.address: str = json.loads(file.read_text())["address"]
        self.target = f"127.0.0.1:{free_port()}"
        cli.start("serve", "ntp", "--listen", self.target, "--quiet")

    def _start(
        self, program: str, *options: object, log: str, path: str = "", through: Sequence[str] = ()
    ) -> subprocess.Popen[bytes]:
        words = [*through, sys.executable, "-m", f"distributed.cli.{program}", *map(str, options)]
        with (self.folder / log).open("ab") as out:
            process = subprocess.Popen(words, stdout=out, stderr=out, env=os.environ | {"PYTHONPATH": path})
        self.processes.append(process)
        return process

    def add_workers(self, number: int, path: str = "", through: Sequence[str] = ()) -> None:
        """Waits until they are there. `path`: of their modules; `through`: a command that runs them."""
        for _ in range(number):
            options = (self.address, "--no-nanny", "--no-dashboard", "--nthreads", 1)
            self.workers.append(self._start("dask_worker", *options, log="workers.log", path=path, through=through))
        log = self.folder / "scheduler.log"
        wait_until(lambda: log.read_text().count("Register worker") == len(self.workers), 60, "all there")

    def load(self, seconds: str, *more: object, rate: str = "400") -> Running:
        options = ("--rate", rate, "--for", seconds, "--warmup", "0", "--timeout", "200ms", "--flows", 4, *more)
        return self.cli.start("load", "ntp", self.target, "--fleet", self.address, *options)

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path, cli: Cli) -> Iterator[Cluster]:
    made = Cluster(tmp_path, cli)
    try:
        yield made
    finally:
        made.close()


def wait_for_second(running: Running) -> None:
    """Until a second of all hosts has been shown."""
    wait_until(lambda: " s  asked" in running.err.read_text(), 40, "loading")


def ended(running: Running, within_s: float) -> Ran:
    began = time.monotonic()
    ran = running.end(within_s + 10)
    assert time.monotonic() - began < within_s
    return ran


def test_a_scheduler_that_goes_away_ends_the_command_soon(cluster: Cluster) -> None:
    cluster.add_workers(1)
    running = cluster.load("60s")
    wait_for_second(running)
    cluster.scheduler.kill()
    ran = ended(running, 25)
    assert ran.code == 4, ran.err
    assert "the fleet's scheduler is gone, or the network to it; until then " in ran.err
    assert " were sent, " in ran.err
    assert "Traceback" not in ran.err


def test_one_command_drives_a_fleet_at_a_time(cluster: Cluster) -> None:
    cluster.add_workers(1)
    metrics = f"127.0.0.1:{free_port()}"
    first = cluster.load("60s", "--prometheus", metrics)
    wait_for_second(first)
    with urllib.request.urlopen(f"http://{metrics}/metrics", timeout=10) as page:
        text = page.read().decode()
    hosts = re.findall(r'^flatout_load_host_sent_total\{.*host="[^"]+".*\} (\d+)', text, re.MULTILINE)
    assert len(hosts) == 1
    assert int(hosts[0]) > 0
    refused = ended(cluster.load("1s"), 20)
    assert refused.code == 2, refused.err
    assert f"process {first.process.pid}, since " in refused.err
    assert "wait until that has ended, or use another scheduler" in refused.err
    first.kill()
    again = ended(cluster.load("1s", "--json", "-"), 30)
    # A busy machine may hold the generator up.
    assert again.code in (0, 4), f"what a dead command left does not block the next one: {again.err}"
    assert again.json["outcomes"]["planned"] == 400


def test_a_worker_that_stands_still_is_named_and_the_rest_kept(cluster: Cluster) -> None:
    cluster.add_workers(2)
    running = cluster.load("60s", "--json", "all.json")
    wait_for_second(running)
    cluster.workers[0].send_signal(signal.SIGSTOP)
    ran = ended(running, 30)
    result = json.loads((cluster.folder / "all.json").read_text())
    assert (ran.code, result["verdict"]) == (4, "generator-limited"), ran.err
    assert result["why"].startswith("lost during the run: ")
    assert "stands still" in result["why"]
    assert len(result["lost_hosts"]) == 1
    assert len(result["nodes"]) == 1
    assert result["outcomes"]["sent"] > 100


def test_a_worker_without_flatout_is_named_with_what_helps(cluster: Cluster) -> None:
    site = cluster.folder / "without"
    site.mkdir()
    (site / "sitecustomize.py").write_text(BLOCKED)
    cluster.add_workers(1, str(site))
    ran = ended(cluster.load("1s"), 30)
    assert ran.code != 0
    assert "the Python of worker tcp://127.0.0.1:" in ran.err
    assert " has no flatout: install flatout[fleet] " in ran.err
    assert "Traceback" not in ran.err


def test_heartbeats_leave_while_the_engine_takes_the_only_cpu(cluster: Cluster) -> None:
    cpu = min(os.sched_getaffinity(0))
    cluster.add_workers(1, through=("taskset", "-c", str(cpu)))
    running = cluster.load("4s", "--json", "all.json", rate="3M")
    silent: list[float] = []
    with distributed.Client(cluster.address, set_as_default=False) as client:
        while running.process.poll() is None:
            silent += client.run_on_scheduler(at_scheduler.silent).values()
            time.sleep(0.05)
    result = json.loads((cluster.folder / "all.json").read_text())
    # What it could not send it knows of: the thread that sends had no time left.
    assert result["outcomes"]["unsent"] > 0.01 * result["outcomes"]["planned"]
    assert result["lost_hosts"] == []
    # One leaves twice a second.
    assert max(silent) < 3, silent
