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
SEARCH = ("--transport", "udp", "--improve", "--budget", "16s", "--min", "5k", "--max", "60k", "--json", "-")


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
    # Not the generator's sockets, whose peer has that port.
    found = re.search(r"skmem:\(r\d+,rb(\d+)", net.run(net.left, "ss", "-uamnH", "sport", "=", f":{PORT}"))
    assert found is not None
    return int(found[1])


def step(cli: Cli, net: Net, address: str, *more: object) -> dict[str, Any]:
    """What became of the receive buffer; empty where something else stopped every trial."""
    done = cli("limit", "echo", address, *SEARCH, *more, inside=net.left)
    assert done.out, done.err
    found = [one for one in done.json["improvements"] if one["finding"] == "receive buffer"]
    return dict(found[0]) if found else {}


def test_a_small_buffer_is_raised_and_then_as_before(cli: Cli, net: Net, address: str) -> None:
    journal = cli.folder / "improve.json"

    def attempt() -> dict[str, Any]:
        found = step(cli, net, address, "--journal", journal)
        # Whatever came of it.
        assert size(net) == SIZE
        assert not journal.exists()
        return found

    def good(one: dict[str, Any]) -> bool:
        before, after = one.get("limit_before"), one.get("limit_after")
        return bool(one.get("kept") and before and after >= 1.2 * before)

    one = until_good(attempt, good)
    assert good(one), one
    assert one["undone"]
    assert one["before"] == str(SIZE)
    assert int(one["tried"]) >= 4 * SIZE


def test_after_a_kill_the_journal_restores_it(cli: Cli, net: Net, address: str) -> None:
    journal = cli.folder / "improve.json"
    search = ("limit", "echo", address, *SEARCH, "--journal", journal)

    def killed() -> bool:
        """Whether it was killed while the second search ran."""
        running = cli.start(*search, inside=net.left)
        wait_until(lambda: size(net) > SIZE or running.process.poll() is not None, 60, "a larger buffer")
        running.kill()
        return size(net) > SIZE

    assert until_good(killed, bool)
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
