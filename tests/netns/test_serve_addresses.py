"""Servers on several addresses: who is answered, from where, and by which worker."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from conftest import Cli, Net, wait_until

pytestmark = pytest.mark.root

PORT = 1123
ASK = """
import socket, sys
address, port = sys.argv[1], int(sys.argv[2])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as asker:
    asker.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    asker.settimeout(float(sys.argv[3]))
    try:
        target = (address, port, 0, socket.if_nametoindex("eth0")) if ":" in address else (address, port)
        asker.sendto(bytes([0x23]) + bytes(47), target)
        answer, sender = asker.recvfrom(2048)
        print(sender[0].split("%")[0], len(answer))
    except OSError as error:
        print("none")
"""
# From each source address, many ports.
FLOOD = """
import socket, sys
target, ports = (sys.argv[1], int(sys.argv[2])), int(sys.argv[3])
for source in sys.argv[4:]:
    for _ in range(ports):
        with socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET, socket.SOCK_DGRAM) as asker:
            asker.settimeout(10)
            asker.bind((source, 0))
            asker.sendto(bytes([0x23]) + bytes(47), target)
            asker.recv(64)
"""
# As root, without the right to bind to ports below 1024.
UNPRIVILEGED = "--bounding-set=-net_bind_service --inh-caps=-net_bind_service"
# What systemd does for a socket unit: binds, then starts the service with the sockets as descriptors 3, 4, ….
ACTIVATE = """
import fcntl, os, socket, sys
port, count = int(sys.argv[1]), int(sys.argv[2])
units = []
for _ in range(count):
    unit = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    unit.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    unit.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    unit.bind(("::", port))
    units.append(fcntl.fcntl(unit.detach(), fcntl.F_DUPFD, 100))
for n, unit in enumerate(units):
    os.dup2(unit, 3 + n)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(count))
