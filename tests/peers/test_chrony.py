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

SERVING = "local stratum 10\nallow 127.0.0.1\nport {port}\nbindaddress 127.0.0.1\n{more}\n"
KEYS = """\
1 MD5 HEX:000102030405060708090a0b0c0d0e0f
2 SHA1 ASCII:no-secret
3 AES128 HEX:0f0e0d0c0b0a09080706050403020100
4 SHA1 HEX:ff
"""
ALONE = "cmdport 0\nbindcmdaddress /\npidfile {folder}/pid\n"
QUICK: Any = {"rate": 200, "duration": 0.2, "warmup": 0, "timeout": 0.2}


def as_whom(command: list[str]) -> list[str]:
    """Without the clock's control and as the user who tests."""
    return [*command, "-U", *(["-u", "root"] if os.geteuid() == 0 else [])]


@pytest.fixture
def chronyd(peer: Callable[[str], str], tmp_path: Path) -> Iterator[str]:
    """The address of a chronyd that serves its local clock."""
    yield from serving(peer, tmp_path, "noclientlog")


@pytest.fixture
def remembering(peer: Callable[[str], str], tmp_path: Path) -> Iterator[str]:
    """The same with a log of clients, so that it answers in interleaved mode, and with keys."""
    keys = tmp_path / "chrony.keys"
    keys.write_text(KEYS, encoding="ascii")
    keys.chmod(0o600)
    yield from serving(peer, tmp_path, f"keyfile {keys}")


def serving(peer: Callable[[str], str], tmp_path: Path, more: str) -> Iterator[str]:
    """Runs it with these lines of configuration."""
    port = free_port()
    config = tmp_path / "server.conf"
    config.write_text((SERVING + ALONE).format(port=port, folder=tmp_path, more=more), encoding="ascii")
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


def test_mode_1_and_extension_fields_are_answered(chronyd: str) -> None:
    for options in ({"mode": 1}, {"mode": 1, "version": 3}, {"extension_field": "0x7777:28,F323:32"}):
        run = flatout.load("ntp", chronyd, **{**QUICK, "options": options})
        assert run.outcomes.answered == run.tallies["basic"] > 0, options


@pytest.mark.parametrize("number", [1, 2, 3])
def test_keys_are_chronys(remembering: str, tmp_path: Path, number: int) -> None:
    asked: Any = {**QUICK, "options": {"key_file": str(tmp_path / "chrony.keys"), "key_id": number}}
    run = flatout.load("ntp", remembering, **asked)
    assert run.outcomes.answered == run.tallies["basic"] > 0
    other = tmp_path / "other.keys"
    other.write_text(f"{number} SHA1 ASCII:another\n", encoding="ascii")
    run = flatout.load("ntp", remembering, **{**QUICK, "options": {"key_file": str(other)}})
    assert run.outcomes.answered == 0 < run.outcomes.lost, "chronyd is silent where a code is wrong"


def test_chronyd_answers_in_interleaved_mode(remembering: str) -> None:
    def attempt() -> flatout.LoadResult:
        options = {"interleaved": True, "offset": True}
        return flatout.load("ntp", remembering, rate=500, duration=1, warmup=0.5, flows=16, options=options)

    run = until_good(attempt, lambda run: run.outcomes.lost == 0)
    assert run.tallies["interleaved"] > 0.9 * run.outcomes.answered > 0, run.tallies
    assert run.tallies["basic"] + run.tallies["interleaved"] == run.outcomes.answered
    # One clock: what is measured is the error of the stamps. That of a thread put aside between its two readings is ms.
    assert run.offset_ns
    assert abs(run.offset_ns.p50) < 50_000
    assert run.offset_ns.count == run.outcomes.answered


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
