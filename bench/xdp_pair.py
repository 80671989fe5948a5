"""Two namespaces joined by veth, one CPU a side, and the programs in C that ask and answer in the driver there.

The programs are built here from bench/xdp_probe: Debian's clang-14, gcc and libbpf-dev. Needs root, iproute2, ethtool.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from ntp_offset import TARGET
from peers import ASKER, SERVER, process
from veth import ip, namespaces

SOURCES = Path(__file__).parent / "xdp_probe"
ADDRESS, PORT = TARGET.split(":")
CLIENT = "10.77.0.1"
# As many client addresses as a load may ask for: a part of 10/8 that has its way back through CLIENT.
MANY = "10.128.0.0/9"
VA, VB = "va", "vb"


class Pair(NamedTuple):
    """The asking and the serving namespace, the Ethernet addresses of their devices, and where the programs are."""

    asking: str
    serving: str
    asking_mac: str
    serving_mac: str
    probe: str


class Load(NamedTuple):
    """A load of the probe: requests per second (0: as fast as it goes), seconds, requests on their way (0: any number).

    Addresses and ports are powers of two.
    """

    rate: float
    seconds: float = 0.5
    window: int = 0
    addresses: int = 1
    ports: int = 64


class Came(NamedTuple):
    """What came of a load, per second."""

    asked: float
    answered: float


def build(folder: Path) -> str:
    """Builds the programs; the path of the probe."""
    clang = shutil.which("clang-14") or shutil.which("clang")
    if clang is None or shutil.which("gcc") is None:
        raise SystemExit("clang and gcc are needed (Debian: clang-14 gcc libbpf-dev)")
    headers = f"/usr/include/{platform.machine()}-linux-gnu"
    for name in ("ask", "bare"):
        flags = ["-O2", "-g", "-target", "bpf", "-mcpu=v2", "-Wall", "-isystem", headers]
        subprocess.run([clang, *flags, "-c", SOURCES / f"{name}.bpf.c", "-o", folder / f"{name}.bpf.o"], check=True)
    subprocess.run(["gcc", "-O2", "-Wall", "-o", folder / "probe", SOURCES / "probe.c", "-lbpf"], check=True)
    return str(folder / "probe")


@contextlib.contextmanager
def pair(*, threaded: bool = True) -> Iterator[Pair]:
    """The namespaces. A kernel thread on the server's CPU polls its device, where the driver's program runs.

    The asker's device is polled by soft interrupts on the CPU that answers: to wake another CPU for answers cost a
    responder more than to hand them over itself, and the asker's CPU was full before the responder's. Not threaded:
    both devices are polled where packets are sent.
    """
    with tempfile.TemporaryDirectory() as folder, namespaces() as (asking, serving):
        macs = []
        for name, device in ((asking, VA), (serving, VB)):
            inside = ["ip", "netns", "exec", name]
            subprocess.run([*inside, "ethtool", "-K", device, "gro", "on"], check=True)
            read = [*inside, "cat", f"/sys/class/net/{device}/address"]
            macs.append(subprocess.run(read, check=True, capture_output=True, text=True).stdout.strip())
        if threaded:
            command = ["sh", "-c", f"echo 1 > /sys/class/net/{VB}/threaded"]
            subprocess.run(["ip", "netns", "exec", serving, *command], check=True)
            os.sched_setaffinity(polling(VB), {SERVER})
        ip("-n", asking, "neigh", "replace", ADDRESS, "lladdr", macs[1], "dev", VA)
        ip("-n", serving, "neigh", "replace", CLIENT, "lladdr", macs[0], "dev", VB)
        ip("-n", serving, "route", "add", MANY, "via", CLIENT)
        yield Pair(asking, serving, macs[0], macs[1], build(Path(folder)))


def polling(device: str) -> int:
    """The kernel thread that polls a device: the newest, as one of a namespace that has ended may be there still."""
    found = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            if path.read_text(encoding="utf-8").startswith(f"napi/{device}-"):
                found.append(int(path.parent.name))
    if not found:
        raise SystemExit(f"nothing polls {device}")
    return max(found)


def busy_ns(thread: int) -> int:
    """How long a thread has had a CPU."""
    return int(Path(f"/proc/{thread}/schedstat").read_text(encoding="ascii").split()[0])


class Asker:
    """The probe that asks, until its input is closed; its program keeps the answers that it counts."""

    def __init__(self, running: subprocess.Popen[str]) -> None:
        self._running = running

    @property
    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self._running.stdin
        assert self._running.stdout
        return self._running.stdin, self._running.stdout

    def yields(self, always: bool) -> None:
        """Whether all others have the CPU first. It asks in a loop, also while nothing is due."""
        policy = os.SCHED_IDLE if always else os.SCHED_OTHER
        os.sched_setscheduler(self._running.pid, policy, os.sched_param(0))

    def begin(self, load: Load) -> None:
        """Begins a load; `end` waits for it."""
        there, _ = self._pipes
        there.write(" ".join(str(value) for value in load) + "\n")
        there.flush()

    def end(self) -> Came:
        """What came of the load."""
        _, back = self._pipes
        asked, answered, seconds = (float(word) for word in back.readline().split())
        return Came(asked / seconds, answered / seconds)

    def ask(self, load: Load) -> Came:
        """One load."""
        self.begin(load)
        return self.end()


@contextlib.contextmanager
def _probe(namespace: str, cpu: int, *words: str) -> Iterator[subprocess.Popen[str]]:
    command = ["taskset", "-c", str(cpu), "ip", "netns", "exec", namespace, *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdin
        assert running.stdout
        if running.stdout.readline() != "ready\n":
            raise SystemExit("the probe did not start")
        try:
            yield running
        finally:
            running.stdin.close()
            running.wait(timeout=20)


@contextlib.contextmanager
def asker(pair: Pair, *, sources: str = CLIENT, port: str = PORT) -> Iterator[Asker]:
    """What asks. While it is there, its device has a program, as native mode needs at the peer."""
    words = (pair.probe, "ask", VA, port, pair.asking_mac, pair.serving_mac, sources, ADDRESS)
    with _probe(pair.asking, ASKER, *words) as running:
        yield Asker(running)


@contextlib.contextmanager
def bare(pair: Pair, kind: str = "bare") -> Iterator[None]:
    """The least responder; `valid`: with answers that a client takes for right."""
    with _probe(pair.serving, SERVER, pair.probe, "answer", VB, PORT, kind):
        yield


@contextlib.contextmanager
def flatout(pair: Pair, *words: str, settle: float = 1.2) -> Iterator[Path]:
    """`flatout serve ntp` with a stated clock and one worker; its control socket."""
    with tempfile.TemporaryDirectory() as folder:
        control = Path(folder, "control")
        where = ["--listen", TARGET, "--threads", "1", "--static", "stratum=2,refid=GPS", "--control", str(control)]
        command = ["ip", "netns", "exec", pair.serving, sys.executable, "-m", "flatout", "serve", "ntp", *where]
        with process([*command, "--quiet", *words], SERVER) as running:
            time.sleep(settle)
            if running.poll() is not None:
                raise SystemExit(f"flatout ended with code {running.returncode}: {' '.join(words)}")
            yield control
