"""`limit --improve` against a server whose receive buffer is too small: found, raised, measured, and as before then."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from conftest import Cli, Net, until_good, wait_until
from flatout.host.tuning import journal as journals

pytestmark = pytest.mark.root

# Reads all that has come every 10 ms: its buffer holds 256 datagrams, so 25,600/s are the most, with an idle CPU.
BURSTY = """
import socket, sys, time
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 106496)
server.bind((sys.argv[1], int(sys.argv[2])))
server.setblocking(False)
end = time.monotonic() + 120
print("ready", flush=True)
while time.monotonic() < end:
    time.sleep(0.01)
    while True:
        try:
            data, client = server.recvfrom(2048)
        except BlockingIOError:
            break
        server.sendto(data, client)
"""
SIZE = 212_992
PORT = 1123
SEARCH = ("--transport", "udp", "--improve", "--budget", "10s", "--min", "5k", "--json", "-")


@pytest.fixture
def address(net: Net) -> Iterator[str]:
    """The server's, in the namespace from which it is asked."""
    command = ["ip", "netns", "exec", net.left, sys.executable, "-c", BURSTY, net.left_v4, str(PORT)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == "ready\n"
            yield f"{net.left_v4}:{PORT}"
        finally:
            program.kill()


def size(net: Net) -> int:
    """Of the server's receive buffer, as the kernel says."""
    found = re.search(rf":{PORT}\b.*?skmem:\(r\d+,rb(\d+)", net.run(net.left, "ss", "-uamnH"), re.DOTALL)
    assert found is not None
    return int(found[1])


def _raised(cli: Cli, net: Net, address: str, *more: str) -> dict[str, Any]:
    """The step of the receive buffer; its server's socket is as it was before."""
    done = cli("limit", "echo", address, *SEARCH, *more, inside=net.left)
    assert size(net) == SIZE
    (one,) = [one for one in done.json["improvements"] if one["finding"] == "receive buffer"]
    assert one["before"] == str(SIZE)
    assert int(one["tried"]) > SIZE
    assert one["undone"], done.err
    assert one["kept"], one
    assert one["limit_after"] >= 1.2 * one["limit_before"], one
    return dict(one)


def test_a_small_buffer_is_raised_and_then_as_before(cli: Cli, net: Net, address: str) -> None:
    journal = cli.folder / "improve.json"
    until_good(lambda: _raised(cli, net, address, "--journal", str(journal)), 3)
    assert not journal.exists()


def test_after_a_kill_the_journal_restores_it(cli: Cli, net: Net, address: str) -> None:
    journal = cli.folder / "improve.json"
    search = ("limit", "echo", address, *SEARCH, "--journal", journal)

    def killed() -> None:
        running = cli.start(*search, inside=net.left)
        wait_until(lambda: journal.exists() or running.process.poll() is not None, 60, "a first change")
        assert running.process.poll() is None, running.end()
        wait_until(lambda: size(net) > SIZE, message="a larger buffer")
        running.kill()

    until_good(killed, 3)
    assert size(net) > SIZE
    kept = journals.load(journal)
    assert kept is not None
    assert [entry.before for entry in kept.entries] == [str(SIZE)]

    refused = cli(*search, inside=net.left)
    assert refused.code == 2
    command = f"flatout host undo --journal {journal}"
    assert f"`{command}`" in refused.err
    assert size(net) > SIZE

    undone = cli(*command.split()[1:], inside=net.left)
    assert undone.code == 0, undone.err
    assert size(net) == SIZE
    assert not journal.exists()


def test_a_kept_buffer_stays_until_it_is_undone(cli: Cli, net: Net, address: str) -> None:
    journal = cli.folder / "improve.json"

    def kept() -> dict[str, Any]:
        cli("host", "undo", "--journal", journal, "--quiet", inside=net.left)
        assert size(net) == SIZE
        done = cli("limit", "echo", address, *SEARCH, "--keep", "--journal", journal, inside=net.left)
        (one,) = [one for one in done.json["improvements"] if one["kept"]]
        return dict(one)

    one = until_good(kept, 3)
    assert (one["undone"], str(size(net))) == (False, one["tried"])
    assert f"`flatout host undo --journal {journal}` undoes it" in one["why"]
    assert cli("host", "undo", "--journal", journal, inside=net.left).code == 0
    assert size(net) == SIZE
