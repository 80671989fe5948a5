"""Many IPv6 clients from one process: a whole prefix that is local to a namespace, over shared sockets."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT, Net

pytestmark = pytest.mark.root

PREFIX, FLOWS = "fd7e:57::/64", 2_000


def test_an_ipv6_prefix(net: Net, tmp_path: Path) -> None:
    net.run(net.left, "ip", "-6", "route", "add", "local", PREFIX, "dev", "lo")
    inside = ["ip", "netns", "exec", net.left]
    serve = [*inside, sys.executable, str(ROOT / "tests" / "counting_server.py"), "::1"]
    with subprocess.Popen(serve, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        port = server.stdout.readline().strip()
        load = [*inside, "prlimit", "--nofile=256:256", sys.executable, "-m", "flatout", "load", "ntp", f"[::1]:{port}"]
        load += ["--sources", PREFIX, "--flows", str(FLOWS), "--rate", "10k", "--count", str(FLOWS), "--timeout", "2s"]
        load += ["--json", str(tmp_path / "run.json")]
        done = subprocess.run(load, capture_output=True, text=True, timeout=60, check=False)
        seen = int(server.communicate(timeout=20)[0])
    assert done.returncode in (0, 4), done.stderr
    assert "share 1 socket" in done.stderr, done.stderr
    outcomes = json.loads((tmp_path / "run.json").read_text())["outcomes"]
    assert seen >= outcomes["answered"] > 0.8 * FLOWS
