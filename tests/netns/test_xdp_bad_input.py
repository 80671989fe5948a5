"""Answers in the network driver where something goes wrong: rights, interfaces of all kinds, programs of others."""

from __future__ import annotations

import json
import sys

import pytest
from xdp_server import PORT, STATIC, ask, attached, in_mode, serving

from conftest import ROOT, Cli, Net, wait_until

pytestmark = pytest.mark.root

FLAGS = ("serve", "ntp", "--listen", f"*:{PORT}", "--for", "0.1s", "--xdp")
HIGH = ("serve", "ntp", "--listen", "*:1124", "--for", "0.1s", "--xdp")
NOBODY = ("--reuid=65534", "--regid=65534", "--clear-groups")
# Sends one datagram that begins with a request of version 4, of so many bytes (hexadecimal: of these), whole or not at
# all; tells how long the answer was.
SEND = """
import socket, sys
address, port, payload = sys.argv[1], int(sys.argv[2]), sys.argv[3]
request = bytes([0x23]) + bytes(47)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
    asker.settimeout(float(sys.argv[4]))
    asker.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER: no fragments
    asker.sendto(request + bytes.fromhex(payload), (address, port))
    try:
        print(len(asker.recv(65535)))
    except TimeoutError:
        print("none")
"""
# An extension field, which the sockets pass over.
FIELD = "104f001c" + "00" * 24


def send(net: Net, behind: str, wait: float = 10) -> str:
    """Asks with something behind the request: how long the answer was, or "none"."""
    return net.run(net.left, sys.executable, "-c", SEND, net.right_v4, PORT, behind, wait).strip()


def made_anew(net: Net) -> None:
    """The server's interface and its peer are removed and made again, with the same names and addresses."""
    net.run(net.right, "ip", "link", "delete", "eth0")
    pair = ("type", "veth", "peer", "name", "eth0", "netns", net.left)
    net.run(net.right, "ip", "link", "add", "eth0", *pair)
    for name, v4, v6 in ((net.left, net.left_v4, net.left_v6), (net.right, net.right_v4, net.right_v6)):
        net.run(name, "ip", "address", "add", f"{v4}/24", "dev", "eth0")
        net.run(name, "ip", "address", "add", f"{v6}/64", "dev", "eth0", "nodad")
        net.run(name, "ip", "link", "set", "eth0", "up")


@pytest.mark.parametrize("flags", [(), ("--interface", "eth0"), ("--user", "nobody")])
def test_an_interface_that_is_made_anew_gets_the_program_back(net: Net, cli: Cli, flags: tuple[str, ...]) -> None:
    with serving(cli, net, "--xdp", "generic", *flags, *STATIC) as served:
        served.wait(net, net.right_v4)
        before = served.stats()["xdp"]["answered"]
        made_anew(net)
        wait_until(lambda: attached(net) == "xdpgeneric", message="attached again")
        served.wait(net, net.right_v6)
        stats = served.stats()
        assert (stats["xdp"]["mode"], stats["xdp"]["answered"] > before) == ("generic", True), stats
        assert not any("gone" in note for note in stats["notes"]), stats["notes"]
        assert send(net, FIELD) == "48", "the sockets followed the interface"


def test_a_server_that_is_killed_in_native_mode_leaves_nothing_behind(net: Net, cli: Cli) -> None:
    running = cli.start("serve", "ntp", "--listen", f"*:{PORT}", "--xdp", "native", inside=net.right)
    wait_until(lambda: attached(net) == "xdp" or running.process.poll() is not None, message="attached")
    running.kill()
    wait_until(lambda: not attached(net), message="detached")


def test_a_missing_interface_is_named(net: Net, cli: Cli) -> None:
    for mode in ("auto", "generic", "native"):
        refused = cli(*FLAGS, mode, "--interface", "eth9", inside=net.right)
        assert (refused.code, "'eth9'" in refused.err, "eth0" in refused.err) == (2, True, True), refused.err


def test_while_there_is_no_interface_it_is_off_and_says_so(net: Net, cli: Cli) -> None:
    with serving(cli, net, "--xdp", "generic", *STATIC) as served:
        net.run(net.right, "ip", "link", "delete", "eth0")
        wait_until(lambda: served.stats()["xdp"]["mode"] == "off", message="off")
        assert "xdp: sockets answer: the interface is gone" in served.stats()["notes"]
        wait_until(
            lambda: "note: xdp: sockets answer: the interface is gone" in served.running.err.read_text(),
            message="said live",
        )


def test_an_interface_that_is_given_to_another_namespace_is_left(net: Net, cli: Cli) -> None:
    with serving(cli, net, "--xdp", "generic", *STATIC) as served:
        net.run(net.right, "ip", "link", "set", "eth0", "netns", net.left, "name", "eth1")
        wait_until(lambda: served.stats()["xdp"]["mode"] == "off", message="off")
        assert "xdp" not in net.run(net.left, "ip", "link", "show", "eth1")


def test_an_interface_that_gets_another_name_keeps_the_program(net: Net, cli: Cli) -> None:
    with serving(cli, net, "--xdp", "generic", *STATIC) as served:
        net.run(net.right, "ip", "link", "set", "eth0", "name", "lan0")
        served.wait(net, net.right_v4)


def test_an_interface_that_is_down_at_the_start(net: Net, cli: Cli) -> None:
    net.run(net.right, "ip", "link", "set", "eth0", "down")
    with serving(cli, net, "--xdp", "auto", *STATIC) as served:
        net.run(net.right, "ip", "link", "set", "eth0", "up")
        wait_until(lambda: ask(net, net.right_v4, 1, 0.3) != [["none"]], message="up")
        served.wait(net, net.right_v4)


