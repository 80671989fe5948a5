"""`limit --improve` for a server in another network namespace: its accept queue and the sysctl there that bounds it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from provoking import PORT, with_own_addresses

from conftest import Cli, Net, until_good, wait_until

pytestmark = pytest.mark.root

# Accepts all that waits every 20 ms, from a queue with room for 8; echoes at once.
LISTENER = """
import selectors, socket, sys, time
server = socket.socket()
server.bind((sys.argv[1], int(sys.argv[2])))
server.listen(8)
server.setblocking(False)
ready = selectors.DefaultSelector()
print("ready", flush=True)
end, look = time.monotonic() + 120, 0.0
while time.monotonic() < end:
    if time.monotonic() >= look:
        look = time.monotonic() + 0.02
        try:
            while True:
                client = server.accept()[0]
                client.setblocking(False)
                ready.register(client, selectors.EVENT_READ)
        except BlockingIOError:
            pass
    for key, _ in ready.select(0.005):
        try:
            data = key.fileobj.recv(65536)
            if data:
                key.fileobj.send(data)
                continue
        except OSError:
            pass
        ready.unregister(key.fileobj)
        key.fileobj.close()
"""
BEFORE = (64, 8)
# 50 to 3,000 connections a second.
SEARCH = ("--transport", "tcp", "--connections", "200", "--churn", "10", "--min", "500", "--max", "30k")
IMPROVE = ("--improve", "--budget", "16s", "--json", "-")


@pytest.fixture
def net(net: Net) -> Net:
    """The two namespaces, with addresses of their own."""
    return with_own_addresses(net)


@pytest.fixture
def address(net: Net) -> Iterator[str]:
    """The server's, in a namespace whose sysctl bounds its queue too."""
    net.run(net.right, "sysctl", "-qw", f"net.core.somaxconn={BEFORE[0]}")
    command = ["ip", "netns", "exec", net.right, sys.executable, "-c", LISTENER, net.right_v4, str(PORT)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "ready\n"
            yield f"{net.right_v4}:{PORT}"
        finally:
            program.kill()


def values(net: Net) -> tuple[int, int]:
    """The sysctl there, and how many may wait in the queue, as the kernel says."""
    listed = net.run(net.right, "ss", "-ltnH", "sport", "=", f":{PORT}").split()
    return int(net.run(net.right, "sysctl", "-n", "net.core.somaxconn")), int(listed[2])


def test_the_queue_and_its_sysctl_are_raised_and_then_as_before(cli: Cli, net: Net, address: str) -> None:
    journal = cli.folder / "improve.json"

    def attempt() -> dict[str, Any]:
        done = cli("limit", "echo", address, *SEARCH, *IMPROVE, "--journal", journal, inside=net.left)
        assert done.out, done.err
        # Whatever came of it.
        assert values(net) == BEFORE
        assert list(cli.folder.glob("improve.json*")) == []
        return next((one for one in done.json["improvements"] if one["finding"] == "accept queue"), {})

    def good(one: dict[str, Any]) -> bool:
        return bool(one.get("kept") and one["limit_before"] and one["limit_after"] >= 1.2 * one["limit_before"])

    one = until_good(attempt, good)
    assert good(one), one
    assert one["undone"]
    assert [re.sub(r"\d+", "N", key) for key in one["keys"]] == [
        "netns:N:/proc/sys/net/core/somaxconn",
        "socket:N:N:N:backlog",
    ]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_an_end_in_between_leaves_nothing_or_a_journal(cli: Cli, net: Net, address: str, how: signal.Signals) -> None:
    journal = cli.folder / "improve.json"

    def ended() -> int | None:
        """The exit code of a run that was ended while both were raised; None where it did not come to that."""
        running = cli.start("limit", "echo", address, *SEARCH, *IMPROVE, "--journal", journal, inside=net.left)
        raised = (4096, 4096)
        wait_until(lambda: values(net) == raised or running.process.poll() is not None, 60, "a longer queue")
        if running.process.poll() is not None:
            return None
        if how == signal.SIGKILL:
            running.kill()
            return -how
        running.process.send_signal(how)
        return running.end().code

    code = until_good(ended, lambda code: code is not None)
    if how == signal.SIGKILL:
        assert values(net) == (4096, 4096)
        # From any namespace: the keys say which one they are of.
        done = cli("host", "undo", "--journal", journal)
        assert done.code == 0, done.err
        assert values(net) == BEFORE
        return
    assert code == 130
    assert values(net) == BEFORE
    assert not journal.exists()
