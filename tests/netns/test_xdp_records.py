"""Records taken from an interface past the kernel's stack (AF_XDP): the same as by sockets, and nothing left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from conftest import Cli, Net, Running, wait_until

pytestmark = pytest.mark.root

PORT = 31234
XDP = ("--link", "xdp", "--interface", "eth0")
# Prints the records with their senders and times, as they came, when nothing has come for a while.
RECEIVE = """
import json, sys, time, numpy as np, flatout
listen, stamps, link = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
rows, late = [], 0.0
with flatout.Receiver(listen, "id:u4 seq:u4 x:f4", stamps=stamps, idle=0.4, **link) as receiver:
    print("ready", flush=True)
    while (batch := receiver.take(5)) is None:
        pass
    while batch is not None:
        late = max(late, abs(time.time_ns() - int(batch.arrived_ns.min())) / 1e9)
        senders = [receiver.source(number) for number in batch.sender]
        rows += [[*map(float, row), sender] for row, sender in zip(batch.tolist(), senders)]
        receiver.send(batch[-1:], batch.sender[-1:])
        batch = receiver.take(0.4)
    stats = receiver.stats()
print(json.dumps({"rows": rows, "late": late, "stats": stats}))
"""
# Two senders, in bursts that every buffer holds; the last words are too long for a frame, and wrong. Waits for replies.
SEND = """
import socket, struct, sys, time
address, port = sys.argv[1], int(sys.argv[2])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
senders = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(2)]
for number, sender in enumerate(senders):
    sender.bind(("", 40001 + number))
    sender.connect((address, port))
    sender.settimeout(5)
for at in range(500):
    for number, sender in enumerate(senders):
        sender.send(struct.pack("<IIf", number, at, at / 2))
    if at % 50 == 49:
        time.sleep(0.002)
senders[0].send(bytes(13))
senders[1].send(bytes(4000))
print(max(len(sender.recv(100)) for sender in senders[-1:]))
"""


@contextmanager
def receiving(cli: Cli, net: Net, *arguments: str) -> Iterator[Running]:
    running = cli.start("serve", "record", *XDP, *arguments, "--json", "totals.json", "--for", "60s", inside=net.right)
    wait_until(lambda: "Ctrl-C" in running.err.read_text() or running.process.poll() is not None, message="serving")
    error = running.err.read_text()
    if "not permitted" in error or "forbidden" in error:
        pytest.skip(error)
    assert running.process.poll() is None, error
    yield running


def attached(net: Net) -> bool:
    return "xdp" in net.run(net.right, "ip", "link", "show", "eth0")


def received(net: Net, listen: str, target: str, stamps: str, **link: str) -> Any:
    """What a receiver has got of two senders."""
    command = ["ip", "netns", "exec", net.right, sys.executable, "-c", RECEIVE, listen, stamps, json.dumps(link)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as receiver:
        assert receiver.stdout is not None
        if receiver.stdout.readline() != "ready\n":
            error = receiver.communicate()[1]
            if "not permitted" in error or "forbidden" in error:
                pytest.skip(error)
            pytest.fail(error)
        answered = net.run(net.left, sys.executable, "-c", SEND, target, PORT)
        out, error = receiver.communicate(timeout=30)
    assert receiver.returncode == 0, error
    assert answered == "12\n"
    return json.loads(out)


@pytest.mark.parametrize(
    ("listen", "target", "stamps"),
    [("0.0.0.0", "right_v4", "kernel"), ("[::]", "right_v4", "user"), ("[fd00:99::2]", "right_v6", "kernel")],
)
def test_the_same_arrays_as_by_sockets(net: Net, listen: str, target: str, stamps: str) -> None:
    at = f"{listen}:{PORT}"
    by_sockets = received(net, at, getattr(net, target), stamps)
    by_xdp = received(net, at, getattr(net, target), stamps, link="xdp", interface="eth0")
    assert not attached(net)
    assert len(by_xdp["rows"]) == 1000
    # Within a sender the order stays.
    assert sorted(by_xdp["rows"], key=lambda row: row[0]) == sorted(by_sockets["rows"], key=lambda row: row[0])
    assert by_xdp["late"] < 3
    stats = by_xdp["stats"]
    assert stats["link"] == {
        "link": "xdp", "interface": "eth0", "mode": "native", "zero_copy": False, "queues": 1
    }  # fmt: skip
    same = ("received", "parsed", "malformed", "missing", "duplicate", "reordered", "senders", "kernel_drops", "bytes")
    assert {name: stats[name] for name in same} == {name: by_sockets["stats"][name] for name in same}
    assert (stats["received"], stats["malformed"]["long"], stats["kernel_drops"]) == (1002, 2, 0)


@pytest.mark.parametrize("gso", [(), ("--gso",)], ids=["plain", "gso"])
def test_a_load_learns_what_came(net: Net, cli: Cli, gso: tuple[str, ...]) -> None:
    load = ("--rate", "20k", "--count", "4000", "--players", "50", "--json", "-", "--quiet")
    with receiving(cli, net) as running:
        assert attached(net)
        assert "eth0, native, 1 queue, the kernel copies" in running.err.read_text()
        for target in (net.right_v4, f"[{net.right_v6}]"):
            run: Any = cli("load", "record", f"{target}:{PORT}", *load, *gso, inside=net.left).json
            outcomes = run["outcomes"]
            assert outcomes["sent"] + outcomes["unsent"] == 4000
            assert outcomes["received"] + outcomes["lost"] == outcomes["sent"], outcomes
            assert run["receiver"]["lost_elsewhere"] == 0
            assert run["receiver"]["received"] == outcomes["sent"] - outcomes["lost"] > 100, outcomes
        running.interrupt()
        assert running.end().code == 0
    assert not attached(net)
    total = json.loads((cli.folder / "totals.json").read_text().splitlines()[-1])
    assert total["link"]["queues"] == 1


def test_nothing_stays_after_a_kill_and_nobody_is_pushed_aside(net: Net, cli: Cli) -> None:
    with receiving(cli, net) as running:
        refused = cli("serve", "record", *XDP, "--listen", "0.0.0.0:31999", "--for", "1s", inside=net.right)
        assert (refused.code, "another XDP program" in refused.err) == (2, True), refused.err
        running.process.kill()
        running.process.wait()
    wait_until(lambda: not attached(net), message="detached")
    again = cli("serve", "record", *XDP, "--for", "0.1s", "--quiet", inside=net.right)
    assert again.code == 0, again.err


def test_an_interface_that_goes(net: Net, cli: Cli) -> None:
    with receiving(cli, net) as running:
        net.run(net.right, "ip", "link", "set", "eth0", "down")
        net.run(net.right, "ip", "link", "set", "eth0", "up")
        net.run(net.right, "ip", "link", "delete", "eth0")
        running.interrupt()
        assert running.end().code == 0, running.err.read_text()
