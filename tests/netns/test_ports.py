"""Ports that do not suffice are said before anything is sent, with the remedy; and SYNs that a firewall rejects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

import accounts
import flatout
import flatout.result.files
from conftest import Cli, Net, Ran, wait_until

pytestmark = pytest.mark.root

PORT = 1053
ASKED = ("--rate", "300", "--warmup", "0", "--timeout", "500ms", "--quiet", "--json", "-")


@contextmanager
def serving(cli: Cli, net: Net) -> Iterator[None]:
    listen = f"{net.right_v4}:{PORT}"
    running = cli.start("serve", "dns", "--listen", listen, "--for", "100s", "--json", "served.json", inside=net.right)
    wait_until(lambda: "Ctrl-C" in running.err.read_text(), message="serving")
    yield
    running.interrupt()
    assert running.end().code == 0


def load(cli: Cli, net: Net, *flags: str, transport: str = "tcp", seconds: int = 1) -> Ran:
    target = f"{net.right_v4}:{PORT}"
    return cli("load", "dns", target, *ASKED, "--for", f"{seconds}s", "--transport", transport, *flags, inside=net.left)


def few_ports(net: Net, most: int) -> None:
    net.run(net.left, "sysctl", "-qw", f"net.ipv4.ip_local_port_range=40000 {39999 + most}")


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_too_few_ports_are_told_before_anything_is_sent(net: Net, cli: Cli, transport: str) -> None:
    few_ports(net, 50)
    with serving(cli, net):
        done = load(cli, net, "--connections", "51", transport=transport)
        assert (done.code, done.out) == (2, "")
        said = " ".join(done.err.split())
        assert "51 connections need as many source ports" in said or "51 flows need as many source ports" in said, said
        assert "there are 50" in said
        assert "--sources" in said
        assert "ip_local_port_range" in said
    served = (cli.folder / "served.json").read_text(encoding="utf-8").splitlines()[-1]
    assert '"received":0' in served.replace(" ", ""), "nothing was sent"


@pytest.mark.parametrize("io", ["io_uring", pytest.param("epoll", marks=pytest.mark.slow)])
def test_all_ports_can_be_used_and_the_remedy_helps(net: Net, cli: Cli, io: str) -> None:
    few_ports(net, 50)
    others = [f"10.99.0.{host}" for host in range(50, 53)]
    for address in others:
        net.run(net.left, "ip", "address", "add", f"{address}/24", "dev", "eth0")
    with serving(cli, net):
        one = load(cli, net, "--connections", "50", "--io", io)
        more = load(cli, net, "--connections", "150", "--io", io, "--sources", *others)
    for done, wanted in ((one, 50), (more, 150)):
        assert done.code in {0, 4}, done.err
        run = flatout.result.files.from_json(done.out)
        assert isinstance(run, flatout.LoadResult)
        accounts.check(run)
        assert run.connections is not None
        assert (run.connections.established, run.connections.failed) == (wanted, 0), run.warnings
        assert run.outcomes.answered > 0


@pytest.mark.parametrize("io", ["io_uring", pytest.param("epoll", marks=pytest.mark.slow)])
def test_half_of_the_attempts_refused(net: Net, peer: Callable[[str], str], cli: Cli, io: str) -> None:
    """A firewall answers every second SYN with a reset."""
    rules = cli.folder / "half.nft"
    half = f"tcp dport {PORT} tcp flags == syn numgen inc mod 2 0 reject with tcp reset"
    rules.write_text(f"table inet wall {{ chain in {{ type filter hook input priority 0; {half}; }}\n}}\n")
    net.run(net.right, peer("nft"), "-f", rules)
    with serving(cli, net):
        once = load(cli, net, "--connections", "20", "--io", io, "--no-reconnect")
        # Each is tried again after 100, 200, 400, 800 and 1,000 ms.
        again = load(cli, net, "--connections", "20", "--io", io, seconds=5)
    runs = [flatout.result.files.from_json(done.out) for done in (once, again)]
    for run in runs:
        assert isinstance(run, flatout.LoadResult)
        accounts.check(run)
        assert run.outcomes.answered + run.outcomes.late == run.outcomes.sent > 0
    counted = [run.connections for run in runs if isinstance(run, flatout.LoadResult) and run.connections]
    assert (counted[0].opened, counted[0].established, counted[0].refused, counted[0].failed) == (20, 10, 10, 10)
    assert counted[0].live == 10
    assert any("only 10 of 20" in text for text in runs[0].warnings), runs[0].warnings
    assert counted[1].live == 20, "asked again until all stood"
    assert abs(counted[1].refused - counted[1].established) <= 1
