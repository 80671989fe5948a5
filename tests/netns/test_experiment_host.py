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
# More than the usual range of ports has room for.
connections = 30000
"""


def write(folder: Path, duration: str) -> None:
    (folder / "some.toml").write_text(TEXT.replace("DURATION", duration), encoding="utf-8")


def ports(net: Net) -> list[str]:
    return net.run(net.left, "sysctl", "-n", PORTS).split()


def test_they_hold_while_it_runs_and_a_crash_leaves_none(net: Net, cli: Cli) -> None:
    before = ports(net)
    write(cli.folder, "20s")
    running = cli.start("experiment", "run", "some.toml", "--no-store", inside=net.left)
    wait_until(lambda: ports(net) == ["1024", "65535"], 40)
    os.kill(running.process.pid, signal.SIGKILL)
    running.process.wait()
    write(cli.folder, "200ms")
    ran = cli("experiment", "run", "some.toml", "--no-store", "--json", "-", "--restart", inside=net.left)
    assert "left the host's settings changed: undone first" in ran.err
    (run,) = ran.json["runs"]
    assert run["status"] == "done", ran.err
    at = cli.folder / "some.toml.runs"
    found = json.loads((at / run["folder"] / "conditions.json").read_bytes())["settings"]
    assert found[f"{PORTS} /proc/sys/{PORTS.replace('.', '/')}"].split() == ["1024", "65535"]
    assert ports(net) == before
    assert not (at / "host.json").exists()
