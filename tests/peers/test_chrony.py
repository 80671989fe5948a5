"""chronyd as target of load and limit, and as client of our server: the server that people really have."""

from __future__ import annotations

import ipaddress
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import flatout
from conftest import Cli, free_port, until_good, wait_until
from flatout.host import target

pytestmark = pytest.mark.peer

LOOPBACK = ipaddress.ip_address("127.0.0.1")

SERVING = "local stratum 10\nallow 127.0.0.1\nport {port}\nbindaddress 127.0.0.1\nnoclientlog\n"
ALONE = "cmdport 0\nbindcmdaddress /\npidfile {folder}/pid\n"
QUICK: Any = {"rate": 200, "duration": 0.2, "warmup": 0, "timeout": 0.2}


def as_whom(command: list[str]) -> list[str]:
    """Without the clock's control and as the user who tests."""
    return [*command, "-U", *(["-u", "root"] if os.geteuid() == 0 else [])]


@pytest.fixture
def chronyd(peer: Callable[[str], str], tmp_path: Path) -> Iterator[str]:
    """The address of a chronyd that serves its local clock."""
    port = free_port()
    config = tmp_path / "server.conf"
    config.write_text((SERVING + ALONE).format(port=port, folder=tmp_path), encoding="ascii")
    command = as_whom([peer("chronyd"), "-x", "-d", "-f", str(config)])
    with (tmp_path / "server.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        address = f"127.0.0.1:{port}"

        def ready() -> bool:
            assert process.poll() is None, (tmp_path / "server.log").read_text()
            # Before that, one of the load's own sockets might take the port.
            listens = process.pid in target.find(LOOPBACK, port, stream=False).pids
            return listens and flatout.load("ntp", address, **QUICK).outcomes.answered > 0

        try:
            wait_until(ready, message="answering")
            yield address
        finally:
            process.terminate()


def test_chronyds_answers_are_right(chronyd: str) -> None:
    def attempt() -> flatout.LoadResult:
        return flatout.load("ntp", chronyd, rate=5000, duration=0.5, warmup=0.1)

    run = until_good(attempt, lambda run: run.outcomes.lost == 0)
    assert run.outcomes.answered == run.outcomes.sent > 1000, run.why
    assert run.tallies["basic"] == run.outcomes.answered
    assert (run.outcomes.invalid, run.outcomes.duplicate, run.outcomes.refused) == (0, 0, 0)


def test_every_version_is_answered_in_kind(chronyd: str) -> None:
    for version in (1, 2, 3, 4):
        run = flatout.load("ntp", chronyd, **{**QUICK, "options": {"version": version}})
        assert run.outcomes.answered == run.tallies["basic"] > 0


def test_a_limit_is_found(chronyd: str, cli: Cli) -> None:
    def attempt() -> Any:
        return cli("limit", "ntp", chronyd, "--loss", "5%", "--max", "40k", "--budget", "8s", "--json", "-", "--quiet")

    done = until_good(attempt, lambda done: (done.json["rate_per_s"] or 0) > 0)
    found = done.json
    assert found["rate_per_s"] > 500, found["sentence"]
    for trial in found["trials"]:
        assert trial["outcomes"]["invalid"] == trial["outcomes"]["refused"] == 0
        assert trial["tallies"]["basic"] == trial["outcomes"]["answered"] + trial["outcomes"]["late"]


def test_a_chronyd_that_dies_is_noticed(chronyd: str, cli: Cli, tmp_path: Path) -> None:
    load = cli.start(
        *(
            "load",
            "ntp",
            chronyd,
            "--rate",
            "1k",
            "--for",
            "40s",
            "--warmup",
            "0",
            "--timeout",
            "200ms",
            "--json",
            "-",
            "--quiet",
        )
    )
    pid = int((tmp_path / "pid").read_text())
    wait_until(
        lambda: Path(f"/proc/{load.process.pid}/task").exists() and threads(load.process.pid) > 1, message="asking"
    )
    os.kill(pid, signal.SIGKILL)
    done = load.end()
    assert (done.code, done.json["verdict"]) == (3, "target-lost"), done.json["why"]
    assert done.json["outcomes"]["refused"] > 0


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


@pytest.mark.parametrize("flags", ["", pytest.param("version 3", marks=pytest.mark.slow), "xleave"])
def test_chronyd_takes_our_time(peer: Callable[[str], str], tmp_path: Path, flags: str) -> None:
    with flatout.serve("ntp", "127.0.0.1:0") as server:
        port = server.address.rpartition(":")[2]
        config = tmp_path / "client.conf"
        config.write_text(
            f"server 127.0.0.1 port {port} iburst {flags}\n" + ALONE.format(folder=tmp_path), encoding="ascii"
        )
        command = as_whom([peer("chronyd"), "-Q", "-t", "20", "-f", str(config)])
        done = subprocess.run(command, capture_output=True, text=True, timeout=40, check=False)
        said = done.stdout + done.stderr
        assert server.stats()["answered"] >= 1
    assert done.returncode == 0, said
    offset = re.search(r"System clock wrong by (-?[\d.]+) seconds", said)
    assert offset, said
    assert abs(float(offset[1])) < 0.1, "the same clock"
