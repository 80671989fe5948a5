"""Starts the servers that flatout is compared with, on the last CPU, and ends each by its own id."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import flatout

ASKER, SERVER = 0, max(os.sched_getaffinity(0))

CHRONY = """\
local stratum 10
allow 127.0.0.0/8
port {port}
bindaddress 127.0.0.1
cmdport 0
bindcmdaddress /
pidfile {folder}/pid
noclientlog
"""


def free_port() -> int:
    """A UDP port of loopback that nobody uses now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def process(command: list[str], cpu: int) -> Iterator[subprocess.Popen[bytes]]:
    """A peer, kept on a CPU."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            os.sched_setaffinity(running.pid, {cpu})
            time.sleep(0.3)
            if running.poll() is not None:
                raise SystemExit(f"{command[0]} ended at once with code {running.returncode}")
            yield running
        finally:
            running.terminate()


@contextlib.contextmanager
def ceiling(path: str, *options: str) -> Iterator[str]:
    """The kernel's ceiling: `ceiling serve PORT ...`."""
    port = free_port()
    with process([path, "serve", str(port), *options], SERVER):
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def chronyd(text: str = CHRONY) -> Iterator[str]:
    """One chronyd that does not touch the clock; by default without a client log."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "chrony.conf")
        config.write_text(text.format(port=port, folder=folder), encoding="ascii")
        path = shutil.which("chronyd", path=f"{os.environ['PATH']}:/usr/sbin")
        if path is None:
            raise SystemExit("chronyd is not installed (Debian: chrony)")
        with process([path, "-x", "-d", "-U", "-u", "root", "-f", str(config)], SERVER):
            yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def ours() -> Iterator[str]:
    """`flatout serve ntp` in a process of its own, on a wildcard, so that it answers from the address asked."""
    import sys

    port = free_port()
    command = [sys.executable, "-m", "flatout", "serve", "ntp", "--listen", f"0.0.0.0:{port}", "--quiet"]
    with process(command, SERVER):
        time.sleep(0.5)
        yield f"127.0.0.1:{port}"


def ask(target: str, rate: float, seconds: float = 1.0, **options: object) -> flatout.LoadResult:
    """One load from the first CPU over 64 flows, without GSO."""
    plain: dict[str, object] = {"warmup": 0.2, "timeout": 0.25, "flows": 64, "cpus": (ASKER,)}
    return flatout.load("ntp", target, rate=rate, duration=seconds, **{**plain, **options})  # type: ignore[arg-type]


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
