"""`flatout host` in a network namespace: settings are set and work, undo restores exactly, the host keeps its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import Cli, Net, wait_until

pytestmark = pytest.mark.root

PORT = 1123
SERVER = ("--role", "server", "--for", "udp", "--rate", "500k", "--port", PORT)
CLIENT = ("--role", "client", "--for", "tcp")
OWN = (
    "net/core/somaxconn",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/tcp_tw_reuse",
    "net/ipv4/tcp_max_syn_backlog",
    "net/ipv4/tcp_syncookies",
)
HOSTS = ("net/core/rmem_max", "net/core/rmem_default", "net/core/netdev_max_backlog", "net/core/rps_sock_flow_entries")
RPS = "/sys/class/net/eth0/queues/rx-0/rps_cpus"


@pytest.fixture(autouse=True)
def _the_host_is_as_before() -> Iterator[None]:
    files = [Path("/proc/sys") / name for name in (*OWN, *HOSTS, "fs/file-max", "fs/nr_open")]
    before = {file: file.read_text() for file in files if file.exists()}
    yield
    assert {file: file.read_text() for file in before} == before


def state(net: Net, namespace: str) -> list[str]:
    """What a namespace has of its own."""
    files = [f"/proc/sys/{name}" for name in OWN]
    return [net.run(namespace, "cat", file) for file in (*files, RPS)] + [net.run(namespace, "nft", "list", "ruleset")]


def track(net: Net, namespace: str) -> None:
    """A firewall that needs connection tracking."""
    rules = "table inet wall { chain in { type filter hook input priority 0; ct state established accept; }; }"
    net.run(namespace, "nft", rules)


def test_a_server_is_set_works_and_is_undone(net: Net, cli: Cli, peer: Callable[[str], str]) -> None:
    peer("nft")
    track(net, net.right)
    before = state(net, net.right)
    journal = ("--journal", cli.folder / "host.json")
    checked = cli("host", "check", *SERVER, "--json", "-", inside=net.right)
    assert checked.code == 1, checked.err
    tracking = checked.json["settings"][-1]
    assert (tracking["now"], tracking["state"]) == ("none", "differs")

    applied = cli("host", "apply", *SERVER, *journal, inside=net.right)
    assert "NOTRACK): none -> output udp sport 1123; prerouting udp dport 1123" in applied.out
    assert net.run(net.right, "cat", RPS).strip().strip("0,") != ""
    # What is of the whole host is either as wanted, or named.
    again = cli("host", "check", *SERVER, "--json", "-", inside=net.right).json
    differing = [one for one in again["settings"] if one["state"] == "differs"]
    assert all(one["key"].startswith(("/proc/sys/net/core/", "/sys/devices/")) for one in differing), differing
    assert applied.code == (1 if differing else 0), applied.err
    for one in differing:
        assert f"NOT SET  {one['name']}" in applied.err

    served(net, cli)
    count = net.run(net.right, "cat", "/proc/sys/net/netfilter/nf_conntrack_count")
    assert count.strip() == "0", "packets of the service are not tracked"
    undone = cli("host", "undo", *journal, inside=net.right)
    assert undone.code == 0, undone.err
    assert state(net, net.right) == before
    assert not (cli.folder / "host.json").exists()


def served(net: Net, cli: Cli) -> None:
    """A short load is answered."""
    listen = f"{net.right_v4}:{PORT}"
    running = cli.start("serve", "ntp", "--listen", listen, "--for", "60s", inside=net.right)
    wait_until(lambda: "Ctrl-C" in running.err.read_text(), message="serving")
    flags = ("--rate", "500", "--for", "500ms", "--warmup", "0", "--quiet", "--json", "-")
    done = cli("load", "ntp", listen, *flags, inside=net.left)
    running.interrupt()
    running.end()
    outcomes = json.loads(done.out)["outcomes"]
    assert outcomes["answered"] + outcomes["late"] + outcomes["unsent"] == outcomes["planned"] == 250


def test_a_client_gets_ports_and_gives_them_back(net: Net, cli: Cli) -> None:
    before = state(net, net.left)
    journal = ("--journal", cli.folder / "host.json")
    done = cli("host", "apply", *CLIENT, *journal, inside=net.left)
    assert "ip_local_port_range: 32768 60999 -> 1024 65535" in done.out
    assert net.run(net.left, "cat", "/proc/sys/net/ipv4/tcp_tw_reuse").strip() == "1"
    # Of another namespace: not this one's to undo.
    wrong = cli("host", "undo", *journal, inside=net.right)
    assert wrong.code == 2
    assert "another network namespace" in wrong.err
    net.run(net.left, "sysctl", "-qw", "net.ipv4.tcp_tw_reuse=0")
    left = cli("host", "undo", *journal, inside=net.left)
    assert left.code == 1
    assert "LEFT      net.ipv4.tcp_tw_reuse: 0 stays" in left.err
    assert cli("host", "undo", "--force", *journal, inside=net.left).code == 0
    assert state(net, net.left) == before


def test_the_script_does_it_and_undoes_it(net: Net, cli: Cli, peer: Callable[[str], str]) -> None:
    peer("nft")
    track(net, net.right)
    before = state(net, net.right)
    server = ("--role", "server", "--for", "tcp", "--port", PORT)
    text = cli("host", "apply", *server, "--dry-run", inside=net.right).out
    # Only what is of the namespace: the rest of the script is the host's business.
    assert "/proc/sys/net/core/somaxconn" in text
    assert "tcp dport 1123 notrack" in text
    assert state(net, net.right) == before
    path = cli.folder / "tune.sh"
    path.write_text(text, encoding="utf-8")
    try:
        net.run(net.right, "sh", path)
        settings = cli("host", "check", *server, "--json", "-", inside=net.right).json["settings"]
        # Queues that its `ethtool -L` has added are for the next script, as it says.
        assert [one["key"] for one in settings if one["state"] == "differs" and "/queues/" not in one["key"]] == []
    finally:
        subprocess.run(["ip", "netns", "exec", net.right, "sh", path, "undo"], check=True)
    assert state(net, net.right) == before


def test_proc_may_be_read_only(net: Net, cli: Cli, peer: Callable[[str], str]) -> None:
    """As in a container: it says so, leaves no journal, and ends with 1."""
    remount = "mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys && mount -o remount,ro,bind /sys"
    command = [peer("ip"), "netns", "exec", net.left, "sh", "-c", f'{remount} && exec "$@"', "sh"]
    running = cli.start("host", "apply", *CLIENT, "--journal", cli.folder / "host.json", through=command)
    done = running.end()
    assert done.code == 1, done.err
    assert "mounted read-only, as in a container" in done.err
    assert "Nothing was changed." in done.out
    assert not (cli.folder / "host.json").exists()
