"""What tests that provoke causes in network namespaces share: addresses, servers that fail, loads, what is asserted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import flatout
import flatout.result.files
import flatout.result.finding
from conftest import Cli, Net, until_good, wait_until
from retries import machine_may_be_blamed

PORT = 1123
# Without a warm-up the kernel's counters are read before the first request, so that not one is missed.
LOAD = ("--rate", "2k", "--for", "700ms", "--warmup", "0s", "--timeout", "200ms", "--quiet", "--json", "-")
# On a busy machine these are causes too, and true ones.
BUSY = {"generator", "other programs", "steal", "shared CPU", "soft interrupts", "softnet backlog"}
UNEXPLAINED = 0.001


def with_own_addresses(net: Net) -> Net:
    """The two namespaces, with addresses that no other namespace of this host has: the target is looked for by its."""
    number = os.getpid() % 250
    found = net._replace(left_v4=f"10.97.{number}.1", right_v4=f"10.97.{number}.2")
    for name, address in ((net.left, found.left_v4), (net.right, found.right_v4)):
        net.run(name, "ip", "-4", "address", "flush", "dev", "eth0")
        net.run(name, "ip", "address", "add", f"{address}/24", "dev", "eth0")
    return found


# --- Servers ---

# A server that reads a datagram every `pause` s, or works for `pause` s where that is negative, and answers if asked
# to; its buffer has so many bytes.
SLOW = """
import socket, sys, time
address, port, buffer, pause, answers = sys.argv[1], *map(float, sys.argv[2:])
server = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, int(buffer))
server.bind((address, int(port)))
print("ready", flush=True)
while True:
    data, client = server.recvfrom(2048)
    if answers:
        server.sendto(data, client)
    if pause > 0:
        time.sleep(pause)
    until = time.perf_counter() - pause
    while time.perf_counter() < until:
        pass
"""
# As many sockets of one address as workers; each answers, and works for 1 ms of CPU time for each datagram.
WORKERS = """
import socket, sys, threading, os, time
address, port, workers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def work(server):
    while True:
        data, client = server.recvfrom(2048)
        server.sendto(data, client)
        time.sleep(0.002)
servers = []
for _ in range(workers):
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    server.bind((address, port))
    servers.append(server)
for server in servers:
    threading.Thread(target=work, args=(server,), daemon=True).start()
print("ready", flush=True)
time.sleep(60)
"""


@contextmanager
def running(
    namespace: str, script: str, *arguments: object, before: Callable[[], Any] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A Python program in a namespace, until the end of the block. before: runs in the process before the program."""
    command = ["ip", "netns", "exec", namespace, sys.executable, "-c", script, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=before) as program:  # noqa: PLW1509
        try:
            assert program.stdout is not None
            assert program.stdout.readline().strip() == "ready"
            yield program
        finally:
            program.send_signal(signal.SIGCONT)
            program.kill()


@contextmanager
def serving(cli: Cli, namespace: str, address: str, *more: str, protocol: str = "echo") -> Iterator[int]:
    """flatout's own server; gives its process."""
    options = ("--listen", address, "--threads", 1, "--for", "60s", *more)
    served = cli.start("serve", protocol, *options, inside=namespace)
    wait_until(lambda: "Ctrl-C" in served.err.read_text(), message="serving")
    yield served.process.pid
    served.interrupt()
    served.end()


@contextmanager
def control_group(quota_us: int) -> Iterator[Path | None]:
    """A control group that may use so much of each 100 ms of one CPU; None where none can be made. Gone afterwards."""
    name = f"flatout-test-{os.getpid()}"
    for root, setting, value in (
        (Path("/sys/fs/cgroup"), "cpu.max", f"{quota_us} 100000"),
        (Path("/sys/fs/cgroup/cpu"), "cpu.cfs_quota_us", str(quota_us)),
    ):
        group = root / name
        # Where groups of version 1 are mounted the root is a plain folder.
        if not (root / "cgroup.procs").exists() or not os.access(root, os.W_OK):
            continue
        group.mkdir()
        try:
            if (group / setting).exists():
                (group / setting).write_text(value, encoding="ascii")
                yield group
                return
        finally:
            wait_until(lambda group=group: not (group / "cgroup.procs").read_text(), message="an empty group")
            group.rmdir()
    yield None


