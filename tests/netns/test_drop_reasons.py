"""Drops that the kernel tells by reason only: exact, in the right namespace, never twice, and none in a healthy run."""

from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from ipaddress import ip_address

import pytest
from provoking import (
    BUSY,
    LOAD,
    PORT,
    SLOW,
    check,
    count,
    first,
    loaded,
    running,
    serving,
    undisturbed,
    unexplained,
    with_own_addresses,
)

import flatout
import flatout.result.files
from conftest import Cli, Net, until_good
from flatout.host import drops

pytestmark = pytest.mark.root
EVERY_TENTH = "numgen inc mod 10 0 counter drop;"


@pytest.fixture
def net(net: Net) -> Net:
    return with_own_addresses(net)


@pytest.fixture(autouse=True)
def _permitted() -> None:
    """Skips, with the kernel's reason, where programs cannot be loaded."""
    reader = drops.DropReader([(ip_address("127.0.0.1"), PORT)], stream=False)
    reader.stop()
    if reader.blind:
        pytest.skip(reader.blind)


def closed(cli: Cli, net: Net, target: str) -> flatout.LoadResult:
    """A run whose ledger closes; on a busy machine the sample that begins it may come late."""
    return until_good(lambda: loaded(cli, net, target), lambda run: unexplained(run) <= 0.02)


def wall(net: Net, cli: Cli, nft: str, namespace: str, chain: str) -> None:
    """A packet filter with one chain."""
    rules = cli.folder / f"{namespace}.nft"
    rules.write_text(f"table inet wall {{ chain drops {{ {chain} }}\n}}\n")
    net.run(namespace, nft, "-f", rules)


def lines(run: flatout.LoadResult, place: str) -> list[tuple[str, int]]:
    assert run.ledger is not None
    return [(line.where, line.count) for line in run.ledger.lines if line.place == place and line.count]


@pytest.mark.parametrize("direction", ["requests", "answers"])
def test_a_packet_filter_is_exact(net: Net, cli: Cli, peer: Callable[[str], str], direction: str) -> None:
    port, where = ("dport", net.right) if direction == "requests" else ("sport", net.left)
    wall(net, cli, peer("nft"), where, f"type filter hook input priority 0; udp {port} {PORT} {EVERY_TENTH}")
    with serving(cli, net.right, f"{net.right_v4}:{PORT}"):
        run = closed(cli, net, f"{net.right_v4}:{PORT}")
    assert first(run).name == "firewall", run.findings
    assert count(run, "firewall") == pytest.approx(run.outcomes.sent / 10, rel=0.02)
    (line,) = [line for line in run.ledger.lines if line.place == "firewall"] if run.ledger else []
    assert line.source == "packets dropped for NETFILTER_DROP (kfree_skb)"
    assert line.where.startswith("the target's" if direction == "requests" else "this host's")


def test_a_filter_that_makes_sending_fail_is_not_counted_twice(net: Net, cli: Cli, peer: Callable[[str], str]) -> None:
    chain = f"type filter hook output priority 0; udp dport {PORT} {EVERY_TENTH}"
    wall(net, cli, peer("nft"), net.left, chain)
    # What was sent is lost elsewhere, so that there is something that could be blamed on the filter.
    with running(net.right, SLOW, net.right_v4, PORT, 1 << 20, 0, 0):
        run = loaded(cli, net, f"{net.right_v4}:{PORT}")
    assert run.unsent_because["send_failed"] > 0.08 * run.outcomes.planned, run.unsent_because
    assert run.outcomes.lost > 0
    assert lines(run, "firewall") == [], run.ledger


def test_a_filter_before_ip(net: Net, cli: Cli, peer: Callable[[str], str]) -> None:
    rules = cli.folder / "ingress.nft"
    drop = f"udp sport {PORT} numgen inc mod 10 < 3 drop;"
    hook = "type filter hook ingress device eth0 priority 0;"
    rules.write_text(f"table netdev wall {{ chain in {{ {hook} {drop} }}\n}}\n")
    net.run(net.left, peer("nft"), "-f", rules)
    with serving(cli, net.right, f"{net.right_v4}:{PORT}"):
        run = closed(cli, net, f"{net.right_v4}:{PORT}")
    assert count(run, "firewall") > 0.25 * run.outcomes.sent


@pytest.mark.parametrize("version", [4, 6])
def test_an_unresolved_neighbour(net: Net, cli: Cli, version: int) -> None:
    nobody = net.left_v4[:-1] + "200" if version == 4 else "fd00:99::200"
    target = f"{nobody}:{PORT}" if version == 4 else f"[{nobody}]:{PORT}"
    run = closed(cli, net, target)
    assert first(run).name == "neighbour", run.findings
    asked = "ARP" if version == 4 else "neighbour discovery"
    assert f"The next hop {nobody} does not answer {asked} on eth0" in first(run).sentence
    assert count(run, "neighbour") == run.outcomes.lost > 0
    assert any("NEIGH_" in text for text in first(run).evidence), first(run)


