"""What a receiver in another namespace tells agrees with counters that are not ours, v4 and v6."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from conftest import Cli, Net, Running, wait_until
from flatout.result.files import from_json
from flatout.result.merge import merge
from flatout.result.model import LoadResult

pytestmark = pytest.mark.root

PORT = 31234
# Messages of 24 bytes behind a header of 8: questions are longer, and pass.
MESSAGE = f"udp dport {PORT} udp length 32"
# 49 senders: what a firewall drops by turns of ten meets each of them.
SENDERS = 49
LOAD = ("--rate", "10k", "--count", "5000", "--players", SENDERS, "--json", "-", "--quiet")


@contextmanager
def receiving(cli: Cli, net: Net, *arguments: str) -> Iterator[Running]:
    running = cli.start("serve", "record", *arguments, "--json", "totals.json", "--for", "100s", inside=net.right)
    wait_until(lambda: "Ctrl-C" in running.err.read_text(), message="serving")
    yield running
    running.interrupt()
    assert running.end().code == 0


def rules(net: Net, nft: str, cli: Cli, text: str) -> None:
    path = cli.folder / "rules.nft"
    path.write_text(text, encoding="ascii")
    net.run(net.right, nft, "-f", path)


def counted(net: Net, nft: str, inside: str | None = None) -> dict[str, int]:
    """The counters since they were last read, of the right namespace unless another is named."""
    listed = json.loads(net.run(inside or net.right, nft, "-j", "reset", "counters"))["nftables"]
    return {entry["counter"]["name"]: entry["counter"]["packets"] for entry in listed if "counter" in entry}


def where(address: str) -> str:
    return f"[{address}]:{PORT}" if ":" in address else f"{address}:{PORT}"


def check(run: Any) -> None:
    outcomes = run["outcomes"]
    assert outcomes["planned"] == outcomes["sent"] + outcomes["unsent"] == 5000, outcomes
    assert outcomes["sent"] == outcomes["received"] + outcomes["lost"] + outcomes["invalid"], outcomes
    assert run["verdict"] in ("ok", "generator-limited"), run["why"]


@pytest.mark.parametrize(("listen", "target"), [("0.0.0.0", "right_v4"), ("[::]", "right_v6")])
def test_what_arrives_is_what_the_kernel_counts(
    net: Net, peer: Callable[[str], str], cli: Cli, listen: str, target: str
) -> None:
    nft = peer("nft")
    books = f"chain in {{ type filter hook input priority 0; {MESSAGE} counter name came; }}"
    rules(net, nft, cli, f"table inet books {{ counter came {{ }}\n{books}\n}}\n")
    with receiving(cli, net, "--listen", f"{listen}:{PORT}", "--threads", "2", "--no-gro"):
        run = cli("load", "record", where(getattr(net, target)), *LOAD, inside=net.left).json
        came = counted(net, nft)["came"]
    check(run)
    assert came == run["outcomes"]["sent"]
    assert run["receiver"]["received"] == came - run["receiver"]["lost_in_kernel"]
    assert run["receiver"]["lost_elsewhere"] == 0


@pytest.mark.parametrize("target", ["right_v4", "right_v6"])
@pytest.mark.parametrize("gso", [(), ("--gso",)], ids=["plain", "gso"])
def test_what_a_firewall_drops_is_lost_elsewhere(
    net: Net, peer: Callable[[str], str], cli: Cli, target: str, gso: tuple[str, ...]
) -> None:
    nft, tell = peer("nft"), peer("ethtool") if gso else ""
    drop = f"{MESSAGE} numgen inc mod 10 0 counter name dropped drop;"
    wall = f"chain in {{ type filter hook input priority 0; {drop} }}"
    rules(net, nft, cli, f"table inet wall {{ counter dropped {{ }}\n{wall}\n}}\n")
    if gso:
        # Cut where they leave, as a real card would: veth hands whole ones over, and a firewall counts them as one.
        net.run(net.left, tell, "-K", "eth0", "tx-udp-segmentation", "off")
    with receiving(cli, net, "--listen", f"[::]:{PORT}", "--no-gro"):
        run = cli("load", "record", where(getattr(net, target)), *LOAD, *gso, inside=net.left).json
        dropped = counted(net, nft)["dropped"]
    check(run)
    assert dropped == pytest.approx(run["outcomes"]["sent"] / 10, abs=1)
    assert run["outcomes"]["lost"] == dropped + run["receiver"]["lost_in_kernel"]
    assert run["loss"] == pytest.approx(0.1, abs=0.01)
    # The last messages of a sender leave no gap behind them.
    assert dropped - SENDERS <= run["receiver"]["missing"] <= run["outcomes"]["lost"]


def test_what_the_way_doubles_is_told_and_makes_up_for_nothing(net: Net, peer: Callable[[str], str], cli: Cli) -> None:
    nft = peer("nft")
    path = cli.folder / "twice.nft"
    double = f"{MESSAGE} numgen inc mod 7 0 counter name doubled dup to {net.right_v4};"
    chain = f"chain out {{ type filter hook output priority 0; {double} }}"
    path.write_text(f"table ip twice {{ counter doubled {{ }}\n{chain}\n}}\n", encoding="ascii")
    command = ["ip", "netns", "exec", net.left, nft, "-f", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"this kernel doubles no packets (nft_dup_ipv4): {done.stderr.strip()}")
    wall = f"chain in {{ type filter hook input priority 0; {MESSAGE} numgen inc mod 10 0 counter name dropped drop; }}"
    rules(net, nft, cli, f"table inet wall {{ counter dropped {{ }}\n{wall}\n}}\n")
    with receiving(cli, net, "--listen", f"{net.right_v4}:{PORT}", "--no-gro"):
        run = cli("load", "record", where(net.right_v4), *LOAD, inside=net.left).json
        doubled = counted(net, nft, net.left)["doubled"]
        dropped = counted(net, nft)["dropped"]
    check(run)
    arrived = run["outcomes"]["sent"] + doubled - dropped - run["receiver"]["lost_in_kernel"]
    assert run["receiver"]["parsed"] == arrived
    assert run["outcomes"]["received"] == arrived - run["outcomes"]["duplicate"]
    # A copy is dropped as often as any other: what is lost is lost twice, or was not doubled.
    assert doubled * 0.7 < run["outcomes"]["duplicate"] < doubled
    assert not run["warnings"]


def test_several_hosts_have_one_account(net: Net, peer: Callable[[str], str], cli: Cli) -> None:
    nft = peer("nft")
    drop = f"{MESSAGE} numgen inc mod 20 0 counter name dropped drop;"
    wall = f"chain in {{ type filter hook input priority 0; {drop} }}"
    rules(net, nft, cli, f"table inet wall {{ counter dropped {{ }}\n{wall}\n}}\n")
    with receiving(cli, net, "--listen", f"{net.right_v4}:{PORT}", "--no-gro"):
        nodes = [
            cli.start("load", "record", where(net.right_v4), *LOAD, "--node", f"{n}/2", inside=net.left) for n in (1, 2)
        ]
        runs = [from_json(node.end().out) for node in nodes]
        dropped = counted(net, nft)["dropped"]
    assert all(isinstance(run, LoadResult) and run.loss is None and run.verdict != "target-lost" for run in runs)
    whole = merge([run for run in runs if isinstance(run, LoadResult)])
    assert whole.receiver is not None
    assert whole.outcomes.received is not None
    assert whole.outcomes.planned == 5000
    assert whole.outcomes.sent == whole.outcomes.received + whole.outcomes.lost
    assert whole.outcomes.lost == dropped + whole.receiver.lost_in_kernel
