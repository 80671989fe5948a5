"""Namespaces over a bridge as hosts of a fleet: started together, added up exactly, and one that is killed is named."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Cli, Running, may_have_namespaces, wait_until

pytestmark = pytest.mark.root
_numbers = itertools.count()


class Laboratory:
    """So many hosts and one more with the server and the scheduler, on one bridge in a namespace of its own."""

    def __init__(self, stem: str, hosts: int, ip: str) -> None:
        self.stem, self._ip = stem, ip
        self.center = f"{stem}-c"
        self.hosts = [f"{stem}-{n}" for n in range(hosts)]
        self.processes: list[subprocess.Popen[bytes]] = []

    def build(self) -> None:
        for name in (self.center, *self.hosts):
            may_have_namespaces(self._try("netns", "add", name))
        self._run("-n", self.center, "link", "add", "name", "bridge0", "type", "bridge")
        self._run("-n", self.center, "addr", "add", "10.98.0.1/24", "dev", "bridge0")
        for device in ("lo", "bridge0"):
            self._run("-n", self.center, "link", "set", device, "up")
        for n, name in enumerate(self.hosts):
            peer = ("peer", "name", f"v{n}", "netns", self.center)
            self._run("-n", name, "link", "add", "eth0", "type", "veth", *peer)
            self._run("-n", name, "addr", "add", f"10.98.0.{n + 10}/24", "dev", "eth0")
            self._run("-n", self.center, "link", "set", f"v{n}", "master", "bridge0", "up")
            for device in ("lo", "eth0"):
                self._run("-n", name, "link", "set", device, "up")

    def _try(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self._ip, *words], capture_output=True, text=True, check=False)

    def _run(self, *words: str) -> None:
        done = self._try(*words)
        assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"

    def start(self, name: str, *command: object, log: Path) -> subprocess.Popen[bytes]:
        """Starts a program inside a namespace."""
        words = [self._ip, "netns", "exec", name, *map(str, command)]
        with log.open("ab") as out:
            self.processes.append(subprocess.Popen(words, stdout=out, stderr=out))
        return self.processes[-1]

    def close(self) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()
        for name in (self.center, *self.hosts):
            self._try("netns", "delete", name)

    def sent_packets(self) -> int:
        """By the counter of a packet filter in front of the server."""
        found = json.loads(self.nft("-j", "list", "counter", "ip", "t", "c"))["nftables"]
        counters = [one["counter"] for one in found if "counter" in one]
        return int(counters[0]["packets"])

    def hold_connections(self, host: int) -> None:
        """Lets that host open no connection to the echo server; counts its attempts, and all data that goes there."""
        rules = "add table ip s; add counter ip s attempts; add counter ip s data;"
        rules += "add chain ip s i { type filter hook input priority 0; };"
        rules += (
            f"add rule ip s i ip saddr 10.98.0.{host + 10} tcp dport 1124 tcp flags syn counter name attempts drop;"
        )
        rules += "add rule ip s i tcp dport 1124 tcp flags & psh == psh counter name data"
        self.nft(rules)

    def counted(self, name: str) -> int:
        """What `hold_connections` counts."""
        found = json.loads(self.nft("-j", "list", "counter", "ip", "s", name))["nftables"]
        return int(next(one["counter"]["packets"] for one in found if "counter" in one))

    def nft(self, *words: str) -> str:
        command = [self._ip, "netns", "exec", self.center, "nft", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def count(self) -> None:
        rules = "add table ip t; add counter ip t c; add chain ip t i { type filter hook input priority 0; };"
        rules += "add rule ip t i udp dport 1123 counter name c"
        self.nft(rules)


Start = Callable[[int], tuple[Laboratory, str]]


@pytest.fixture
def fleet(root: None, peer: Callable[[str], str], cli: Cli, tmp_path: Path) -> Iterator[Start]:  # noqa: ARG001
    """Starts a laboratory: a server, a scheduler, a worker on each host; gives it and the scheduler's address."""
    made: list[Laboratory] = []

    def start(hosts: int) -> tuple[Laboratory, str]:
        lab = Laboratory(f"flatout-f{os.getpid()}-{next(_numbers)}", hosts, peer("ip"))
        made.append(lab)
        lab.build()
        lab.count()
        cli.start("serve", "ntp", "--listen", "10.98.0.1:1123", "--quiet", inside=lab.center)
        dask = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
        file = tmp_path / "scheduler.json"
        options = ("--host", "10.98.0.1", "--port", 8786, "--no-dashboard", "--scheduler-file", file)
        lab.start(lab.center, *dask, *options, log=tmp_path / "scheduler.log")
        wait_until(file.exists, message="started")
        for name in lab.hosts:
            worker = (sys.executable, "-m", "distributed.cli.dask_worker", "tcp://10.98.0.1:8786")
            lab.start(name, *worker, "--no-nanny", "--no-dashboard", "--nthreads", 1, log=tmp_path / f"{name}.log")
        wait_until(lambda: _workers(tmp_path) == hosts, 60, "all there")
        return lab, "tcp://10.98.0.1:8786"

    try:
        yield start
    finally:
        for lab in made:
            lab.close()


