"""The books agree with counters that are not ours: nft's, in namespaces joined by veth, v4 and v6."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from conftest import Cli, Net, Running, until_good, wait_until

pytestmark = pytest.mark.root

PORT = 1123
# What the right namespace sees of requests and answers, before and behind its sockets.
RULES = f"""
table inet books {{
    counter asked {{ }}
    counter answered {{ }}
    chain in {{ type filter hook input priority 0; udp dport {PORT} counter name asked; }}
    chain out {{ type filter hook output priority 0; udp sport {PORT} counter name answered; }}
}}
"""
LOAD = ("--rate", "10k", "--for", "500ms", "--warmup", "0", "--timeout", "300ms", "--json", "-", "--quiet")


ASK = """
import socket, sys
address = sys.argv[1]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as asker:
    asker.settimeout(10)
    asker.sendto(bytes([0x23]) + bytes(47), (address, int(sys.argv[2])))
    answer, sender = asker.recvfrom(2048)
    print(sender[0], len(answer))
"""


@contextmanager
def serving(cli: Cli, net: Net, *arguments: str) -> Iterator[Running]:
    running = cli.start("serve", "ntp", *arguments, "--json", "totals.json", "--for", "100s", inside=net.right)
    wait_until(lambda: "Ctrl-C" in running.err.read_text(), message="serving")
    yield running
    running.interrupt()
    assert running.end().code == 0


def counted(net: Net, nft: str) -> dict[str, int]:
    """The counters since they were last read."""
    listed = json.loads(net.run(net.right, nft, "-j", "reset", "counters"))["nftables"]
    return {entry["counter"]["name"]: entry["counter"]["packets"] for entry in listed if "counter" in entry}


def begin_counting(net: Net, nft: str, cli: Cli) -> None:
    rules = cli.folder / "books.nft"
    rules.write_text(RULES, encoding="ascii")
    net.run(net.right, nft, "-f", rules)


@pytest.mark.parametrize(("listen", "target"), [("0.0.0.0", "right_v4"), ("[::]", "right_v6")])
def test_our_books_agree_with_the_kernels(
    net: Net, peer: Callable[[str], str], cli: Cli, listen: str, target: str
) -> None:
    nft = peer("nft")
    asked = str(getattr(net, target))
    where = f"[{asked}]:{PORT}" if ":" in asked else f"{asked}:{PORT}"
    begin_counting(net, nft, cli)

    def attempt() -> tuple[Any, dict[str, int]]:
        run = cli("load", "ntp", where, *LOAD, inside=net.left).json
        return run, counted(net, nft)

    def lossless(pair: tuple[Any, dict[str, int]]) -> bool:
        return pair[0]["outcomes"]["lost"] == 0 and pair[0]["outcomes"]["unsent"] == 0

    with serving(cli, net, "--listen", f"{listen}:{PORT}"):
        # Until the neighbour is known the kernel holds packets back, and may deliver them after the run.
        net.run(net.left, sys.executable, "-c", ASK, asked, PORT)
        counted(net, nft)
        run, books = until_good(attempt, lossless)
    outcomes = run["outcomes"]
    assert outcomes["planned"] == outcomes["sent"] + outcomes["unsent"] == 5000
    assert books["asked"] == outcomes["sent"], f"{books} {outcomes} {run['own_drops']}"
    answers = outcomes["answered"] + outcomes["late"] + outcomes["duplicate"] + outcomes["invalid"]
    assert books["answered"] == answers + run["own_drops"]


def test_a_firewall_that_drops_is_seen_as_loss_of_as_many(net: Net, peer: Callable[[str], str], cli: Cli) -> None:
    nft = peer("nft")
    rules = cli.folder / "drop.nft"
    drop = f"udp dport {PORT} numgen inc mod 10 0 counter name dropped drop;"
    rules.write_text(
        f"table inet wall {{ counter dropped {{ }}\nchain in {{ type filter hook input priority 0; {drop} }}\n}}\n"
    )
    net.run(net.right, nft, "-f", rules)

    def attempt() -> tuple[Any, int]:
        run = cli("load", "ntp", f"{net.right_v4}:{PORT}", *LOAD, inside=net.left).json
        return run, counted(net, nft)["dropped"]

    with serving(cli, net, "--listen", f"{net.right_v4}:{PORT}"):
        run, dropped = until_good(attempt, lambda pair: pair[0]["outcomes"]["lost"] == pair[1])
    assert dropped == pytest.approx(run["outcomes"]["sent"] / 10, abs=1)
    assert run["outcomes"]["lost"] == dropped
    assert run["loss"] == pytest.approx(0.1, abs=0.001)


def test_a_firewall_that_rejects_is_seen_as_refusal(net: Net, peer: Callable[[str], str], cli: Cli) -> None:
    rules = cli.folder / "reject.nft"
    reject = f"udp dport {PORT} reject with icmpx admin-prohibited;"
    rules.write_text(f"table inet wall {{ chain in {{ type filter hook input priority 0; {reject} }}\n}}\n")
    net.run(net.right, peer("nft"), "-f", rules)
    # The kernel limits how many refusals it sends, to all together and to each address.
    net.run(net.right, "sysctl", "-qw", "net.ipv4.icmp_ratelimit=0", "net.ipv4.icmp_msgs_per_sec=100000")
    done = cli("load", "ntp", f"{net.right_v4}:{PORT}", "--rate", "200", *LOAD[2:], inside=net.left)
    assert done.code == 3
    assert done.json["verdict"] == "target-lost"
    assert done.json["outcomes"]["refused"] > 0


def test_many_sources_over_veth(net: Net, peer: Callable[[str], str], cli: Cli) -> None:
    """Each flow has an address of its own that the far end tells apart."""
    for host in range(10, 42):
        net.run(net.left, "ip", "address", "add", f"10.99.0.{host}/24", "dev", "eth0")
    nft = peer("nft")
    rules = cli.folder / "who.nft"
    rules.write_text(
        "table inet who { set seen { type ipv4_addr; size 1024; flags dynamic; }\n"
        f"chain in {{ type filter hook input priority 0; udp dport {PORT} add @seen {{ ip saddr }}; }}\n}}\n"
    )
    net.run(net.right, nft, "-f", rules)
    sources = [f"10.99.0.{host}" for host in range(10, 42)]
    with serving(cli, net, "--listen", f"0.0.0.0:{PORT}", "--threads", "2"):
        run = cli(
            "load", "ntp", f"{net.right_v4}:{PORT}", *LOAD, "--flows", "64", "--sources", *sources, inside=net.left
        ).json
    assert run["outcomes"]["answered"] > 0
    seen = json.loads(net.run(net.right, nft, "-j", "list", "set", "inet", "who", "seen"))["nftables"]
    elements = next(entry["set"]["elem"] for entry in seen if "set" in entry)
    assert sorted(str(element) for element in elements) == sorted(sources)


def test_a_wildcard_answers_from_the_address_that_was_asked(net: Net, cli: Cli) -> None:
    others = ["10.99.0.77", "10.99.0.78", "fd00:99::77", "fd00:99::78"]
    for address in others:
        nodad = ["nodad"] if ":" in address else []
        net.run(net.right, "ip", "address", "add", f"{address}/{64 if nodad else 24}", "dev", "eth0", *nodad)
    with serving(cli, net, "--listen", f"0.0.0.0:{PORT}"), serving(cli, net, "--listen", f"[::]:{PORT + 1}"):
        for address in (net.right_v4, net.right_v6, *others):
            port = PORT + (":" in address)
            assert socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
            reported = net.run(net.left, sys.executable, "-c", ASK, address, port)
            assert reported.split() == [address, "48"]