def test_the_reverse_path_filter(net: Net, cli: Cli) -> None:
    net.run(net.left, "ip", "address", "add", "10.77.0.1/32", "dev", "eth0")
    net.run(net.left, "ip", "route", "change", net.left_v4[:-1] + "0/24", "dev", "eth0", "src", "10.77.0.1")
    at = net.run(net.right, "cat", "/sys/class/net/eth0/address").strip()
    net.run(net.left, "ip", "neighbour", "add", net.right_v4, "lladdr", at, "dev", "eth0")
    net.run(net.right, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1", "net.ipv4.conf.eth0.rp_filter=1")
    with serving(cli, net.right, f"{net.right_v4}:{PORT}"):
        run = closed(cli, net, f"{net.right_v4}:{PORT}")
    assert first(run).name == "reverse path filter", run.findings
    (line,) = lines(run, "reverse_path")
    assert line == ("the target's network namespace", pytest.approx(run.outcomes.lost, rel=0.02))


def test_a_reason_that_no_counter_tells(net: Net, cli: Cli) -> None:
    # A packet that claims to come from the receiver itself; ARP would not work either.
    for one, other, address in ((net.left, net.right, net.right_v4), (net.right, net.left, net.left_v4)):
        at = net.run(other, "cat", "/sys/class/net/eth0/address").strip()
        net.run(one, "ip", "neighbour", "add", address, "lladdr", at, "dev", "eth0")
    net.run(net.right, "ip", "address", "add", f"{net.left_v4}/32", "dev", "lo")
    with serving(cli, net.right, f"{net.right_v4}:{PORT}"):
        run = closed(cli, net, f"{net.right_v4}:{PORT}")
    assert first(run).name == "dropped by the kernel", run.findings
    ((where, number),) = lines(run, "dropped_by_kernel")
    assert where.endswith(", eth0 of the target's network namespace")
    assert number == pytest.approx(run.outcomes.lost, rel=0.02)


def test_a_queue_that_drops_what_it_had_accepted(net: Net, cli: Cli, peer: Callable[[str], str]) -> None:
    # A full queue that drops its oldest packet: that one's sender has long been told that it was sent.
    tc = peer("tc")
    shape = ("rate", "300kbit", "burst", "1600", "limit", "100000")
    net.run(net.left, tc, "qdisc", "add", "dev", "eth0", "root", "handle", "1:", "tbf", *shape)
    net.run(net.left, tc, "qdisc", "add", "dev", "eth0", "parent", "1:", "pfifo_head_drop", "limit", "10")
    with serving(cli, net.right, f"{net.right_v4}:{PORT}"):
        run = closed(cli, net, f"{net.right_v4}:{PORT}")
    ((where, number),) = lines(run, "qdisc")
    assert where == "eth0 (tbf)"
    assert number == pytest.approx(run.outcomes.lost, rel=0.02)


@pytest.fixture
def router(net: Net) -> Iterator[str]:
    """A third namespace between the two, with addresses of its own."""
    name, stem = f"{net.left}-router", net.left_v4.rpartition(".")[0]
    far = stem.replace("10.97.", "10.98.")
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        for end, link, here, gateway in (
            (net.left, "one", f"{stem}.1", f"{stem}.9"),
            (net.right, "two", f"{far}.2", f"{far}.9"),
        ):
            net.run(end, "ip", "link", "add", "via", "type", "veth", "peer", "name", link, "netns", name)
            net.run(end, "ip", "link", "set", "eth0", "down")
            net.run(end, "ip", "address", "add", f"{here}/24", "dev", "via")
            net.run(name, "ip", "address", "add", f"{gateway}/24", "dev", link)
            net.run(name, "ip", "link", "set", link, "up")
            net.run(end, "ip", "link", "set", "via", "up")
            net.run(end, "ip", "route", "add", "default", "via", gateway)
        net.run(name, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        yield name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


def test_a_filter_of_a_router_between(net: Net, cli: Cli, router: str, peer: Callable[[str], str]) -> None:
    wall(net, cli, peer("nft"), router, f"type filter hook forward priority 0; udp dport {PORT} {EVERY_TENTH}")
    target = net.left_v4.rpartition(".")[0].replace("10.97.", "10.98.") + f".2:{PORT}"
    with serving(cli, net.right, target):
        run = closed(cli, net, target)
    assert first(run).name == "firewall", run.findings
    inode = int(net.run(router, "stat", "-Lc", "%i", "/proc/self/ns/net"))
    assert lines(run, "firewall") == [
        (f"one of network namespace {inode}", pytest.approx(run.outcomes.sent / 10, rel=0.02))
    ]


def test_the_program_leaves_out_what_the_socket_counts() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as full,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        full.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
        full.bind(("127.0.0.1", 0))
        reader = drops.DropReader([(ip_address("127.0.0.1"), full.getsockname()[1])], stream=False)
        for _ in range(100):
            sender.sendto(b"datagram", full.getsockname())
        assert struct.unpack("9I", full.getsockopt(socket.SOL_SOCKET, 55, 36))[8] > 50, "SO_MEMINFO has its drops"
        assert reader.read() == {}
        reader.stop()
        assert reader.read() is None


def test_a_full_receive_buffer_is_not_counted_twice(net: Net, cli: Cli) -> None:
    with running(net.right, SLOW, net.right_v4, PORT, 4096, 60, 0):
        run = closed(cli, net, f"{net.right_v4}:{PORT}")
    assert count(run, "receive_buffer") > 0.9 * run.outcomes.lost
    assert lines(run, "dropped_by_kernel") == []
    assert count(run, "receive_buffer") + count(run, "unread") + count(run, "application") == run.outcomes.lost


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_healthy_run_shows_nothing(net: Net, cli: Cli, transport: str) -> None:
    target = f"{net.right_v4}:{PORT}"

    def one() -> flatout.LoadResult:
        more = ("--connections", "20", "--churn", "5") if transport == "tcp" else ()
        done = cli("load", "echo", target, "--transport", transport, *LOAD, *more, inside=net.left)
        run = flatout.result.files.from_json(done.out)
        assert isinstance(run, flatout.LoadResult), done.err
        return run

    with serving(cli, net.right, target):
        run = until_good(one, undisturbed)
    assert run.ledger is not None
    assert [line for line in run.ledger.lines if "kfree_skb" in line.source] == []
    assert not [line for line in run.ledger.lines if line.place == "dropped_by_kernel"], "it was permitted to look"


def test_connections_whose_handshakes_are_filtered(net: Net, cli: Cli, peer: Callable[[str], str]) -> None:
    wall(net, cli, peer("nft"), net.right, f"type filter hook input priority 0; tcp dport {PORT} counter drop;")
    target = f"{net.right_v4}:{PORT}"
    options = ("--connections", "5", "--connect-timeout", "500ms", "--rate", "100", *LOAD[2:])
    with serving(cli, net.right, target):
        done = cli("load", "echo", target, "--transport", "tcp", *options, inside=net.left)
    run = flatout.result.files.from_json(done.out)
    assert isinstance(run, flatout.LoadResult)
    assert ("firewall", "beside") in {(line.place, line.side) for line in run.ledger.lines} if run.ledger else False


NOBODY = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--reuid=65534", "--clear-groups")
BLIND = {
    "nobody": ({"through": NOBODY}, "not permitted to load BPF programs: needs root, or CAP_BPF and CAP_PERFMON"),
    "seccomp": ({"refused": {"bpf": "EPERM"}}, "a seccomp filter (a container's profile) forbids bpf()"),
    "no BPF": ({"refused": {"bpf": "ENOSYS"}}, "this kernel has no BPF, or hides it (ENOSYS)"),
}


@pytest.mark.parametrize("why", BLIND)
def test_where_it_is_forbidden_the_ledger_says_why(net: Net, cli: Cli, peer: Callable[[str], str], why: str) -> None:
    wall(net, cli, peer("nft"), net.right, f"type filter hook input priority 0; udp dport {PORT} {EVERY_TENTH}")
    how, words = BLIND[why]
    with serving(cli, net.right, f"{net.right_v4}:{PORT}"):
        asked = ("load", "echo", f"{net.right_v4}:{PORT}", "--transport", "udp", *LOAD)
        done = cli.start(*asked, inside=net.left, **how).end()
    run = flatout.result.files.from_json(done.out)
    assert isinstance(run, flatout.LoadResult), done.err
    check(run)
    assert run.ledger is not None
    (line,) = [line for line in run.ledger.lines if line.place == "dropped_by_kernel"]
    assert line.count is None
    assert line.blind.startswith("drop reasons: ")
    assert line.blind.endswith(words)
    if why == "nobody":
        # The target's namespace is hidden from others too.
        assert run.ledger.unexplained == run.outcomes.lost > 0
        assert {finding.name for finding in run.findings} <= BUSY, "no cause is made up"
    else:
        # The filter is inferred then.
        assert count(run, "firewall") > 0
