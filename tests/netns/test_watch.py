"""`flatout watch` in namespaces of its own: what it counts is what went, each packet once, wherever it passes."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import sandbox
from conftest import Cli, Net, Running, wait_until

pytestmark = pytest.mark.root

PORT = 1123
SIZE = {"right_v4": 76, "right_v6": 96}
LOAD = ("--rate", "5k", "--for", "500ms", "--warmup", "0", "--timeout", "300ms", "--json", "-", "--quiet")

# Sends datagrams of 48 bytes to an address: lines of "SOURCE COUNT GAP_S" from the arguments, and prints when it did.
SEND = """
import socket, sys, time
target, port = sys.argv[1], int(sys.argv[2])
for plan in sys.argv[3:]:
    source, count, gap = plan.split(",")
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as one:
        if source:
            one.bind((source, 0))
        print(time.time(), flush=True)
        for _ in range(int(count)):
            one.sendto(b"\\x23" + bytes(47), (target, port))
            if float(gap):
                time.sleep(float(gap))
"""
# A socket that is bound and never read.
BOUND = """
import socket, sys, time
family = socket.AF_INET6 if sys.argv[3:] else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as one:
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, int(sys.argv[2]))
    one.bind(("", int(sys.argv[1])))
    print("bound", flush=True)
    time.sleep(100)
"""
GSO = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
    one.setsockopt(socket.SOL_UDP, 103, 48)
    for _ in range(10):
        one.sendto(bytes(48 * 20), (sys.argv[1], int(sys.argv[2])))
"""
STREAM = """
import socket, sys, threading
served = socket.create_server(("", int(sys.argv[1])))
print("bound", flush=True)
connection, _ = served.accept()
connection.recv(10)
connection.sendall(bytes(1_000_000))
connection.recv(10)
"""
FETCH = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as one:
    one.sendall(b"go")
    left = 1_000_000
    while left:
        left -= len(one.recv(min(left, 65536)))
