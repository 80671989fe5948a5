"""Link-local IPv6 at both ends: targets, sources, servers and receivers, with their interface wherever one is named."""

from __future__ import annotations

import sys

import pytest

import accounts
import flatout
import flatout.result.files
from conftest import Cli, Net, Ran, wait_until

pytestmark = pytest.mark.root

PORT = 1053
NEAR, FAR = "fe80::a", "fe80::b"
ASKED = ("--rate", "300", "--for", "500ms", "--warmup", "0", "--timeout", "500ms", "--quiet", "--json", "-")
SENDING = ("--senders", "10", "--tick", "30", "--for", "500ms", "--warmup", "0", "--quiet", "--json", "-")


@pytest.fixture
def link(net: Net) -> Net:
    """The pair of namespaces, with link-local addresses that are known; the near end has two interfaces."""
    net.run(net.left, "ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth2")
    net.run(net.left, "ip", "link", "set", "eth1", "up")
    for where, address, interface in ((net.left, NEAR, "eth0"), (net.left, NEAR, "eth1"), (net.right, FAR, "eth0")):
        net.run(where, "ip", "address", "add", f"{address}/64", "dev", interface, "nodad")
    net.run(net.left, "ip", "address", "add", "fe80::a2/64", "dev", "eth0", "nodad")
    return net


def loaded(done: Ran) -> flatout.LoadResult:
    assert done.code in {0, 4}, done.err
    run = flatout.result.files.from_json(done.out)
    assert isinstance(run, flatout.LoadResult)
    return run


def answered(done: Ran) -> flatout.LoadResult:
    run = loaded(done)
    accounts.check(run)
    assert run.outcomes.answered == run.outcomes.sent > 0, run.outcomes
    return run


@pytest.mark.parametrize("how", [("udp",), ("tcp", "--io", "io_uring"), ("tcp", "--io", "epoll")], ids="-".join)
@pytest.mark.parametrize("listen", [f"[{FAR}%eth0]:{PORT}", f"[::]:{PORT}"])
def test_a_load_from_link_local_sources(link: Net, cli: Cli, how: tuple[str, ...], listen: str) -> None:
    transport, *more = how
    running = cli.start("serve", "dns", "--listen", listen, "--for", "100s", *more, inside=link.right)
    wait_until(lambda: "Ctrl-C" in running.err.read_text(), message="serving")
    assert f"on {listen}" in running.err.read_text(), "the start line has the address whole"
    sources = (f"{NEAR}%eth0", "fe80::a2%eth0")
    command = ("load", "dns", f"[{FAR}%eth0]:{PORT}", "--transport", transport, "--connections", "4", *more)
    run = answered(cli(*command, "--sources", *sources, *ASKED, inside=link.left))
    assert (run.scenario.target, run.scenario.sources) == (f"[{FAR}%eth0]:{PORT}", sources)
    answered(cli(*command, *ASKED, inside=link.left))
    wrong = cli(*command, "--sources", f"{NEAR}%eth1", *ASKED, inside=link.left)
    assert (wrong.code, wrong.out) == (2, "")
    assert f"sources {NEAR}%eth1 and target {FAR}%eth0 must be of one interface" in " ".join(wrong.err.split())
    running.interrupt()
    assert running.end().code == 0


def test_one_way_messages_and_their_receiver(link: Net, cli: Cli) -> None:
    at = f"[{FAR}%eth0]:{PORT}"
    running = cli.start("serve", "record", "--listen", at, "--for", "100s", inside=link.right)
    wait_until(lambda: "Ctrl-C" in running.err.read_text(), message="receiving")
    assert f"on {at}" in running.err.read_text()
    run = loaded(cli("load", "record", at, "--sources", f"{NEAR}%eth0", *SENDING, inside=link.left))
    assert run.outcomes.received == run.outcomes.sent > 0, run.outcomes
    assert [reading.target for reading in run.readings] == [at]
    assert run.receiver is not None
    running.interrupt()
    assert running.end().code == 0


def test_a_missing_interface_is_asked_for(link: Net, cli: Cli) -> None:
    known = "those that have it: eth0, eth1"
    commands = [
        ("load", "dns", f"[{NEAR}]:{PORT}", *ASKED),
        ("load", "dns", NEAR, *ASKED, "--transport", "tcp"),
        ("load", "dns", f"[{NEAR}%eth0]:{PORT}", *ASKED, "--sources", NEAR),
        ("load", "record", f"[{NEAR}%eth0]:{PORT},[{NEAR}]:{PORT}", *SENDING),
        ("limit", "dns", NEAR, "--budget", "5s"),
        ("limit", "dns", f"{NEAR}%eth0", "--budget", "5s", "--sources", NEAR),
        *(("serve", protocol, "--listen", f"[{NEAR}]:{PORT}", "--for", "1s") for protocol in ("dns", "ntp", "record")),
    ]
    for command in commands:
        done = cli(*command, inside=link.left)
        said = " ".join(done.err.split())
        assert (done.code, done.out) == (2, ""), command
        assert f"'{NEAR}' is link-local: say which interface, as in {NEAR}%eth0 ({known})" in said, said


SCRIPT = f"""
import flatout, numpy, time
with flatout.serve("dns", "[{NEAR}%eth0]:0") as server:
    assert server.address.startswith("[{NEAR}%eth0]:"), server.address
    for transport in ("udp", "tcp"):
        run = flatout.load("dns", server.address, rate=300, duration="300ms", warmup=0, transport=transport,
                           sources=["{NEAR}%eth0"])
        assert run.outcomes.answered == run.outcomes.sent > 0, run.outcomes
with flatout.Receiver("[{NEAR}%eth0]:0", "id:u4 seq:u4") as receiver:
    with flatout.Sender(receiver.address, "id:u4 seq:u4", sources=["{NEAR}%eth0"]) as sender:
        assert sender.send(numpy.zeros(5, sender.dtype)) == 5
    batch = receiver.take(timeout=10)
    source = receiver.source(int(batch.sender[0]))
    assert source.startswith("[{NEAR}%eth0]:"), source
    assert receiver.send(b"back", batch.sender[:1]) == 1
from flatout.testing import Faults, FaultyServer
with FaultyServer("ntp", Faults(), "[{NEAR}%eth0]:0") as faulty:
    assert faulty.address.startswith("[{NEAR}%eth0]:"), faulty.address
print("done")
"""


def test_python_gets_addresses_that_read_back(link: Net) -> None:
    assert link.run(link.left, sys.executable, "-c", SCRIPT).strip() == "done"
