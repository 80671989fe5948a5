"""Each cause provoked in network namespaces under a small load: named first, and the ledger says where requests went.

Not provoked here: a full backlog and a full connection table. Their limits are the whole host's, not a namespace's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

import flatout
import flatout.result.files
import flatout.result.finding
from conftest import Cli, Net, until_good, wait_until

pytestmark = pytest.mark.root

PORT = 1123
LOAD = ("--rate", "2k", "--for", "700ms", "--warmup", "200ms", "--timeout", "200ms", "--quiet", "--json", "-")
# A server that reads a datagram every `pause` s, with a buffer of so many bytes, and answers if asked to.
SLOW = """
import socket, sys, time
address, port, buffer, pause, answers = sys.argv[1], *map(float, sys.argv[2:])
server = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, int(buffer))
server.bind((address, int(port)))
print("ready", flush=True)
while True:
    data, client = server.recvfrom(2048)
    if answers:
        server.sendto(data, client)
    time.sleep(pause)
"""
# A listener with room for one connection, which accepts a few and then no more for a while.
LISTENER = """
import socket, sys, time
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind((sys.argv[1], int(sys.argv[2])))
server.listen(1)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def net(net: Net) -> Net:
    """The two namespaces, with addresses that no other namespace of this host has: the target is looked for by its."""
    number = os.getpid() % 250
    found = net._replace(left_v4=f"10.97.{number}.1", right_v4=f"10.97.{number}.2")
    for name, address in ((net.left, found.left_v4), (net.right, found.right_v4)):
        net.run(name, "ip", "-4", "address", "flush", "dev", "eth0")
        net.run(name, "ip", "address", "add", f"{address}/24", "dev", "eth0")
    return found


