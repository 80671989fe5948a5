"""What all tests share: the command line, servers, polling, peers, namespaces; one list of skips, one of retries.

A skip is a hole in the proof, so in CI (the variable CI is "true") one that tests/skips.txt does not list is a failure.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import settings

import flatout
import retries
from commands import Cli, Ran, Running
from retries import until_good

__all__ = ["ROOT", "Cli", "Net", "Ran", "Running", "free_port", "free_tcp_port", "until_good", "wait_until"]

ROOT = Path(__file__).resolve().parent.parent
# Programs whose packages exclude those of others: unpacked by .ci/peers, not installed.
PEERS = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "peers"
UNPACKED = ":".join(str(PEERS / folder) for folder in ("usr/sbin", "usr/bin", "bin", "lib/systemd", "usr/lib/systemd"))
ADMIN_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:{UNPACKED}"
_SKIPS = Path(__file__).with_name("skips.txt")
_numbers = itertools.count()
# Each process of the tests begins elsewhere.
_ports = itertools.count(os.getpid() * 4099)

# What tests measure is nobody's: those of the store name one of their own.
os.environ["FLATOUT_STORE"] = "off"

# How long an example takes says something of the machine only.
settings.register_profile("unhurried", settings(), deadline=None)
settings.load_profile("unhurried")

# A child of a job in the background would ignore Ctrl-C from its start, and the tests of Ctrl-C with it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# --- Skips ---


def allowed_skips(text: str) -> dict[str, str]:
    """Beginnings of test names and their reasons, from lines like `tests/peers/test_x.py::test_y | why`."""
    lines = [line.strip() for line in text.splitlines()]
    pairs = [line.split("|", 1) for line in lines if line and not line.startswith("#")]
    return {name.strip(): reason.strip() for name, reason in pairs}


def may_skip(name: str, listed: dict[str, str]) -> bool:
    """Whether the list has this test, its file or its folder."""
    return any(name.startswith(beginning) for beginning in listed)


def _judge_skip(report: Any) -> None:
    if os.environ.get("CI") != "true" or not report.skipped or hasattr(report, "wasxfail"):
        return
    if not may_skip(report.nodeid, allowed_skips(_SKIPS.read_text(encoding="utf-8"))):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped in CI and not listed in tests/skips.txt: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Turns skips that are not listed into failures, in CI; notes how many attempts a test needed."""
    report = yield
    _judge_skip(report)
    needed = retries.take(item.nodeid) if call.when == "call" else None
    if needed is not None:
        # A property, and no global: reports alone come back from the processes of pytest-xdist.
        report.user_properties.append((retries.PROPERTY, list(needed)))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    """The same for files that skip as a whole."""
    report = yield
    _judge_skip(report)
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Lists the tests that needed more than one attempt."""
    reports = [report for listed in terminalreporter.stats.values() for report in listed]
    if lines := retries.summary(reports):
        terminalreporter.section("tests that needed more than one attempt")
        for line in lines:
            terminalreporter.write_line(line)


# --- Polling ---


def wait_until(what: Callable[[], Any], seconds: float = 20.0, message: str = "in time") -> Any:
    """What `what` returns once it is true; fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        if time.monotonic() > deadline:
            pytest.fail(f"not {message}: waited {seconds} s")
        time.sleep(0.005)


def free_port(family: int = socket.AF_INET) -> int:
    """A UDP port of loopback that nobody holds."""
    return _free(family, socket.SOCK_DGRAM)


def free_tcp_port() -> int:
    """A TCP port of loopback that nobody holds."""
    return _free(socket.AF_INET, socket.SOCK_STREAM)


def _free(family: int, kind: int) -> int:
    """Below those that the kernel gives out by itself: loads of other tests take thousands of these meanwhile."""
    for number in _ports:
        port = 12_000 + number % 20_000
        with socket.socket(family, kind) as probe, contextlib.suppress(OSError):
            probe.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", port))
            return port
    raise AssertionError("numbers end")


@pytest.fixture
def port() -> int:
    """A UDP port of loopback that nobody holds."""
    return free_port()


# --- The command line ---


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    """The command line, working in a folder of its own."""
    runner = Cli(tmp_path)
    yield runner
    runner.close()


# --- Servers for tests that only need one to answer ---


@pytest.fixture(scope="session")
def ntp_server() -> Iterator[flatout.Server]:
    """One NTP server for all tests; its counters go on from test to test."""
    with flatout.serve("ntp", "127.0.0.1:0") as running:
        yield running


@pytest.fixture(scope="session")
def dns_server() -> Iterator[flatout.Server]:
    """One DNS server for all tests, over UDP and TCP."""
    with flatout.serve("dns", "127.0.0.1:0", threads=1) as running:
        yield running


@pytest.fixture(scope="session")
def echo_server() -> Iterator[flatout.Server]:
    """One echo server for all tests, over UDP."""
    with flatout.serve("echo", "127.0.0.1:0", transports=["udp"]) as running:
        yield running


# --- Peers and namespaces ---


@pytest.fixture
def peer() -> Callable[[str], str]:
    """Gives a program's path, or skips the test where the program is missing."""

    def find(name: str) -> str:
        found = shutil.which(name, path=ADMIN_PATH)
        if found is None:
            pytest.skip(f"the program '{name}' is not installed")
        return found

    return find


@pytest.fixture
def root() -> None:
    """Skips the test where it has not root's rights."""
    if os.geteuid() != 0:
        pytest.skip("needs root")


class Net(NamedTuple):
    """Two network namespaces joined by a veth pair."""

    left: str
    right: str
    left_v4: str = "10.99.0.1"
    right_v4: str = "10.99.0.2"
    left_v6: str = "fd00:99::1"
    right_v6: str = "fd00:99::2"

    def run(self, namespace: str, *command: object) -> str:
        """Runs a command inside; returns its output."""
        return _must("ip", "netns", "exec", namespace, *command)


def _must(*command: object) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr}"
    return done.stdout


@pytest.fixture
def net(root: None, peer: Callable[[str], str]) -> Iterator[Net]:  # noqa: ARG001
    """Two namespaces over veth, gone after the test."""
    ip = peer("ip")
    stem = f"flatout-{os.getpid()}-{next(_numbers)}"
    pair = Net(f"{stem}-l", f"{stem}-r")
    try:
        for name in (pair.left, pair.right):
            may_have_namespaces(subprocess.run([ip, "netns", "add", name], capture_output=True, text=True, check=False))
        _must(
            ip, "link", "add", "eth0", "netns", pair.left, "type", "veth", "peer", "name", "eth0", "netns", pair.right
        )
        for name, v4, v6 in ((pair.left, pair.left_v4, pair.left_v6), (pair.right, pair.right_v4, pair.right_v6)):
            _must(ip, "-n", name, "link", "set", "lo", "up")
            _must(ip, "-n", name, "address", "add", f"{v4}/24", "dev", "eth0")
            _must(ip, "-n", name, "address", "add", f"{v6}/64", "dev", "eth0", "nodad")
            _must(ip, "-n", name, "link", "set", "eth0", "up")
        yield pair
    finally:
        for name in (pair.left, pair.right):
            subprocess.run([ip, "netns", "delete", name], capture_output=True, check=False)


def may_have_namespaces(done: subprocess.CompletedProcess[str]) -> None:
    """Skips the test where the command that was to make namespaces failed."""
    if done.returncode != 0:
        pytest.skip(f"namespaces cannot be made here: {done.stderr.strip()}")
