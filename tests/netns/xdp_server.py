"""What tests of answers in the network driver share: a server between namespaces, what asks it, what is attached."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from conftest import Cli, Net, wait_until

PORT = 123
STATIC = ("--static", "stratum=1,refid=GPS,dispersion=1ms")
# Asks with all versions and modes, or so often one plain question; prints each answer's bytes and its sender.
ASK = """
import socket, sys
address, port, times, wait = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
kinds = [(4, 3)] * times or [(version, mode) for version in range(1, 5) for mode in (1, 3)]
with socket.socket(family, socket.SOCK_DGRAM) as asker:
    asker.settimeout(wait)
    for version, mode in kinds:
        asker.sendto(bytes([version << 3 | mode, 0, 6]) + bytes(37) + bytes(range(8)), (address, port))
        try:
            answer, sender = asker.recvfrom(2048)
            print(answer.hex(), sender[0])
        except TimeoutError:
            print("none")
"""


class Served:
    """A server in the right namespace."""

    def __init__(self, running: Any, net: Net, control: Path) -> None:
        self.running, self._net, self._control = running, net, control

    def control(self, verb: str) -> str:
        """What it says to `flatout control VERB`."""
        command = [sys.executable, "-m", "flatout", "control", verb, str(self._control)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def stats(self) -> dict[str, Any]:
        """Its statistics now."""
        stats: dict[str, Any] = json.loads(self.control("stats"))
        return stats

    @property
    def by_driver(self) -> int:
        """What the driver answered."""
        answered: int = self.stats()["xdp"]["answered"]
        return answered

    @property
    def for_driver(self) -> int:
        """The same with what it would have answered, had this busy host run the thread that renews its lease."""
        xdp = self.stats()["xdp"]
        assert sum(xdp["passed"].values()) == xdp["passed"]["no_state"] + xdp["passed"]["clock_set"], xdp
        found: int = xdp["answered"] + sum(xdp["passed"].values())
        return found

    def wait(self, net: Net, address: str, where: str | None = None) -> None:
        """Waits until the driver answers there; each answer meanwhile is right."""
        before = self.by_driver

        def answers() -> bool:
            assert ask(net, address, 1, where=where)[0][1] == address
            return self.by_driver > before

        wait_until(answers, message="an answer of the driver")


@contextmanager
def serving(
    cli: Cli, net: Net, *arguments: str, through: tuple[str, ...] = (), protocol: str = "ntp"
) -> Iterator[Served]:
    control = cli.folder / "control"
    where = ("--listen", f"*:{PORT}", "--control", str(control), "--for", "100s")
    running = cli.start("serve", protocol, *where, *arguments, inside=net.right, through=through)
    wait_until(lambda: "Ctrl-C" in running.err.read_text() or running.process.poll() is not None, message="serving")
    error = running.err.read_text()
    if "not permitted" in error or "forbidden" in error:
        pytest.skip(error)
    assert running.process.poll() is None, error
    yield Served(running, net, control)
    running.interrupt()
    assert running.end().code == 0, running.err.read_text()


def ask(net: Net, address: str, times: int = 0, wait: float = 10, where: str | None = None) -> list[list[str]]:
    said = net.run(where or net.left, sys.executable, "-c", ASK, address, PORT, times, wait)
    return [line.split() for line in said.splitlines()]


def attached(net: Net) -> str:
    """The XDP program on the server's interface as `ip` shows it; empty: none."""
    found = re.search(r"xdp\w*", net.run(net.right, "ip", "link", "show", "eth0"))
    return found[0] if found else ""


@contextmanager
def in_mode(cli: Cli, net: Net, mode: str) -> Iterator[None]:
    """In native mode the veth peer needs a program of its own: that of another server, which is asked nothing."""
    if mode == "generic":
        yield
        return
    peer = cli.start("serve", "ntp", "--listen", "*:1999", "--xdp", "native", "--for", "100s", inside=net.left)
    wait_until(lambda: "Ctrl-C" in peer.err.read_text() or peer.process.poll() is not None, message="the peer")
    yield
    peer.interrupt()
    assert peer.end().code == 0