@contextmanager
def running(namespace: str, script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A Python program in a namespace, until the end of the block."""
    command = ["ip", "netns", "exec", namespace, sys.executable, "-c", script, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline().strip() == "ready"
            yield program
        finally:
            program.send_signal(signal.SIGCONT)
            program.kill()


@contextmanager
def serving(cli: Cli, namespace: str, address: str) -> Iterator[int]:
    """flatout's own server; gives its process."""
    served = cli.start("serve", "echo", "--listen", address, "--threads", 1, "--for", "60s", inside=namespace)
    wait_until(lambda: "Ctrl-C" in served.err.read_text(), message="serving")
    yield served.process.pid
    served.interrupt()
    served.end()


def loaded(cli: Cli, net: Net, target: str, *more: str) -> flatout.LoadResult:
    done = cli("load", "echo", target, "--transport", "udp", *LOAD, *more, inside=net.left)
    assert done.out, done.err
    run = flatout.result.files.from_json(done.out)
    assert isinstance(run, flatout.LoadResult)
    check(run)
    return run


def check(run: flatout.LoadResult) -> None:
    """The ledger closes."""
    assert run.ledger is not None
    lost = sum(line.count or 0 for line in run.ledger.lines if line.side == "lost")
    assert run.outcomes.lost == lost + (run.ledger.unexplained or 0), run.ledger


# On a busy machine these are causes too, and true ones.
BUSY = {"generator", "other programs", "steal", "shared CPU", "soft interrupts", "softnet backlog"}


def first(run: flatout.LoadResult) -> flatout.result.finding.Finding:
    """The weightiest finding that is not of what else runs on this machine."""
    found = [finding for finding in run.findings if finding.name not in BUSY]
    assert found, run.ledger
    return found[0]


def count(run: flatout.LoadResult, place: str) -> int:
    assert run.ledger is not None
    return sum(line.count or 0 for line in run.ledger.lines if line.place == place)


def unexplained(run: flatout.LoadResult) -> float:
    """The unexplained share of what was lost."""
    assert run.ledger is not None
    return (run.ledger.unexplained or 0) / max(run.outcomes.lost, 1)


@pytest.mark.parametrize("place", ["the same namespace", "another namespace"])
def test_a_receive_buffer_that_is_not_read(net: Net, cli: Cli, place: str) -> None:
    where, address = (net.left, net.left_v4) if place == "the same namespace" else (net.right, net.right_v4)
    with running(where, SLOW, address, PORT, 4096, 60, 0) as server:
        run = loaded(cli, net, f"{address}:{PORT}")
    assert first(run).name == "receive buffer", run.findings
    assert f"(process {server.pid}), {address}:{PORT} was full" in first(run).sentence
    assert count(run, "receive_buffer") > 0.9 * run.outcomes.lost
    assert unexplained(run) <= 0.02, run.ledger


def test_a_stopped_server_with_a_large_buffer(net: Net, cli: Cli) -> None:
    with serving(cli, net.right, f"{net.right_v4}:{PORT}") as pid:
        os.kill(pid, signal.SIGSTOP)
        try:
            run = loaded(cli, net, f"{net.right_v4}:{PORT}")
        finally:
            os.kill(pid, signal.SIGCONT)
    assert first(run).name == "application", run.findings
    assert f"still lay unread in its receive buffer at the end; its process {pid} is stopped" in first(run).sentence
    # What came in the warm-up lies there too.
    assert count(run, "unread") == run.outcomes.lost


def test_a_packet_filter(net: Net, cli: Cli, peer: Callable[[str], str]) -> None:
    rules = cli.folder / "drop.nft"
    drop = f"udp dport {PORT} numgen inc mod 10 0 counter drop;"
    rules.write_text(f"table inet wall {{ chain in {{ type filter hook input priority 0; {drop} }}\n}}\n")
    net.run(net.right, peer("nft"), "-f", rules)
    with serving(cli, net.right, f"{net.right_v4}:{PORT}"):
        # On a busy machine the first sample comes late.
        run = until_good(lambda: loaded(cli, net, f"{net.right_v4}:{PORT}"), lambda run: unexplained(run) <= 0.02)
    assert first(run).name == "firewall", run.findings
    assert count(run, "firewall") == pytest.approx(run.outcomes.sent / 10, rel=0.02)
    assert unexplained(run) <= 0.02, run.ledger


def test_a_server_that_does_not_answer(net: Net, cli: Cli) -> None:
    with running(net.right, SLOW, net.right_v4, PORT, 1 << 20, 0, 0):
        run = loaded(cli, net, f"{net.right_v4}:{PORT}")
    assert first(run).name == "application", run.findings
    assert "were read and not answered" in first(run).sentence
    assert unexplained(run) <= 0.02, run.ledger


def test_a_neighbour_that_is_not_there(net: Net, cli: Cli) -> None:
    nobody = net.left_v4[:-1] + "200"
    run = loaded(cli, net, f"{nobody}:{PORT}")
    assert first(run).name == "neighbour", run.findings
    assert f"The next hop {nobody} does not answer ARP on eth0" in first(run).sentence


def test_a_device_whose_other_end_is_down(net: Net, cli: Cli) -> None:
    net.run(net.left, "ip", "neighbour", "add", net.right_v4, "lladdr", "02:00:00:00:00:01", "dev", "eth0")
    net.run(net.right, "ip", "link", "set", "eth0", "down")
    run = loaded(cli, net, f"{net.right_v4}:{PORT}")
    assert first(run).name == "device", run.findings
    assert first(run).sentence == "The device eth0 towards the target is down, or has no carrier."


def test_a_port_that_nobody_is_bound_to(net: Net, cli: Cli) -> None:
    with running(net.right, SLOW, net.right_v4, PORT + 1, 4096, 0, 1):
        net.run(net.right, "sysctl", "-qw", "net.ipv4.icmp_ratelimit=0", "net.ipv4.icmp_msgs_per_sec=100000")
        run = loaded(cli, net, f"{net.right_v4}:{PORT}")
    assert first(run).name == "port closed", run.findings


def test_a_queue_that_shapes(net: Net, cli: Cli, peer: Callable[[str], str]) -> None:
    shape = ("rate", "200kbit", "burst", "1600", "limit", "3000")
    net.run(net.left, peer("tc"), "qdisc", "add", "dev", "eth0", "root", "tbf", *shape)
    with serving(cli, net.right, f"{net.right_v4}:{PORT}"):
        run = loaded(cli, net, f"{net.right_v4}:{PORT}")
    assert first(run).name == "send queue", run.findings
    assert "This host's own queue of eth0 was full" in first(run).sentence


@pytest.mark.parametrize("cookies", ["0", "1"])
def test_an_accept_queue_for_one(net: Net, cli: Cli, cookies: str) -> None:
    net.run(net.left, "sysctl", "-qw", f"net.ipv4.tcp_syncookies={cookies}")
    with running(net.left, LISTENER, net.left_v4, PORT):
        options = ("--connections", "12", "--connect-timeout", "500ms", "--rate", "100", *LOAD[2:])
        target = f"{net.left_v4}:{PORT}"
        done = cli("load", "echo", target, "--transport", "tcp", *options, inside=net.left)
    run = flatout.result.files.from_json(done.out)
    assert isinstance(run, flatout.LoadResult)
    assert first(run).name == "accept queue", run.findings
    assert f"{target} was full" in first(run).sentence
    assert "It has room for 1 (" in first(run).sentence


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


def over_tcp(cli: Cli, net: Net, target: str, *more: str) -> flatout.LoadResult:
    options = ("--connect-timeout", "500ms", "--rate", "100", *LOAD[2:])
    done = cli("load", "echo", target, "--transport", "tcp", *more, *options, inside=net.left)
    run = flatout.result.files.from_json(done.out)
    assert isinstance(run, flatout.LoadResult), done.err
    return run


def test_a_server_without_descriptors(net: Net, cli: Cli) -> None:
    with running(net.left, FEW_FILES, net.left_v4, PORT):
        run = over_tcp(cli, net, f"{net.left_v4}:{PORT}", "--connections", "40", "--connect-rate", "100")
    assert first(run).name == "descriptors", run.findings
    assert "held 20 of the 20 descriptors that it may." in first(run).sentence


def test_ephemeral_ports_that_others_hold(net: Net, cli: Cli) -> None:
    net.run(net.left, "sysctl", "-qw", "net.ipv4.ip_local_port_range=40000 40049")
    served = cli.start("serve", "echo", "--listen", f"{net.right_v4}:{PORT}", "--for", "60s", inside=net.right)
    wait_until(lambda: "Ctrl-C" in served.err.read_text(), message="serving")
    with running(net.left, HOLDER, net.right_v4, PORT, 45):
        run = over_tcp(cli, net, f"{net.right_v4}:{PORT}", "--connections", "20")
    assert first(run).name == "ephemeral ports", run.findings
    assert run.connections is not None
    assert run.connections.no_port == run.connections.local > 0


def test_answers_that_their_host_drops(net: Net, cli: Cli, peer: Callable[[str], str]) -> None:
    shape = ("rate", "200kbit", "burst", "1600", "limit", "3000")
    net.run(net.right, peer("tc"), "qdisc", "add", "dev", "eth0", "root", "tbf", *shape)
    with serving(cli, net.right, f"{net.right_v4}:{PORT}"):
        run = loaded(cli, net, f"{net.right_v4}:{PORT}")
    assert first(run).name == "answers' queue", run.findings


def test_sources_without_a_route_back(net: Net, cli: Cli) -> None:
    net.run(net.left, "ip", "address", "add", "10.77.0.1/32", "dev", "eth0")
    net.run(net.left, "ip", "route", "change", net.left_v4[:-1] + "0/24", "dev", "eth0", "src", "10.77.0.1")
    # The filter would not answer ARP either.
    at = net.run(net.right, "cat", "/sys/class/net/eth0/address").strip()
    net.run(net.left, "ip", "neighbour", "add", net.right_v4, "lladdr", at, "dev", "eth0")
    net.run(net.right, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1", "net.ipv4.conf.eth0.rp_filter=1")
    with serving(cli, net.right, f"{net.right_v4}:{PORT}"):
        run = loaded(cli, net, f"{net.right_v4}:{PORT}")
    assert first(run).name == "reverse path filter", run.findings
    assert unexplained(run) <= 0.02, run.ledger


@pytest.mark.parametrize("round_", range(3))
def test_a_healthy_run_has_no_findings(net: Net, cli: Cli, round_: int) -> None:
    with serving(cli, net.right, f"{net.right_v4}:{PORT}"):
        run = until_good(lambda: loaded(cli, net, f"{net.right_v4}:{PORT}"), undisturbed)
    # On a machine that held the generator up that is what is found, and nothing else.
    assert {finding.name for finding in run.findings} <= (set() if undisturbed(run) else BUSY), round_


def undisturbed(run: flatout.LoadResult) -> bool:
    return run.outcomes.lost == 0 and run.verdict == "ok"
