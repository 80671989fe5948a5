"""Causes of connections, provoked in network namespaces: queues of listeners, ports, descriptors, TIME_WAIT."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from provoking import PORT, first, named, over_tcp, running, serving
from provoking import with_own_addresses as own_addresses

from conftest import Cli, Net

pytestmark = pytest.mark.root
# A listener with room for one connection, which accepts none.
LISTENER = """
import socket, sys, time
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind((sys.argv[1], int(sys.argv[2])))
server.listen(1)
print("ready", flush=True)
time.sleep(60)
"""
# A listener that may hold few descriptors, accepts as many connections as these allow and closes those that end.
FEW_FILES = """
import resource, select, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
server = socket.socket()
server.bind((sys.argv[1], int(sys.argv[2])))
server.listen(4)
print("ready", flush=True)
held = []
while True:
    for end in select.select([*held, server], [], [], 0.01)[0]:
        try:
            if end is server:
                held.append(server.accept()[0])
            elif not end.recv(2048):
                held.remove(end)
                end.close()
        except OSError:
            time.sleep(0.01)
"""
# Holds so many connections to a server.
HOLDER = """
import socket, sys, time
held = [socket.create_connection((sys.argv[1], int(sys.argv[2]))) for _ in range(int(sys.argv[3]))]
print("ready", flush=True)
time.sleep(60)
"""
# Echoes what each connection sends; closes it after so many answers, if that is not 0.
ECHO = """
import socket, sys, threading
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind((sys.argv[1], int(sys.argv[2])))
server.listen(int(sys.argv[3]))
most = int(sys.argv[4])
def serve(client):
    answers = 0
    while data := client.recv(4096):
        client.sendall(data)
        answers += 1
        if answers == most:
            break
    client.close()
print("ready", flush=True)
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""


@pytest.fixture
def net(net: Net) -> Net:
    return own_addresses(net)


@pytest.mark.provokes("accept queue")
@pytest.mark.parametrize("cookies", ["0", "1"])
def test_an_accept_queue_for_one(net: Net, cli: Cli, cookies: str) -> None:
    net.run(net.left, "sysctl", "-qw", f"net.ipv4.tcp_syncookies={cookies}")
    target = f"{net.left_v4}:{PORT}"
    with running(net.left, LISTENER, net.left_v4, PORT):
        run = over_tcp(cli, net, target, "--connections", "12")
    found = first(run)
    assert found.name == "accept queue", run.findings
    assert f"{target} was full" in found.sentence
    assert "It has room for 1 (" in found.sentence
    assert run.ledger is not None
    assert run.ledger.count("accept_queue") >= 10


@pytest.mark.provokes("SYN queue")
@pytest.mark.parametrize("cookies", ["0", "1"])
def test_a_syn_queue_for_few(net: Net, cli: Cli, peer: Callable[[str], str], cookies: str) -> None:
    net.run(net.right, "sysctl", "-qw", f"net.ipv4.tcp_syncookies={cookies}", "net.ipv4.tcp_max_syn_backlog=8")
    # Handshakes wait in the queue for their last step, as the second step leaves slowly.
    slow = ("rate", "64kbit", "burst", "200", "limit", "100000")
    net.run(net.right, peer("tc"), "qdisc", "add", "dev", "eth0", "root", "tbf", *slow)
    with running(net.right, ECHO, net.right_v4, PORT, 8, 0):
        run = over_tcp(cli, net, f"{net.right_v4}:{PORT}", "--connections", "100")
    found = first(run)
    assert found.name == "SYN queue", (run.findings, run.ledger)
    assert (
        "handshakes went by SYN cookies" if cookies == "1" else "connection requests were dropped"
    ) in found.sentence


@pytest.mark.provokes("descriptors")
def test_a_server_without_descriptors(net: Net, cli: Cli) -> None:
    with running(net.left, FEW_FILES, net.left_v4, PORT):
        run = over_tcp(cli, net, f"{net.left_v4}:{PORT}", "--connections", "40", "--connect-rate", "100")
    assert first(run).name == "descriptors", run.findings
    assert "held 20 of the 20 descriptors that it may." in first(run).sentence


@pytest.mark.provokes("ephemeral ports")
def test_ephemeral_ports_that_others_hold(net: Net, cli: Cli) -> None:
    net.run(net.left, "sysctl", "-qw", "net.ipv4.ip_local_port_range=40000 40049")
    target = f"{net.right_v4}:{PORT}"
    with serving(cli, net.right, target), running(net.left, HOLDER, net.right_v4, PORT, 45):
        run = over_tcp(cli, net, target, "--connections", "20")
    assert first(run).name == "ephemeral ports", run.findings
    assert run.connections is not None
    assert run.connections.no_port == run.connections.local > 0


@pytest.mark.provokes("TIME_WAIT table")
def test_a_table_of_closed_connections_that_is_full(net: Net, cli: Cli) -> None:
    net.run(net.right, "sysctl", "-qw", "net.ipv4.tcp_max_tw_buckets=3")
    with running(net.right, ECHO, net.right_v4, PORT, 100, 3):
        run = over_tcp(cli, net, f"{net.right_v4}:{PORT}", "--connections", "20")
    found = named(run, "TIME_WAIT table")
    assert run.ledger is not None
    overflows = run.ledger.counters["target.TcpExt.TCPTimeWaitOverflow"]
    assert overflows >= 5
    assert f"of the target's network namespace was full {overflows} times" in found.sentence