os.execvp("setpriv", ["setpriv", *sys.argv[3].split(), *sys.argv[4:]])
"""


class Serving:
    """A server in the right namespace; its totals when it has ended."""

    totals: Any = None


@contextmanager
def serving(cli: Cli, net: Net, *arguments: str, through: tuple[str, ...] = ()) -> Iterator[Serving]:
    flags = ("--json", "-", "--for", "100s")
    running = cli.start("serve", "ntp", *arguments, *flags, inside=net.right, through=through)
    wait_until(lambda: "Ctrl-C" in running.err.read_text() or running.process.poll() is not None, message="serving")
    assert running.process.poll() is None, running.err.read_text()
    served = Serving()
    yield served
    running.interrupt()
    done = running.end()
    assert done.code == 0, done.err
    served.totals = json.loads(done.out.splitlines()[-1])


def ask(net: Net, address: str, port: int = PORT, wait: float = 10, where: str | None = None) -> str:
    return net.run(where or net.left, sys.executable, "-c", ASK, address, port, wait).strip()


def add(net: Net, *addresses: str) -> None:
    for address in addresses:
        nodad = ["nodad"] if ":" in address else []
        net.run(net.right, "ip", "address", "add", f"{address}/{64 if nodad else 24}", "dev", "eth0", *nodad)


def test_each_of_several_addresses_answers(net: Net, cli: Cli) -> None:
    add(net, "10.99.0.77")
    listens = (f"{net.right_v4}:{PORT}", f"[{net.right_v6}]:{PORT}", f"{net.right_v4}:{PORT + 1}")
    flags = [flag for listen in listens for flag in ("--listen", listen)]
    with serving(cli, net, *flags, "--threads", "2") as served:
        assert ask(net, net.right_v4) == f"{net.right_v4} 48"
        assert ask(net, net.right_v6) == f"{net.right_v6} 48"
        assert ask(net, net.right_v4, PORT + 1) == f"{net.right_v4} 48"
        assert ask(net, "10.99.0.77") == "none", "it does not listen there"
    assert (served.totals["received"], served.totals["answered"]) == (3, 3)


def test_all_addresses_of_both_families_and_no_broadcasts(net: Net, cli: Cli) -> None:
    add(net, "10.99.0.77", "fd00:99::77")
    with serving(cli, net, "--listen", f"*:{PORT}") as served:
        for address in (net.right_v4, net.right_v6, "10.99.0.77", "fd00:99::77"):
            assert ask(net, address) == f"{address} 48"
        # One that came after the server began, as a floating address does.
        add(net, "10.99.0.78")
        assert ask(net, "10.99.0.78") == "10.99.0.78 48"
        for address in ("10.99.0.255", "255.255.255.255", "224.0.0.1", "ff02::1"):
            assert ask(net, address, wait=0.3) == "none", address
    assert served.totals["dropped"]["not_unicast"] == 4, served.totals
    assert served.totals["dropped"]["unsent"] == 0
    assert served.totals["answered"] == 5


def test_a_host_whose_ipv6_is_off_serves_ipv4(net: Net, cli: Cli) -> None:
    net.run(net.right, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
    with serving(cli, net, "--listen", f"*:{PORT}"):
        assert ask(net, net.right_v4) == f"{net.right_v4} 48"


def test_one_interface_only(net: Net, cli: Cli) -> None:
    with serving(cli, net, "--listen", f"*:{PORT}", "--interface", "eth0"):
        assert ask(net, net.right_v4) == f"{net.right_v4} 48"
        assert ask(net, net.right_v6) == f"{net.right_v6} 48"
    with serving(cli, net, "--listen", f"*:{PORT}", "--interface", "lo"):
        assert ask(net, net.right_v4, wait=0.3) == "none", "it comes by eth0"
        assert ask(net, "127.0.0.1", where=net.right) == "127.0.0.1 48"


def test_an_address_to_come(net: Net, cli: Cli) -> None:
    refused = cli("serve", "ntp", "--listen", f"10.99.0.77:{PORT}", "--for", "1s", inside=net.right)
    assert refused.code == 2
    assert f"10.99.0.77:{PORT}" in refused.err
    with serving(cli, net, "--listen", f"10.99.0.77:{PORT}", "--free-bind"):
        add(net, "10.99.0.77")
        assert ask(net, "10.99.0.77") == "10.99.0.77 48"


def of_workers(served: Serving) -> list[int]:
    return sorted(worker["answered"] for worker in served.totals["workers"])


@pytest.mark.parametrize("version", [4, 6])
def test_all_ports_of_a_client_reach_one_worker(net: Net, cli: Cli, version: int) -> None:
    source, target = (net.left_v4, net.right_v4) if version == 4 else (net.left_v6, net.right_v6)
    with serving(cli, net, "--listen", f"*:{PORT}", "--threads", "4", "--balance", "client") as served:
        net.run(net.left, sys.executable, "-c", FLOOD, target, PORT, 64, source)
    assert of_workers(served) == [0, 0, 0, 64]


def test_many_clients_spread_over_all_workers(net: Net, cli: Cli) -> None:
    clients = [f"10.99.1.{host}" for host in range(1, 251)]
    net.run(net.left, "ip", "address", "add", "10.99.1.0/16", "dev", "eth0")
    net.run(net.left, "ip", "route", "add", "local", "10.99.1.0/24", "dev", "lo")
    net.run(net.right, "ip", "route", "add", "10.99.1.0/24", "dev", "eth0")
    with serving(cli, net, "--listen", f"0.0.0.0:{PORT}", "--threads", "2", "--balance", "client") as served:
        net.run(net.left, sys.executable, "-c", FLOOD, net.right_v4, PORT, 2, *clients)
    counts = of_workers(served)
    # 125 clients are a fair share, with a standard deviation of 8, and each asked twice.
    assert sum(counts) == 500
    assert all(count % 2 == 0 for count in counts)
    assert counts[0] >= 170, counts


def test_a_port_below_1024_without_root_by_sockets_handed_over(net: Net, cli: Cli) -> None:
    through = (sys.executable, "-c", ACTIVATE, "123", "2", UNPRIVILEGED)
    refused = cli.start("serve", "ntp", "--listen", "*:123", through=("setpriv", *UNPRIVILEGED.split())).end()
    assert refused.code == 2
    assert "CAP_NET_BIND_SERVICE" in " ".join(refused.err.split())
    with serving(cli, net, "--balance", "client", through=through) as served:
        assert ask(net, net.right_v4, 123) == f"{net.right_v4} 48"
        assert ask(net, net.right_v6, 123) == f"{net.right_v6} 48"
        net.run(net.left, sys.executable, "-c", FLOOD, net.right_v4, 123, 32, net.left_v4)
    assert len(served.totals["workers"]) == 2, "one for each socket"
    assert max(of_workers(served)) >= 33
    assert served.totals["answered"] == 34
