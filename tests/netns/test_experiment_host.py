"""Settings of the host hold while an experiment runs, and are undone after it: also by the next run after a crash."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from conftest import Cli, Net, wait_until

pytestmark = pytest.mark.root

PORTS = "net.ipv4.ip_local_port_range"
TEXT = """\
protocol = "dns"
cooling = 0
[server]
program = "serve"
[load]
rate = 200
duration = "DURATION"
warmup = "20ms"
timeout = "200ms"
connections = 2
[grid]
transport = ["tcp"]
[host]
roles = ["client"]
"""


def write(folder: Path, duration: str) -> None:
    (folder / "some.toml").write_text(TEXT.replace("DURATION", duration), encoding="utf-8")


def ports(net: Net) -> list[str]:
    return net.run(net.left, "sysctl", "-n", PORTS).split()


def test_they_hold_while_it_runs_and_a_crash_leaves_none(net: Net, cli: Cli) -> None:
    before = ports(net)
    assert before != ["1024", "65535"]
    write(cli.folder, "20s")
    at = cli.folder / "some.toml.runs"
    running = cli.start("experiment", "run", "some.toml", "--no-store", inside=net.left)
    wait_until((at / "point001-run1" / "host.csv").exists, 40)
    os.kill(running.process.pid, signal.SIGKILL)
    running.process.wait()
    assert ports(net) == ["1024", "65535"]
    undone = cli("host", "undo", "--journal", at / "host.json", inside=net.left)
    assert undone.code == 0, undone.err
    assert ports(net) == before

    write(cli.folder, "200ms")
    ran = cli("experiment", "run", "some.toml", "--no-store", "--json", "-", "--restart", inside=net.left)
    assert ran.json["runs"][0]["status"] == "done", ran.err
    found = json.loads((at / ran.json["runs"][0]["folder"] / "conditions.json").read_bytes())["settings"]
    assert found[f"{PORTS} /proc/sys/{PORTS.replace('.', '/')}"].split() == ["1024", "65535"]
    assert ports(net) == before
    assert not (at / "host.json").exists()


def test_the_next_run_undoes_what_a_crash_has_left(net: Net, cli: Cli) -> None:
    before = ports(net)
    write(cli.folder, "20s")
    at = cli.folder / "some.toml.runs"
    running = cli.start("experiment", "run", "some.toml", "--no-store", inside=net.left)
    wait_until((at / "host.json").exists, 40)
    os.kill(running.process.pid, signal.SIGKILL)
    running.process.wait()
    # Without settings: what holds then is what was there before.
    text = TEXT.partition("[host]")[0].replace("DURATION", "200ms")
    (cli.folder / "some.toml").write_text(text, encoding="utf-8")
    ran = cli("experiment", "run", "some.toml", "--no-store", "--restart", inside=net.left)
    assert "left the host's settings changed: undone first" in ran.err
    assert ports(net) == before