def test_a_program_of_others_is_replaced_only_when_that_is_asked_for(net: Net, cli: Cli) -> None:
    foreign = ("ip", "link", "set", "dev", "eth0", "xdpgeneric", "obj", ROOT / "bpf/ntp.bpf.o", "sec", "xdp.frags")
    net.run(net.right, *foreign)
    before = attached_id(net)
    refused = cli(*FLAGS, "generic", inside=net.right)
    assert refused.code == 2, refused.err
    assert "another XDP program is attached" in refused.err
    assert "--xdp-replace" in refused.err
    auto = cli(*FLAGS, "auto", inside=net.right)
    assert "another XDP program is attached" in auto.err
    assert attached_id(net) == before
    with serving(cli, net, "--xdp", "generic", "--xdp-replace", *STATIC) as served:
        served.wait(net, net.right_v4)
        # What a link holds is not to be replaced.
        linked = cli(*HIGH, "generic", "--xdp-replace", inside=net.right)
        assert (linked.code, "held by a link" in linked.err) == (2, True), linked.err
        served.wait(net, net.right_v4)
    assert attached(net) == ""


def attached_id(net: Net) -> int:
    link = json.loads(net.run(net.right, "ip", "-json", "link", "show", "eth0"))[0]
    return int(link["xdp"]["prog"]["id"])


@pytest.mark.parametrize("mode", ["generic", "native"])
def test_jumbo_frames(net: Net, cli: Cli, mode: str) -> None:
    """Frames of several buffers go by the program, and so do requests that are as long."""
    for name in (net.left, net.right):
        net.run(name, "ip", "link", "set", "eth0", "mtu", "9000")
    with in_mode(cli, net, mode), serving(cli, net, "--xdp", mode, *STATIC) as served:
        served.wait(net, net.right_v4)
        before = served.stats()
        assert send(net, "00" * 8000, 0.1) == "none"
        after = served.stats()
        assert after["received"] - before["received"] == 1, "it came to the sockets in one piece"
        assert after["xdp"]["passed"]["not_plain"] == before["xdp"]["passed"]["not_plain"] + 1
        served.wait(net, net.right_v4)


def test_too_few_queues_for_native(net: Net, cli: Cli) -> None:
    net.run(net.right, "ip", "link", "delete", "eth0")
    queues = ("numrxqueues", "1", "numtxqueues", "1")
    peer = ("type", "veth", "peer", "name", "eth0", "numtxqueues", "4", "netns", net.left)
    net.run(net.right, "ip", "link", "add", "eth0", *queues, *peer)
    net.run(net.right, "ip", "link", "set", "eth0", "up")
    refused = cli(*FLAGS, "native", inside=net.right)
    assert (refused.code, "the driver lacks queues" in refused.err) == (2, True), refused.err


def test_a_bridge_has_no_driver_and_is_answered_in_generic_mode(net: Net, cli: Cli) -> None:
    net.run(net.right, "ip", "-4", "address", "flush", "dev", "eth0")
    net.run(net.right, "ip", "link", "add", "lan0", "type", "bridge", "forward_delay", "0")
    net.run(net.right, "ip", "link", "set", "eth0", "master", "lan0")
    net.run(net.right, "ip", "address", "add", f"{net.right_v4}/24", "dev", "lan0")
    net.run(net.right, "ip", "link", "set", "lan0", "up")
    with serving(cli, net, "--xdp", "auto", "--interface", "lan0", *STATIC) as served:
        served.wait(net, net.right_v4)
        stats = served.stats()
        assert (stats["xdp"]["interface"], stats["xdp"]["mode"]) == ("lan0", "generic")
        assert any(note.startswith("xdp: native: the interface's driver has no XDP") for note in stats["notes"])


@pytest.mark.parametrize("kind", ["tun", "lo"])
def test_interfaces_without_ethernet_are_for_the_sockets(net: Net, cli: Cli, kind: str) -> None:
    if kind == "tun":
        net.run(net.right, "ip", "tuntap", "add", "tun0", "mode", "tun")
    name, words = {
        "tun": ("tun0", "the interface is not of Ethernet's kind"),
        "lo": ("lo", "interface 'lo' has no driver"),
    }[kind]
    refused = cli(*FLAGS, "generic", "--interface", name, inside=net.right)
    assert (refused.code, f"flatout: xdp: {words}" in refused.err) == (2, True), refused.err
    auto = cli(*FLAGS, "auto", "--interface", name, inside=net.right)
    assert (auto.code, words in auto.err, "sockets answer" in auto.err) == (0, True, True), auto.err
    assert auto.err.count(words) == 1, "said once"


def test_rights(net: Net, cli: Cli) -> None:
    """Three capabilities are enough for nobody; where one is missing it is told which are needed."""
    needed = "CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"
    given = ("--inh-caps=+bpf,+perfmon,+net_admin", "--ambient-caps=+bpf,+perfmon,+net_admin")
    enough = cli.start(*HIGH, "generic", inside=net.right, through=("setpriv", *given, *NOBODY)).end()
    assert (enough.code, "xdp: eth0, generic" in enough.err) == (0, True), enough.err
    for capability in ("bpf", "net_admin"):
        lacking = ("setpriv", f"--bounding-set=-sys_admin,-{capability}", f"--inh-caps=-sys_admin,-{capability}")
        refused = cli.start(*HIGH, "generic", inside=net.right, through=lacking).end()
        assert (refused.code, needed in refused.err) == (2, True), refused.err
    auto = cli.start(*HIGH, "auto", inside=net.right, through=("setpriv", *NOBODY)).end()
    assert (auto.code, f"sockets answer: not permitted to run XDP programs: needs root, or {needed}" in auto.err) == (
        0,
        True,
    ), auto.err