"""
SCRAPE = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())"


class Counted:
    """A watch that has ended: its seconds, and all of it."""

    def __init__(self) -> None:
        self.seconds: list[dict[str, Any]] = []
        self.total: dict[str, Any] = {}
        self.err = ""

    def port(self, at: int = 0) -> dict[str, Any]:
        return self.total["ports"][at]

    def sent(self) -> tuple[int, int]:
        return self.port()["packets_in"], self.port()["packets_out"]


@contextmanager
def watching(
    cli: Cli, namespace: str, *flags: str, port: Sequence[str] = (f"udp/{PORT}",), through: Sequence[str] = ()
) -> Iterator[Counted]:
    given = [word for one in port for word in ("--port", one)]
    running = cli.start("watch", *given, "--json", "-", *flags, inside=namespace, through=through)
    wait_until(lambda: "Ctrl-C" in running.err.read_text() or running.process.poll() is not None, message="watching")
    if not through and "packets cannot be counted" in running.err.read_text():
        pytest.skip(running.err.read_text())
    assert running.process.poll() is None, running.err.read_text()
    watch = Counted()
    try:
        yield watch
        # The last packets are on their way through the kernel.
        time.sleep(0.1)
    finally:
        running.interrupt()
        done = running.end()
        watch.err = done.err
    assert done.code == 0, done.err
    *watch.seconds, watch.total = [json.loads(line) for line in done.out.splitlines()]
    assert watch.total["total"]


@contextmanager
def bound(cli: Cli, net: Net, *arguments: str, script: str = BOUND) -> Iterator[None]:
    """A socket bound to the port, in the right namespace."""
    command = ["ip", "netns", "exec", net.right, sys.executable, "-c", script, *arguments]
    running = Running(command, cli.folder)
    try:
        wait_until(lambda: "bound" in running.out.read_text(), message="bound")
        yield
    finally:
        running.kill()


@contextmanager
def serving(cli: Cli, net: Net, listen: str = "*") -> Iterator[None]:
    running = cli.start("serve", "ntp", "--listen", f"{listen}:{PORT}", "--for", "100s", inside=net.right)
    wait_until(lambda: "Ctrl-C" in running.err.read_text(), message="serving")
    yield
    running.interrupt()
    assert running.end().code == 0


def send(net: Net, target: str, *plans: tuple[str, int, float]) -> list[float]:
    words = [f"{source},{count},{gap}" for source, count, gap in plans]
    return [float(line) for line in net.run(net.left, sys.executable, "-c", SEND, target, PORT, *words).splitlines()]


def resolve_v6(net: Net) -> None:
    """Waits until the left namespace knows the right one's hardware address over IPv6.

    A new device takes up to some seconds for that; datagrams wait for it, and those from addresses that are not the
    host's own are not even asked for before the link-local address is there.
    """

    def resolved() -> bool:
        net.run(net.left, sys.executable, "-c", SEND, net.right_v6, PORT + 1, ",1,0")
        return "lladdr" in net.run(net.left, "ip", "-6", "neighbour", "show", net.right_v6, "dev", "eth0")

    wait_until(resolved, message="a neighbour over IPv6")


@pytest.mark.parametrize("target", ["right_v4", "right_v6"])
def test_counts_are_those_of_the_load(net: Net, cli: Cli, target: str) -> None:
    address = str(getattr(net, target))
    where = f"[{address}]:{PORT}" if ":" in address else f"{address}:{PORT}"
    with serving(cli, net), watching(cli, net.right) as watch, watching(cli, net.left) as client:
        outcomes = cli("load", "ntp", where, *LOAD, inside=net.left).json["outcomes"]
    port = watch.port()
    assert port["packets_in"] == outcomes["sent"] > 1000
    assert port["packets_out"] == outcomes["answered"] + outcomes["late"]
    assert (port["bytes_in"], port["bytes_out"]) == (
        port["packets_in"] * SIZE[target],
        port["packets_out"] * SIZE[target],
    )
    assert port["ipv6"] == (1 if target == "right_v6" else 0)
    assert (port["responses"], port["mix"]) == (port["packets_out"] / port["packets_in"], {"sntp": 1, "version_4": 1})
    assert sum(second["ports"][0]["packets_in"] for second in watch.seconds) == port["packets_in"]
    assert sum(sum(second["ports"][0]["bins_out"]) for second in watch.seconds) == port["packets_out"]
    assert sum(second["ports"][0]["bytes_in"] for second in watch.seconds) == port["bytes_in"]
    cpus = watch.total["cpus"].values()
    assert sum(cpu["packets"] for cpu in cpus) == port["packets_in"] + port["packets_out"]
    assert "python" in " ".join(port["socket"]["processes"]), "what serves here"
    assert client.sent() == (0, 0), "the client's namespace serves nothing"


def segments(net: Net) -> tuple[int, int]:
    lines = net.run(net.right, "cat", "/proc/net/snmp").splitlines()
    names, values = (line.split() for line in lines if line.startswith("Tcp:"))
    return int(values[names.index("InSegs")]), int(values[names.index("OutSegs")])


def test_segments_that_are_sent_as_one_count_as_they_are(net: Net, cli: Cli) -> None:
    with bound(cli, net, str(PORT), script=STREAM), watching(cli, net.right, port=[f"tcp/{PORT}"]) as watch:
        before = segments(net)
        net.run(net.left, sys.executable, "-c", FETCH, net.right_v4, PORT)
        time.sleep(0.2)
        after = segments(net)
    assert watch.sent() == (after[0] - before[0], after[1] - before[1])
    assert watch.port()["packets_out"] > 600, "a megabyte in packets of 1500 bytes"
    assert 1_000_000 < watch.port()["bytes_out"] < 1_060_000


def test_datagrams_that_are_sent_as_one_count_as_they_are(net: Net, cli: Cli) -> None:
    with bound(cli, net, str(PORT), "1000000"), watching(cli, net.right) as watch:
        net.run(net.left, sys.executable, "-c", GSO, net.right_v4, PORT)
    assert watch.port()["packets_in"] == 200
    assert watch.port()["bytes_in"] == 200 * 76


def test_loopback_counts_each_packet_once(net: Net, cli: Cli) -> None:
    with serving(cli, net), watching(cli, net.right) as watch, watching(cli, net.right, "--interface", "eth0") as other:
        outcomes = cli("load", "ntp", f"127.0.0.1:{PORT}", *LOAD, inside=net.right).json["outcomes"]
    assert watch.sent() == (outcomes["sent"], outcomes["answered"] + outcomes["late"])
    assert other.sent() == (0, 0)


# A datagram in an Ethernet frame with the tag of a VLAN.
TAGGED = """
import socket, struct, sys
to, source, target, port = bytes.fromhex(sys.argv[1].replace(":", "")), *sys.argv[2:4], int(sys.argv[4])
udp = struct.pack(">HHHH", 50000, port, 8 + 48, 0) + b"\\x23" + bytes(47)
ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0)
ip += socket.inet_aton(source) + socket.inet_aton(target)
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as one:
    one.bind(("eth0", 0))
    own = one.getsockname()[4]
    for _ in range(7):
        one.send(to + own + struct.pack(">HHH", 0x8100, 5, 0x0800) + ip + udp)
