"""Many clients from one process: each source address is one for the server, with a socket each or with shared ones."""

from __future__ import annotations

import json
import resource
import socket
import subprocess
import sys
from pathlib import Path

from counting_server import Counting

WANTED = 20_000
# With this limit the flows cannot have descriptors of their own.
DESCRIPTORS = 256


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))


def load(target: str, sources: str, flows: int, tmp_path: Path) -> dict[str, object]:
    """Asks once over each flow, in a process with few descriptors."""
    command = [sys.executable, "-m", "flatout", "load", "ntp", target, "--sources", sources, "--flows", str(flows)]
    command += ["--rate", "10k", "--count", str(flows), "--timeout", "2s", "--json", str(tmp_path / "run.json")]
    # Each request is due 100 µs after the last, so each flow has its turn.
    done = subprocess.run(command, preexec_fn=limited, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (0, 4), done.stderr
    assert "share" in done.stderr, done.stderr
    result: dict[str, object] = json.loads((tmp_path / "run.json").read_text())
    return result


def test_more_clients_than_descriptors(tmp_path: Path) -> None:
    server = Counting(socket.AF_INET, "127.0.0.1")
    try:
        result = load(f"127.0.0.1:{server.port}", "127.1.0.0/17", WANTED, tmp_path)
    finally:
        server.end()
    outcomes = result["outcomes"]
    assert isinstance(outcomes, dict)
    assert outcomes["answered"] > 0.9 * outcomes["sent"], outcomes
    addresses = {address for address, _ in server.seen}
    # What left is what was seen; a disturbed generator leaves requests out.
    assert len(addresses) == len(server.seen) >= outcomes["answered"] > 0.8 * WANTED
    assert len(addresses) > 16_384
