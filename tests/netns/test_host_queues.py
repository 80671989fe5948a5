"""`flatout host` and the queues of a real veth: channels, RPS, XPS and txqueuelen are set, and restored exactly."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from conftest import Cli, Net

pytestmark = pytest.mark.root

SERVER = ("--role", "server", "--for", "udp", "--rate", "500k")
CLIENT = ("--role", "client", "--for", "udp", "--rate", "1M")
FILES = "cd /sys/class/net/eth0 && grep -r . queues/*/*ps_cpus queues/*/rps_flow_cnt tx_queue_len"


def state(net: Net, namespace: str) -> str:
    """Of the device."""
    return net.run(namespace, "sh", "-c", FILES) + net.run(namespace, "ethtool", "-l", "eth0")


def queues(net: Net, namespace: str, *counts: object) -> None:
    """Sets the channels with the program, and a mask that somebody has chosen."""
    net.run(namespace, "ethtool", "-L", "eth0", *counts)


@pytest.fixture
def cpus(net: Net) -> int:
    """How many this host has, of which a veth has as many queues at most."""
    count = int(net.run(net.right, "nproc", "--all"))
    if count < 2:
        pytest.skip("needs two CPUs")
    return count


def test_queues_are_set_and_restored(net: Net, cli: Cli, peer: Callable[[str], str], cpus: int) -> None:
    peer("ethtool")
    before = state(net, net.right)
    journal = ("--journal", cli.folder / "host.json")
    done = cli("host", "apply", *SERVER, *journal, inside=net.right)
    assert f"set      channels (eth0): rx 1 tx 1 -> rx {cpus} tx {cpus}\n" in done.out
    assert f"set      rps_cpus (eth0 rx-{cpus - 1}): 0 -> " in done.out, "the queues that were added too"
    listed = net.run(net.right, "ethtool", "-l", "eth0").partition("Current hardware settings")[2].split()
    assert listed[listed.index("RX:") + 1] == listed[listed.index("TX:") + 1] == str(cpus)
    masks = net.run(net.right, "sh", "-c", "cat /sys/class/net/eth0/queues/tx-*/xps_cpus").split()
    assert [int(mask.replace(",", ""), 16) for mask in masks] == [1 << cpu for cpu in range(cpus)]
    assert net.run(net.right, "cat", "/sys/class/net/eth0/queues/rx-0/rps_cpus").strip().strip("0,") != ""

    second = cli("host", "apply", *CLIENT, *journal, inside=net.right)
    assert "set      txqueuelen (eth0): 1000 -> 10000" in second.out
    undone = cli("host", "undo", *journal, inside=net.right)
    assert undone.code == 0, undone.err
    assert state(net, net.right) == before


def test_what_somebody_has_chosen_stays(net: Net, cli: Cli, peer: Callable[[str], str], cpus: int) -> None:
    peer("ethtool")
    queues(net, net.right, "rx", cpus, "tx", cpus)
    net.run(net.right, "sh", "-c", "echo 2 > /sys/class/net/eth0/queues/rx-0/rps_cpus")
    net.run(net.right, "sh", "-c", "echo 2 > /sys/class/net/eth0/queues/tx-0/xps_cpus")
    net.run(net.right, "ip", "link", "set", "eth0", "txqueuelen", "20000")
    before = state(net, net.right)
    journal = ("--journal", cli.folder / "host.json")
    for aim in (SERVER, CLIENT):
        done = cli("host", "apply", *aim, *journal, inside=net.right)
        assert not [line for line in done.out.splitlines() if "channels" in line or "rx-0" in line or "tx-0" in line]
        assert "txqueuelen" not in done.out
    assert state(net, net.right) != before, "the other queues"
    assert cli("host", "undo", *journal, inside=net.right).code == 0
    assert state(net, net.right) == before


def test_the_script_sets_channels_too(net: Net, cli: Cli, peer: Callable[[str], str], cpus: int) -> None:
    peer("ethtool")
    before = state(net, net.right)
    server = ("--role", "server", "--for", "tcp", "--interface", "eth0")
    path = cli.folder / "tune.sh"
    path.write_text(cli("host", "apply", *server, "--dry-run", inside=net.right).out, encoding="utf-8")
    assert f"ethtool -L eth0 rx {cpus} tx {cpus}" in path.read_text(encoding="utf-8")
    assert state(net, net.right) == before
    net.run(net.right, "sh", path)
    assert state(net, net.right) != before
    net.run(net.right, "sh", path, "undo")
    assert state(net, net.right) == before


def test_loopback_says_what_it_does_not_have(net: Net, cli: Cli) -> None:
    done = cli("host", "check", *SERVER, "--interface", "lo", inside=net.right)
    assert "lo: its driver has no channels to set" in done.out
    assert "lo: its driver has no receive ring to set" in done.out
    wrong = cli("host", "check", *SERVER, "--interface", "eth9", inside=net.right)
    assert wrong.code == 2
    assert "--interface" in wrong.err
    assert "there is eth0, lo" in wrong.err


def test_the_default_route_has_the_device(net: Net, cli: Cli) -> None:
    net.run(net.right, "ip", "link", "add", "spare", "type", "veth", "peer", "name", "other")
    net.run(net.right, "ip", "link", "set", "spare", "up")
    net.run(net.right, "ip", "link", "set", "other", "up")
    assert "(spare)" in cli("host", "check", *SERVER, inside=net.right).out
    net.run(net.right, "ip", "route", "add", "default", "via", net.left_v4)
    out = cli("host", "check", *SERVER, inside=net.right).out
    assert "(spare)" not in out
    assert "channels (eth0)" in out
