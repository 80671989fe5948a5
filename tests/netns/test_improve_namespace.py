"""What `limit --improve` changes of a server in another network namespace, and that it is as before then."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from provoking import PORT, running, with_own_addresses

from conftest import Cli, Net, until_good, wait_until
from flatout.host import target as find_target
from flatout.host.tuning import apply as tuning
from flatout.host.tuning import live_socket, namespaces
from flatout.host.tuning.check import Setting
from flatout.host.tuning.system import System

pytestmark = pytest.mark.root

LISTENER = """
import socket, sys, time
server = socket.socket()
server.bind((sys.argv[1], int(sys.argv[2])))
server.listen(8)
print("ready", flush=True)
time.sleep(60)
"""
# Reads all that has come every 10 ms: its buffer holds 256 datagrams, so 25,600/s are the most, with an idle CPU.
BURSTY = """
import socket, sys, time
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 106496)
server.bind((sys.argv[1], int(sys.argv[2])))
server.setblocking(False)
print("ready", flush=True)
while True:
    time.sleep(0.01)
    while True:
        try:
            data, client = server.recvfrom(2048)
        except BlockingIOError:
            break
        server.sendto(data, client)
"""
SIZE = 212_992
SEARCH = ("--transport", "udp", "--improve", "--budget", "16s", "--min", "5k", "--max", "60k", "--json", "-")


@pytest.fixture
def net(net: Net) -> Net:
    """The two namespaces, with addresses of their own."""
    return with_own_addresses(net)


# --- Sysctls, and a queue ---


class Changed:
    """A listener in the right namespace whose queue, and the sysctl there that bounds it, were raised from outside."""

    BEFORE, AFTER = (64, 8), (8192, 8192)

    def __init__(self, net: Net, pid: int, at: Path) -> None:
        self.net, self.pid, self.at = net, pid, at
        net.run(net.right, "sysctl", "-qw", f"net.core.somaxconn={self.BEFORE[0]}")
        (found,) = find_target.bound(Path(f"/proc/{pid}/net"), ip_address(net.right_v4), PORT, stream=True)
        keys = [
            namespaces.key(pid, "/proc/sys/net/core/somaxconn"),
            live_socket.key(pid, found.inode, live_socket.BACKLOG),
        ]
        settings = [
            Setting(name=key, key=key, now=str(now), wanted=str(wanted), state="differs", why="", risk="")
            for key, now, wanted in zip(keys, self.BEFORE, self.AFTER, strict=True)
            if key is not None
        ]
        self.failed = [one.failed for one in tuning.set_all(settings, System(), at) if one.failed]

    def sysctl(self) -> int:
        return int(self.net.run(self.net.right, "sysctl", "-n", "net.core.somaxconn"))

    def queue(self) -> int:
        """How many may wait, as the kernel says."""
        return int(self.net.run(self.net.right, "ss", "-ltnH", "sport", "=", f":{PORT}").split()[2])


@pytest.fixture
def changed(net: Net, cli: Cli) -> Iterator[Changed]:
    with running(net.right, LISTENER, net.right_v4, PORT) as server:
        yield Changed(net, server.pid, cli.folder / "improve.json")


@pytest.mark.parametrize("where", ["left", "right", "this"])
def test_a_queue_and_its_sysctl_are_raised_and_undone_from_any_namespace(
    changed: Changed, cli: Cli, where: str
) -> None:
    assert changed.failed == []
    assert (changed.sysctl(), changed.queue()) == Changed.AFTER
    # This one's is another.
    assert System().read("/proc/sys/net/core/somaxconn") != "8192"
    inside = {"left": changed.net.left, "right": changed.net.right, "this": None}[where]
    done = cli("host", "undo", "--journal", changed.at, inside=inside)
    assert done.code == 0, done.err
    assert (changed.sysctl(), changed.queue()) == Changed.BEFORE
    assert not changed.at.exists()


def test_a_namespace_outlives_its_process_by_its_name(changed: Changed, cli: Cli) -> None:
    changed.net.run(changed.net.right, "kill", "-9", changed.pid)
    wait_until(lambda: not Path(f"/proc/{changed.pid}/ns/net").exists(), message="its end")
    assert changed.sysctl() == Changed.AFTER[0]
    done = cli("host", "undo", "--journal", changed.at)
    assert done.code == 0, done.err
    assert changed.sysctl() == Changed.BEFORE[0]


def test_what_somebody_else_has_changed_in_it_stays(changed: Changed, cli: Cli) -> None:
    changed.net.run(changed.net.right, "sysctl", "-qw", "net.core.somaxconn=77")
    done = cli("host", "undo", "--journal", changed.at)
    assert (done.code, "somebody has changed it since" in done.err) == (1, True), done.err
    assert (changed.sysctl(), changed.queue()) == (77, Changed.BEFORE[1])


# --- A whole run that is ended ---


def size(net: Net) -> int:
    """Of the server's receive buffer, as the kernel says."""
    found = re.search(r"skmem:\(r\d+,rb(\d+)", net.run(net.right, "ss", "-uamnH", "sport", "=", f":{PORT}"))
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_an_end_in_between_leaves_nothing(cli: Cli, net: Net, how: signal.Signals) -> None:
    journal = cli.folder / "improve.json"

    def ended() -> int | None:
        """The exit code of a run that was ended while the buffer was raised; None where it did not come to that."""
        command = ("limit", "echo", f"{net.right_v4}:{PORT}", *SEARCH, "--journal", journal)
        begun = cli.start(*command, inside=net.left)
        wait_until(lambda: size(net) > SIZE or begun.process.poll() is not None, 60, "a larger buffer")
        begun.process.send_signal(how)
        code = begun.end().code
        return code if code == 130 else None

    with running(net.right, BURSTY, net.right_v4, PORT):
        assert until_good(ended, bool) == 130
        assert size(net) == SIZE
        assert list(cli.folder.glob("improve.json*")) == []
