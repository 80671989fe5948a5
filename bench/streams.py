"""Starts servers of streams and DNS that flatout is compared with, on the last CPU; each ends by its own id."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from peers import SERVER, free_port, process

KNOT = """\
server:
    rundir: {folder}
    listen: 127.0.0.1@{port}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
    tcp-max-clients: 20000
    tcp-idle-timeout: 600
    tcp-remote-io-timeout: 0
log:
  - target: stderr
    any: error
database:
    storage: {folder}
zone:
  - domain: example.com
    file: {folder}/example.com.zone
    semantic-checks: off
"""
ZONE = """\
$ORIGIN example.com.
@ 3600 SOA ns hostmaster 1 3600 600 86400 300
@ 3600 NS ns
@ 3600 A 192.0.2.1
ns 3600 A 127.0.0.1
"""


def free_tcp_port() -> int:
    """A TCP port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_port_for_both() -> int:
    """A port that is free for UDP and TCP alike."""
    while True:
        port = free_port()
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_for(port: int, seconds: float = 5.0) -> None:
    """Until somebody listens there."""
    until = time.monotonic() + seconds
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if time.monotonic() > until:
            raise SystemExit(f"nobody listens on port {port}")
        time.sleep(0.05)


@contextlib.contextmanager
def listening(command: Sequence[str], port: int) -> Iterator[tuple[str, int]]:
    """A server that listens on TCP; gives its address and process id."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with process(list(command), SERVER) as running:
        wait_for(port)
        yield f"127.0.0.1:{port}", running.pid


def ceiling_tcp(path: str) -> contextlib.AbstractContextManager[tuple[str, int]]:
    """The plain epoll echo server: `ceiling_tcp serve PORT`."""
    port = free_tcp_port()
    return listening([path, "serve", str(port)], port)


def tcpserver(path: str) -> contextlib.AbstractContextManager[tuple[str, int]]:
    """Tcpscaler's echo server."""
    port = free_tcp_port()
    return listening([path, str(port)], port)


def ours(protocol: str, *options: str) -> contextlib.AbstractContextManager[tuple[str, int]]:
    """`flatout serve PROTOCOL` on one CPU, with both of its threads."""
    port = free_tcp_port()
    command = [sys.executable, "-m", "flatout", "serve", protocol, "--listen", f"127.0.0.1:{port}"]
    return listening([*command, "--threads", "1", "--cpus", str(SERVER), "--quiet", *options], port)


@contextlib.contextmanager
def knot() -> Iterator[tuple[str, int]]:
    """Knot DNS with one small zone, one worker a transport."""
    path = shutil.which("knotd", path=f"{os.environ['PATH']}:/usr/sbin")
    if path is None:
        raise SystemExit("knotd is not installed (Debian: knot)")
    port = free_port_for_both()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "knot.conf").write_text(KNOT.format(folder=folder, port=port), encoding="ascii")
        Path(folder, "example.com.zone").write_text(ZONE, encoding="ascii")
        with listening([path, "-c", str(Path(folder, "knot.conf"))], port) as (target, pid):
            # Knot pins its workers to CPUs of its own choice, the asker's among them.
            for thread in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), {SERVER})
            yield target, pid


def run_on(cpu: int, command: Sequence[str], text: str | None = None) -> tuple[str, float]:
    """Runs a program to its end on one CPU; returns what it printed and the CPU seconds that it used."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        list(command), input=text, capture_output=True, text=True, check=False, preexec_fn=lambda: _settle(cpu)
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.stdout + done.stderr, used


def _settle(cpu: int) -> None:
    os.sched_setaffinity(0, {cpu})
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