# --- Loads ---


def loaded(
    cli: Cli,
    net: Net,
    target: str,
    *more: str,
    protocol: str = "echo",
    rate: str = "2k",
    with_cgroups: bool = False,
) -> flatout.LoadResult:
    """A load over datagrams from the left namespace; the ledger of its result closes.

    with_cgroups: `ip netns exec` would hide the control groups behind a new /sys.
    """
    transport = ("--transport", "udp") if protocol == "echo" else ()
    if with_cgroups:
        enter = ("nsenter", f"--net=/run/netns/{net.left}")
        options = (*transport, "--rate", rate, *LOAD[2:], *more)
        return _result(cli.start("load", protocol, target, *options, through=enter).end())
    done = cli("load", protocol, target, *transport, "--rate", rate, *LOAD[2:], *more, inside=net.left)
    return _result(done)


def over_tcp(
    cli: Cli, net: Net, target: str, *more: str, rate: str = "100", connect_timeout: str = "500ms"
) -> flatout.LoadResult:
    """A load over connections from the left namespace."""
    options = ("--connect-timeout", connect_timeout, "--rate", rate, *LOAD[2:])
    return _result(cli("load", "echo", target, "--transport", "tcp", *more, *options, inside=net.left))


def _result(done: Any) -> flatout.LoadResult:
    assert done.out, done.err
    run = flatout.result.files.from_json(done.out)
    assert isinstance(run, flatout.LoadResult)
    check(run)
    return run


def check(run: flatout.LoadResult) -> None:
    """The ledger closes."""
    assert run.ledger is not None
    lost = sum(line.count or 0 for line in run.ledger.lines if line.side == "lost")
    assert run.outcomes.lost == lost + (run.ledger.unexplained or 0), run.ledger


# --- What is asserted ---


def first(run: flatout.LoadResult, of_busy: str = "") -> flatout.result.finding.Finding:
    """The weightiest finding that is not of what else runs on this machine. of_busy: a cause of a busy machine that is
    the one provoked.
    """
    found = [finding for finding in run.findings if finding.name not in BUSY - {of_busy}]
    assert found, (run.findings, run.ledger)
    return found[0]


def named(run: flatout.LoadResult, cause: str, at_least: int = 0) -> flatout.result.finding.Finding:
    """The first finding, which must be this cause, explain so many requests, and leave next to nothing unexplained."""
    found = first(run, cause)
    assert found.name == cause, (run.findings, run.ledger)
    assert found.explains >= at_least, (found, run.ledger)
    assert unexplained(run) <= UNEXPLAINED, (run.ledger, run.outcomes)
    return found


def quiet_enough(attempt: Callable[[], flatout.LoadResult], cause: str) -> flatout.LoadResult:
    """The first run in which this cause stands first, for causes that a busy machine hides.

    Skips the test where others used the CPUs in all attempts.
    """

    def good(run: flatout.LoadResult) -> bool:
        return bool(run.findings) and first_name(run, cause) == cause and unexplained(run) <= UNEXPLAINED

    run = until_good(attempt, good, seconds=20)
    assert isinstance(run, flatout.LoadResult)
    if not good(run) and machine_may_be_blamed() and BUSY & {each.name for each in run.findings}:
        pytest.skip("others on the machine disturbed every attempt")
    return run


def first_name(run: flatout.LoadResult, cause: str) -> str:
    """The name of the first finding that is not of what else runs on this machine; empty without one."""
    return next((each.name for each in run.findings if each.name not in BUSY - {cause}), "")


def count(run: flatout.LoadResult, place: str) -> int:
    """What the ledger's lines of a place have."""
    assert run.ledger is not None
    return sum(line.count or 0 for line in run.ledger.lines if line.place == place)


def unexplained(run: flatout.LoadResult) -> float:
    """The unexplained share of what was lost or refused."""
    assert run.ledger is not None
    return (run.ledger.unexplained or 0) / max(run.outcomes.lost + run.outcomes.refused, 1)


def undisturbed(run: flatout.LoadResult) -> bool:
    """Nothing was lost, and the generator kept its schedule."""
    return run.outcomes.lost == 0 and run.verdict == "ok"