"""


def test_a_packet_with_the_tag_of_a_vlan_is_read_behind_it(net: Net, cli: Cli) -> None:
    address = json.loads(net.run(net.right, "ip", "-j", "link", "show", "eth0"))[0]["address"]
    with watching(cli, net.right) as watch:
        net.run(net.left, sys.executable, "-c", TAGGED, address, net.left_v4, net.right_v4, PORT)
    assert watch.port()["packets_in"] == 7
    assert watch.port()["bytes_in"] == 7 * 76
    assert watch.port()["mix"]["version_4"] == 1


def test_a_bridge_counts_each_packet_once(net: Net, cli: Cli) -> None:
    net.run(net.right, "ip", "link", "add", "br0", "type", "bridge")
    net.run(net.right, "ip", "address", "flush", "dev", "eth0")
    net.run(net.right, "ip", "link", "set", "eth0", "master", "br0")
    net.run(net.right, "ip", "address", "add", f"{net.right_v4}/24", "dev", "br0")
    net.run(net.right, "ip", "link", "set", "br0", "up")
    with serving(cli, net), watching(cli, net.right) as watch, watching(cli, net.right, "--interface", "br0") as bridge:
        outcomes = cli("load", "ntp", f"{net.right_v4}:{PORT}", *LOAD, inside=net.left).json["outcomes"]
    assert watch.sent() == bridge.sent() == (outcomes["sent"], outcomes["answered"] + outcomes["late"])


def test_a_burst_is_flagged_when_it_was(net: Net, cli: Cli) -> None:
    with bound(cli, net, str(PORT), "20000000"), watching(cli, net.right) as watch:
        began, burst_s, _ = send(net, net.right_v4, ("", 2500, 0.002), ("", 3000, 0), ("", 500, 0.002))
    spikes = [one for one in watch.total["spikes"] if one["packets"] >= 2000]
    assert len(spikes) == 1, watch.total["spikes"]
    [spike] = spikes
    assert spike["begin_unix_s"] == pytest.approx(burst_s, abs=0.03), "in its bin, or one beside it"
    assert 3000 <= spike["packets"] <= 3300
    assert spike["seconds"] < 0.5
    assert spike["peak_per_s"] > 3 * spike["usual_per_s"]
    assert spike["talkers"][0]["prefix"] == "10.99.0.0/24"
    assert burst_s > began


def test_top_talkers_among_many(net: Net, cli: Cli) -> None:
    net.run(net.left, "ip", "route", "add", "local", "10.96.0.0/16", "dev", "lo")
    net.run(net.left, "ip", "route", "add", "local", "fd00:96::/32", "dev", "lo")
    net.run(net.left, "sysctl", "-qw", "net.ipv6.ip_nonlocal_bind=1")
    net.run(net.right, "ip", "route", "add", "10.96.0.0/16", "via", net.left_v4)
    net.run(net.right, "ip", "route", "add", "fd00:96::/32", "via", net.left_v6)
    resolve_v6(net)
    few = [(f"10.96.{n}.{1 + n % 200}", 4, 0) for n in range(200)]
    # Two addresses of one prefix.
    many = [("10.96.201.5", 300, 0.001), ("10.96.201.9", 250, 0.001), ("10.96.202.1", 400, 0.001)]
    with bound(cli, net, str(PORT), "20000000", "6"), watching(cli, net.right) as watch:
        send(net, net.right_v4, *few, *many)
        send(net, net.right_v6, ("fd00:96:7::1", 200, 0.001), ("fd00:96:7:1::1", 100, 0.001))
    found = [(one["prefix"], one["packets"]) for one in watch.port()["talkers"]]
    assert found[:3] == [("10.96.201.0/24", 550), ("10.96.202.0/24", 400), ("fd00:96:7::/48", 300)]
    assert len(found) == 10
    assert watch.port()["packets_in"] == 800 + 950 + 300
    assert watch.port()["talkers"][0]["share"] == pytest.approx(550 / 2050)


def test_a_full_receive_buffer_is_told_from_a_packet_filter(net: Net, cli: Cli, peer: Any) -> None:
    with bound(cli, net, str(PORT), "2304"), watching(cli, net.right) as watch:
        send(net, net.right_v4, ("", 500, 0))
    drops = watch.port()["socket"]["drops"]
    assert 400 < drops < 500
    assert watch.total["drops"]["receive_buffer"] == drops
    assert watch.total["reasons"] == {"SOCKET_RCVBUFF": drops}
    assert watch.port()["packets_in"] == 500
    rules = cli.folder / "drop.nft"
    rules.write_text(
        f"table inet wall {{ chain in {{ type filter hook input priority 0; udp dport {PORT} drop; }}\n}}\n"
    )
    net.run(net.right, peer("nft"), "-f", rules)
    with bound(cli, net, str(PORT), "2304"), watching(cli, net.right) as watch:
        send(net, net.right_v4, ("", 40, 0))
    assert watch.total["reasons"] == {"NETFILTER_DROP": 40}
    assert watch.port()["socket"]["drops"] == 0
    assert watch.port()["packets_in"] == 40


def test_prometheus_and_the_quota(net: Net, cli: Cli) -> None:
    usage = cli.folder / "usage.json"
    flags = ("--quota", "1GB/day", "--quota-counts", "in", "--usage-file", str(usage), "--prometheus", "127.0.0.1:9124")
    for start in (1, 2):
        with bound(cli, net, str(PORT), "2000000"), watching(cli, net.right, *flags) as watch:
            send(net, net.right_v4, ("", 100, 0))
            time.sleep(1.2)
            page = net.run(net.right, sys.executable, "-c", SCRAPE, "http://127.0.0.1:9124/metrics")
        found = {
            (sample.name, sample.labels.get("direction")): sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
        }
        assert found["flatout_watch_packets_total", "in"] == 100
        assert found["flatout_watch_bytes_total", "in"] == 7600
        assert found["flatout_watch_quota_used_bytes", None] == start * 7600
        assert watch.total["quota"]["used"] == start * 7600


def test_what_cannot_be_watched(net: Net, cli: Cli) -> None:
    def refused(*flags: str) -> str:
        done = cli("watch", "--port", f"udp/{PORT}", "--for", "1s", *flags, inside=net.right)
        assert done.code == 2, done
        return done.err

    assert "no such interface (there are: lo, eth0)" in refused("--interface", "eth9")
    assert "--usage-file" in refused("--usage-file", "x.json")
    assert "quota '4TB'" in refused("--quota", "4TB")
    with watching(cli, net.right, "--prometheus", "127.0.0.1:9124"):
        assert "127.0.0.1:9124" in refused("--prometheus", "127.0.0.1:9124")
    done = cli("watch", "--port", "123", inside=net.right)
    assert done.code == 2
    assert "udp/123" in done.err


@pytest.mark.skipif(sandbox.unavailable() is not None, reason=str(sandbox.unavailable()))
def test_without_bpf_there_are_sums(net: Net, cli: Cli) -> None:
    refused = {"bpf": "EPERM"}
    resolve_v6(net)
    with serving(cli, net), watching(cli, net.right, through=sandbox.refusing(refused)) as watch:
        send(net, net.right_v4, ("", 70, 0))
        send(net, net.right_v6, ("", 30, 0))
    assert watch.total["source"] == "mib"
    assert watch.port()["port"] == "udp (all ports)"
    assert watch.sent() == (100, 100)
    assert watch.port()["ipv6"] == pytest.approx(0.3)
    assert (watch.port()["bytes_in"], watch.port()["whole_host"]) == (None, True)
    assert "only sums of all ports" in watch.err
    for flags in (("--source", "bpf"), ("--interface", "eth0"), ("--quota", "4TB/month")):
        watch_flags = ("--port", f"udp/{PORT}", "--for", "1s", *flags)
        done = cli.start("watch", *watch_flags, inside=net.right, refused=refused).end()
        assert done.code == 4, (flags, done)
        assert "BPF" in done.err


def test_an_output_that_is_closed_ends_nothing(net: Net, cli: Cli) -> None:
    through = ("sh", "-c", 'exec "$@" >&-', "sh")
    flags = ("--port", f"udp/{PORT}", "--for", "2s", "--json", "-")
    done = cli.start("watch", *flags, inside=net.right, through=through).end()
    assert done.code == 1, done
    assert "cannot be written" in done.err
    assert "in 2 s" in done.err or "in 2.0 s" in done.err
