"""The server under test as a process: started with its files, awaited until it answers, stopped; what a crash leaves.

It is in a process group of its own, so Ctrl-C at a terminal reaches flatout alone. The kernel ends it with its starter
where setpriv is there; its environment names the experiment's folder, so that what a crash leaves is found and ended.
"""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

from flatout.errors import TargetError
from flatout.experiments.model import ServerUnderTest
from flatout.runner.probe import answers
from flatout.scenario.model import Scenario

LOG = "server.log"
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/local/sbin"
_LOOK_S = 0.02
_STOP_S = 5.0
# Names the folder of the experiment in the environment of its servers.
_MARK = "FLATOUT_EXPERIMENT"
_TAIL_LINES, _TAIL_BYTES = 20, 8192


class ServerFailed(TargetError):
    """The server under test did not start, or ended."""


class ServerProcess:
    """A server that runs while the block does."""

    def __init__(self, command: Sequence[str], server: ServerUnderTest, folder: Path, of: Path) -> None:
        """`folder`: of its files and its log; `of`: the experiment's folder. Errors: ServerFailed."""
        self.log = folder / LOG
        _raise_limit()
        prepared = [*_prefix(server), find(command[0]), *command[1:]]
        with self.log.open("wb") as out:
            try:
                self._process = subprocess.Popen(
                    prepared,
                    cwd=folder,
                    env={**os.environ, _MARK: str(of)},
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    process_group=0,
                )
            except OSError as error:
                raise ServerFailed(f"{command[0]} cannot be started: {error.strerror}") from error

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def wait_until_ready(self, scenario: Scenario, seconds: float) -> None:
        """Returns once it answers what the scenario asks. Errors: ServerFailed."""
        deadline = time.monotonic() + seconds
        while True:
            self._check()
            if answers(scenario):
                return
            if time.monotonic() > deadline:
                raise ServerFailed(f"the server does not answer after {seconds:g} s")
            time.sleep(_LOOK_S)

    def ended(self) -> int | None:
        """Its exit code where it has ended by itself, negative for a signal; None while it runs."""
        return self._process.poll()

    def _check(self) -> None:
        """Errors: ServerFailed where it has ended."""
        code = self.ended()
        if code is not None:
            ended = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
            raise ServerFailed(f"the server {ended}")

    def stop(self) -> None:
        """Ends it, and all that it has started."""
        _end_group(self._process.pid, lambda: self._process.poll() is not None)
        self._process.wait()


def end_left(of: Path) -> int:
    """Ends the servers that a crash has left of the experiment in this folder; how many processes there were."""
    mark = f"{_MARK}={of}".encode()
    found = [pid for pid in _processes() if mark in _environment(pid).split(b"\0")]
    for pid in found:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + _STOP_S
    while any(_environment(pid) for pid in found) and time.monotonic() < deadline:
        time.sleep(_LOOK_S)
    return len(found)


def find(name: str) -> str:
    """A program's path. Errors: ServerFailed."""
    found = shutil.which(name, path=_PATH)
    if found is None:
        raise ServerFailed(f"the program '{name}' is not installed")
    return found


@functools.cache
def version(command: tuple[str, ...]) -> str:
    """The first line that a program prints of its version; empty where it prints none."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired, ServerFailed):
        done = subprocess.run(
            [find(command[0]), *command[1:]], capture_output=True, timeout=10, check=False, stdin=subprocess.DEVNULL
        )
        lines = (done.stdout + done.stderr).decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in lines if line.strip()), "")
    return ""


def tail(log: Path) -> list[str]:
    """The last lines of a log."""
    try:
        data = log.read_bytes()[-_TAIL_BYTES:]
    except OSError:
        return []
    return data.decode("utf-8", "replace").splitlines()[-_TAIL_LINES:]


def free_port(address: str, several: int) -> int:
    """The first of `several` ports in a row that nobody holds at an address of this host, over UDP and TCP.

    Errors: ServerFailed for an address that is not here.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for _ in range(200):
        with contextlib.ExitStack() as held:
            first = held.enter_context(socket.socket(family))
            try:
                first.bind((address, 0))
            except OSError as error:
                raise ServerFailed(f"{address} is no address of this host: {error.strerror}") from error
            port = int(first.getsockname()[1])
            if all(_held(held, family, address, port, index) for index in range(several)):
                return port
    raise ServerFailed(f"no {several} ports in a row are free at {address}")


def _held(held: contextlib.ExitStack, family: int, address: str, first: int, index: int) -> bool:
    """Holds a port over both, but for the first over TCP, which is held already."""
    kinds = (socket.SOCK_DGRAM,) if index == 0 else (socket.SOCK_DGRAM, socket.SOCK_STREAM)
    try:
        for kind in kinds:
            held.enter_context(socket.socket(family, kind)).bind((address, first + index))
    except (OSError, OverflowError):
        return False
    return True


def _prefix(server: ServerUnderTest) -> Iterator[str]:
    """What its command runs through: the kernel ends it with its starter; its namespace, its CPUs."""
    if setpriv := shutil.which("setpriv", path=_PATH):
        yield from (setpriv, "--pdeathsig", "KILL")
    if server.namespace is not None:
        yield from (find("ip"), "netns", "exec", server.namespace)
    if server.cpus is not None:
        yield from (find("taskset"), "-c", server.cpus)


def _raise_limit() -> None:
    """A server inherits the limit on descriptors: the soft one up to the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _processes() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]


def _environment(pid: int) -> bytes:
    """A process's environment when it began; empty where it has ended or is somebody else's."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def _end_group(pid: int, ended: Callable[[], bool]) -> None:
    """Ends a process group: asks first, and then insists."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_S
        while not ended() and time.monotonic() < deadline:
            time.sleep(_LOOK_S / 4)
        # Also what outlives it in its group.
        os.killpg(pid, signal.SIGKILL)
