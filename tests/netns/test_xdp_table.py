"""`serve dns --xdp` over veth: the driver's answers are those of the sockets, which answer what it does not."""

from __future__ import annotations

import sys
from pathlib import Path

import dns.message
import pytest
from xdp_server import PORT, in_mode, serving

from conftest import Cli, Net, wait_until

pytestmark = pytest.mark.root

ZONE = """\
$ORIGIN example.
$TTL 300
@ SOA ns.example. h.example. 1 2 3 4 60
@ NS ns
www A 192.0.2.1
www TXT "hello"
long TXT "{long}" "{long}"
* A 192.0.2.9
"""
# Each line of the input is a request; each line of the output its answer, or nothing.
ASK = """
import socket, sys
with socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM) as asking:
    asking.settimeout(10)
    asking.connect((sys.argv[1], int(sys.argv[2])))
    for line in sys.argv[3:]:
        asking.send(bytes.fromhex(line))
        print(asking.recv(4096).hex())
"""


def requests() -> list[str]:
    """Plain ones first, of which the driver answers nine, then others."""
    made = [
        dns.message.make_query(name, kind, **more)
        for name, kind in (("wWw.eXample.", "A"), ("www.example.", "TXT"), ("www.example.", "AAAA"))
        for more in ({}, {"use_edns": 0, "payload": 1232}, {"want_dnssec": True, "payload": 4096})
    ]
    made += [
        dns.message.make_query("long.example.", "TXT"),
        dns.message.make_query("any.example.", "A"),
        dns.message.make_query("elsewhere.", "A"),
        dns.message.make_query("www.example.", "ANY"),
    ]
    for number, one in enumerate(made):
        one.id = number
    return [one.to_wire().hex() for one in made]


def asked(net: Net, address: str) -> list[str]:
    return net.run(net.left, sys.executable, "-c", ASK, address, PORT, *requests()).split()


@pytest.mark.parametrize("mode", ["generic", "native"])
def test_both_paths_answer_alike(net: Net, cli: Cli, mode: str, tmp_path: Path) -> None:
    zone = tmp_path / "zone"
    zone.write_text(ZONE.format(long="x" * 250))
    both = ("--zone", str(zone))
    with serving(cli, net, *both, protocol="dns") as served:
        right = [asked(net, address) for address in (net.right_v4, net.right_v6)]
        assert "xdp" not in served.stats()
    with in_mode(cli, net, mode), serving(cli, net, *both, "--xdp", mode, protocol="dns") as served:
        wait_until(lambda: f"xdp: eth0, {mode}" in str(served.stats()["notes"]), message="attached")
        assert [asked(net, address) for address in (net.right_v4, net.right_v6)] == right
        stats = served.stats()
        assert stats["received"] == stats["answered"] == 2 * len(requests())
        # The lease may run out on a busy host; and some frames of this host have no room for longer answers.
        assert 8 - stats["xdp"]["passed"]["no_state"] <= stats["xdp"]["answered"] <= 20
        assert stats["xdp"]["passed"]["not_plain"] >= 6


def test_a_client_above_its_rate_gets_nothing(net: Net, cli: Cli, tmp_path: Path) -> None:
    zone = tmp_path / "zone"
    zone.write_text(ZONE.format(long="x"))
    limits = ("--transport", "udp", "--client-rate", "1/1000s", "--client-burst", "3", "--client-leak", "0")
    with serving(cli, net, "--zone", str(zone), "--xdp", "generic", *limits, protocol="dns") as served:
        wait_until(lambda: "xdp: eth0, generic" in str(served.stats()["notes"]), message="attached")
        names = tmp_path / "names"
        names.write_text("www.example A\n")
        flags = ("--queries", str(names), "--rate", "200", "--for", "0.2s", "--warmup", "0", "--json", "-", "--quiet")
        loaded = cli("load", "dns", f"{net.right_v4}:{PORT}", *flags, inside=net.left)
        stats = served.stats()
        passed = sum(stats["xdp"]["passed"].values())
        assert 3 <= loaded.json["outcomes"]["answered"] <= 3 + passed
        assert stats["dropped"]["rate_limited"] == stats["received"] - stats["answered"]
        assert stats["xdp"]["dropped"]["rate_limited"] > 0
