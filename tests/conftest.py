"""What all tests share: the command line as a subprocess, polling, peers, namespaces; and one list of skips.

A skip is a hole in the proof, so in CI (the variable CI is "true") one that tests/skips.txt does not list is a failure.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
ADMIN_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_SKIPS = Path(__file__).with_name("skips.txt")
_numbers = itertools.count()

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
def pytest_runtest_makereport() -> Iterator[None]:
    """Turns skips that are not listed into failures, in CI."""
    report = yield
    _judge_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    """The same for files that skip as a whole."""
    report = yield
    _judge_skip(report)
    return report


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


def until_good(attempt: Callable[[], Any], good: Callable[[Any], object], seconds: float = 60.0) -> Any:
    """The first good result, or the last one: for what a busy machine may spoil.

    It tries for so long, and three times at least: a few short attempts may all fall into one busy second.
    """
    deadline = time.monotonic() + seconds
    number = 0
    while True:
        result = attempt()
        number += 1
        if good(result) or (number >= 3 and time.monotonic() > deadline):
            return result


def free_port(family: int = socket.AF_INET) -> int:
    """A UDP port of loopback that nobody holds."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def port() -> int:
    """A UDP port of loopback that nobody holds."""
    return free_port()


# --- The command line ---


class Ran(NamedTuple):
    """What a command that has ended left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as one JSON value."""
        return json.loads(self.out)


class Running:
    """A command that still runs, its output going to files."""

    def __init__(self, command: list[str], folder: Path) -> None:
        number = next(_numbers)
        self.out, self.err = folder / f"{number}.out", folder / f"{number}.err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=err, stdin=subprocess.DEVNULL)

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def held_up(self, seconds: float) -> float:
        """Stops the process for so long and lets it go on; returns for how long it really stood still (s)."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            self.process.send_signal(signal.SIGCONT)
        return time.monotonic() - began

    def end(self, seconds: float = 60.0) -> Ran:
        """Waits for the end."""
        code = self.process.wait(seconds)
        return Ran(code, self.out.read_text(encoding="utf-8"), self.err.read_text(encoding="utf-8"))

    def kill(self) -> None:
        """Ends it, whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Cli:
    """Runs `flatout` as people do: called, it waits for the end; `start` does not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[Running] = []

    def start(self, *arguments: object, inside: str | None = None) -> Running:
        """Starts it, inside a network namespace where one is named."""
        enter = ["ip", "netns", "exec", inside] if inside else []
        running = Running([*enter, sys.executable, "-m", "flatout", *map(str, arguments)], self.folder)
        self._running.append(running)
        return running

    def __call__(self, *arguments: object, inside: str | None = None, seconds: float = 60.0) -> Ran:
        """Runs it to its end."""
        return self.start(*arguments, inside=inside).end(seconds)

    def close(self) -> None:
        """Ends what still runs."""
        for running in self._running:
            running.kill()


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    """The command line, working in a folder of its own."""
    runner = Cli(tmp_path)
    yield runner
    runner.close()


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
            _may_have_namespaces(
                subprocess.run([ip, "netns", "add", name], capture_output=True, text=True, check=False)
            )
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


def _may_have_namespaces(done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode != 0:
        pytest.skip(f"network namespaces cannot be made here: {done.stderr.strip()}")
