"""Whole experiments with the real servers of Debian: transports and clients, a crash in the middle, failures."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Cli, wait_until
from flatout.experiments.server_process import _environment, _processes

pytestmark = pytest.mark.peer

# Rates and lengths at which any machine keeps the schedule, as far as any does: what is tested is not the numbers.
SMALL = """\
protocol = "{protocol}"
repetitions = {repetitions}
cooling = "10ms"
[server]
program = "{program}"
[load]
rate = 300
duration = "300ms"
warmup = "50ms"
timeout = "300ms"
[grid]
transport = {transports}
connections = [4, 12]
"""


def write(folder: Path, program: str, transports: list[str], repetitions: int = 1, protocol: str = "dns") -> str:
    text = SMALL.format(program=program, transports=json.dumps(transports), repetitions=repetitions, protocol=protocol)
    (folder / "some.toml").write_text(text, encoding="utf-8")
    return "some.toml"


def left(folder: Path) -> list[int]:
    """The processes that servers of the experiment in a folder still have."""
    mark = f"FLATOUT_EXPERIMENT={folder / 'some.toml.runs'}".encode()
    return [pid for pid in _processes() if mark in _environment(pid).split(b"\0")]


def answered(run: Any) -> bool:
    """Whether it has a result, with answers: on a busy machine it may be one of a generator that was late."""
    return run["status"] == "done" and run["value"] > 0 and run["exit_code"] in (0, 4)


@pytest.mark.parametrize(
    ("program", "needs", "transports"),
    [
        ("unbound", "unbound", ["udp", "tls"]),
        ("nsd", "nsd", ["tcp", "tls"]),
        ("knot", "knotd", ["udp", "tcp"]),
        ("bind9", "named", ["tcp", "tls"]),
        ("chronyd", "chronyd", ["udp"]),
        ("serve", "sh", ["tcp"]),
    ],
)
def test_each_server_starts_and_answers(
    request: pytest.FixtureRequest, program: str, needs: str, transports: list[str]
) -> None:
    cli, tmp_path = request.getfixturevalue("cli"), request.getfixturevalue("tmp_path")
    request.getfixturevalue("peer")(needs)
    protocol = "ntp" if program == "chronyd" else "dns"
    name = write(tmp_path, program, transports, protocol=protocol)
    if program == "chronyd":
        # It has no connections: clients are flows.
        text = (tmp_path / name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(text.replace("connections =", "flows ="), encoding="utf-8")
    ran = cli("experiment", "run", name, "--json", "-", "--no-store")
    runs = ran.json["runs"]
    assert [answered(run) for run in runs] == [True] * (2 * len(transports)), ran.err
    assert ran.code in (0, 4)
    assert all(run["server_version"] for run in runs)
    folder = tmp_path / f"{name}.runs"
    for run in runs:
        at = folder / run["folder"]
        assert len(list(at.glob("*.conf")) + list(at.glob("*.toml"))) == 1
        assert json.loads((at / "conditions.json").read_bytes())["settings"]
        rows = (at / "host.csv").read_text(encoding="ascii").splitlines()
        assert len(rows) >= 2, "a row each 100 ms"
    assert left(tmp_path) == []


def test_a_crash_in_the_middle_and_the_rest_of_it(cli: Cli, peer: Callable[[str], str], tmp_path: Path) -> None:
    peer("unbound")
    name = write(tmp_path, "unbound", ["udp", "tcp"], repetitions=2)
    folder = tmp_path / f"{name}.runs"
    running = cli.start("experiment", "run", name, "--no-store")
    # In the third run, while its server runs.
    third = folder / "point003-run1" / "conditions.json"
    wait_until(third.exists, 60, "in the third run")
    os.kill(running.process.pid, signal.SIGKILL)
    running.process.wait()
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("point*/run.json")}
    assert len(kept) == 2
    ran = cli("experiment", "run", name, "--no-store", "--json", "-")
    assert "2 of 8 runs are there already: 6 are left" in ran.err
    result = ran.json
    assert result["complete"]
    assert [answered(run) for run in result["runs"]] == [True] * 8
    order = [(run["repetition"], run["point"]) for run in sorted(result["runs"], key=lambda run: run["started_at"])]
    assert order == [(repetition, point) for repetition in (1, 2) for point in (1, 2, 3, 4)]
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "what has ended is not made again"
    assert left(tmp_path) == []


def test_ctrl_c_stops_the_server_and_keeps_what_there_is(cli: Cli, peer: Callable[[str], str], tmp_path: Path) -> None:
    peer("unbound")
    name = write(tmp_path, "unbound", ["udp"])
    text = (tmp_path / name).read_text(encoding="utf-8")
    (tmp_path / name).write_text(text.replace('duration = "300ms"', 'duration = "30s"'), encoding="utf-8")
    running = cli.start("experiment", "run", name, "--no-store", "--json", "out.json")
    at = tmp_path / f"{name}.runs" / "point001-run1"
    wait_until(lambda: (at / "host.csv").exists() and (at / "host.csv").read_text().count("\n") > 3, 30)
    assert left(tmp_path)
    running.interrupt()
    ran = running.end()
    assert ran.code == 130
    assert "interrupted; the same command goes on" in ran.err
    assert json.loads((tmp_path / "out.json").read_bytes())["complete"] is False
    assert json.loads((at / "interrupted.json").read_bytes())["verdict"] == "interrupted"
    assert left(tmp_path) == []


def test_a_server_that_does_not_start_fails_its_points_only(
    cli: Cli, peer: Callable[[str], str], tmp_path: Path
) -> None:
    peer("unbound")
    name = write(tmp_path, "unbound", ["udp"])
    text = (tmp_path / name).read_text(encoding="utf-8")
    # 9,999,999 threads are more than it can start.
    text = text.replace("connections = [4, 12]", "connections = [4]\nserver.threads = [1, 9999999]")
    (tmp_path / name).write_text(text, encoding="utf-8")
    began = time.monotonic()
    ran = cli("experiment", "run", name, "--no-store", "--json", "-")
    assert ran.code == 3
    good, bad = ran.json["runs"]
    assert answered(good)
    assert bad["status"] == "failed"
    assert bad["why"].startswith("the server ")
    assert bad["log_tail"]
    assert time.monotonic() - began < 60
    assert left(tmp_path) == []


def test_a_server_in_a_namespace(cli: Cli, peer: Callable[[str], str], net: Any, tmp_path: Path) -> None:
    peer("unbound")
    name = write(tmp_path, "unbound", ["udp", "tcp"])
    text = (tmp_path / name).read_text(encoding="utf-8")
    where = f'program = "unbound"\nnamespace = "{net.right}"\naddress = "{net.right_v4}"'
    (tmp_path / name).write_text(text.replace('program = "unbound"', where), encoding="utf-8")
    ran = cli("experiment", "run", name, "--no-store", "--json", "-", inside=net.left)
    assert [answered(run) for run in ran.json["runs"]] == [True] * 4, ran.err
    assert left(tmp_path) == []