def _workers(folder: Path) -> int:
    return (folder / "scheduler.log").read_text().count("Register worker")


def result_of(running: Running, path: Path) -> dict[str, Any]:
    ran = running.end(120)
    assert path.exists(), ran.err
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def began_apart_ms(result: dict[str, Any]) -> float:
    return max(node["start_late_ns"] for node in result["nodes"]) / 1e6


def load(cli: Cli, lab: Laboratory, where: str, seconds: str) -> Running:
    options = ("--rate", "600", "--for", seconds, "--warmup", "0", "--timeout", "500ms", "--json", "all.json")
    return cli.start("load", "ntp", "10.98.0.1:1123", "--fleet", where, *options, inside=lab.center)


def check_sums(lab: Laboratory, result: dict[str, Any], hosts: int) -> None:
    assert len(result["nodes"]) == hosts
    assert result["outcomes"]["sent"] == lab.sent_packets() == sum(node["sent"] for node in result["nodes"])
    assert result["outcomes"]["planned"] == 600 * 2
    counted = ("answered", "late", "unsent")
    assert result["latency_ns"]["from_due"]["count"] == sum(result["outcomes"][name] for name in counted)
    assert all(node["clock_error_ns"] < 1e6 for node in result["nodes"])
    # One that is held up by a busy machine says so.
    assert began_apart_ms(result) <= 1 or any("apart" in text for text in result["warnings"])


def test_hosts_start_together_and_add_up(fleet: Start, cli: Cli, tmp_path: Path) -> None:
    lab, where = fleet(3)
    result = result_of(load(cli, lab, where, "2s"), tmp_path / "all.json")
    check_sums(lab, result, 3)


def test_a_host_that_is_killed_is_named_and_the_rest_kept(fleet: Start, cli: Cli, tmp_path: Path) -> None:
    lab, where = fleet(3)
    running = load(cli, lab, where, "20s")
    wait_until(lambda: lab.sent_packets() > 600, 40, "loading")
    lab.processes[-1].send_signal(signal.SIGKILL)
    result = result_of(running, tmp_path / "all.json")
    assert result["verdict"] == "generator-limited"
    assert result["why"].startswith("lost during the run: ")
    assert len(result["nodes"]) == 2
    assert "is missing" in result["warnings"][0]
    assert result["duration_s"] < 15, "the others ended early"


def test_hosts_begin_once_the_connections_of_all_stand_and_share_by_their_cpus(
    fleet: Start, cli: Cli, tmp_path: Path
) -> None:
    lab, where = fleet(3)
    cli.start("serve", "echo", "--listen", "10.98.0.1:1124", "--quiet", inside=lab.center)
    lab.hold_connections(2)
    os.sched_setaffinity(lab.processes[-1].pid, {min(os.sched_getaffinity(0))})
    options = ("--transport", "tcp", "--connections", "30", "--rate", "600", "--for", "1s", "--warmup", "0")
    running = cli.start(
        *("load", "echo", "10.98.0.1:1124", "--fleet", where, "--threads", "2", *options, "--json", "all.json"),
        inside=lab.center,
    )
    # The connections, ten at most, are tried again after a second: the other hosts have stood for that long.
    wait_until(lambda: lab.counted("attempts") > 10, 60, "slow")
    assert lab.counted("data") == 0
    lab.nft("flush", "chain", "ip", "s", "i")
    result = result_of(running, tmp_path / "all.json")
    assert result["connections"]["established"] == 30
    assert result["outcomes"]["planned"] == 600
    assert all(node["sent"] > 0 for node in result["nodes"])
    # Workers are in the order of their addresses.
    one_cpu = 1 if len(os.sched_getaffinity(0)) == 1 else 0.5
    whole = 2 + one_cpu
    assert [node["share"] for node in result["nodes"]] == pytest.approx([1 / whole, 1 / whole, one_cpu / whole])
    assert [node["flows"] for node in result["nodes"]] == ([12, 12, 6] if one_cpu < 1 else [10, 10, 10])
    assert result["duration_s"] < 1.1, "all ran at the same time"
    assert began_apart_ms(result) <= 1 or any("apart" in text for text in result["warnings"])


@pytest.mark.slow
def test_eight_hosts(fleet: Start, cli: Cli, tmp_path: Path) -> None:
    lab, where = fleet(8)
    for _ in range(3):
        result = result_of(load(cli, lab, where, "2s"), tmp_path / "all.json")
        if began_apart_ms(result) <= 1:
            break
    assert began_apart_ms(result) <= 1
    assert len(result["nodes"]) == 8
