"""One load from three hosts without a cluster: three namespaces ask a fourth, and `merge` adds up exactly."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import accounts
import flatout
from conftest import Cli, may_have_namespaces, wait_until
from flatout.result import files as stored
from flatout.result.merge import merge

pytestmark = pytest.mark.root

PORT = 1053
NODES = (1, 2, 3)
_stems = itertools.count()


class Site(NamedTuple):
    """A server's namespace and three clients', all on one bridge."""

    server: str
    clients: tuple[str, ...]
    address: str = "10.98.0.1"

    def source(self, node: int, number: int = 0) -> str:
        """An address of a client: each has four."""
        return f"10.98.{node}.{10 + number}"


def ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


@pytest.fixture
def site(root: None, peer: Callable[[str], str]) -> Iterator[Site]:  # noqa: ARG001
    """Namespaces that are gone after the test. The bridge is in a namespace too: nothing of this host is touched."""
    peer("ip")
    stem = f"flatout-n{os.getpid()}-{next(_stems)}"
    names = (f"{stem}-bridge", f"{stem}-server", *(f"{stem}-{node}" for node in NODES))
    made = []
    try:
        for name in names:
            done = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
            may_have_namespaces(done)
            made.append(name)
            ip("-n", name, "link", "set", "lo", "up")
        bridge, server, *clients = names
        built = Site(server, tuple(clients))
        ip("-n", bridge, "link", "add", "br0", "type", "bridge")
        ip("-n", bridge, "link", "set", "br0", "up")
        _plug(bridge, server, "port0", [built.address])
        for node, client in zip(NODES, clients, strict=True):
            _plug(bridge, client, f"port{node}", [built.source(node, number) for number in range(4)])
        yield built
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def _plug(bridge: str, name: str, port: str, addresses: list[str]) -> None:
    """Joins a namespace to the bridge."""
    ip("link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", port, "netns", bridge)
    ip("-n", bridge, "link", "set", port, "master", "br0", "up")
    ip("-n", name, "link", "set", "eth0", "up")
    for address in addresses:
        ip("-n", name, "address", "add", f"{address}/16", "dev", "eth0")


@contextlib.contextmanager
def serving(cli: Cli, site: Site) -> Iterator[None]:
    listen = f"{site.address}:{PORT}"
    running = cli.start(
        "serve", "dns", "--listen", listen, "--for", "100s", "--json", "served.json", inside=site.server
    )
    wait_until(lambda: "Ctrl-C" in running.err.read_text(), message="serving")
    yield
    running.interrupt()
    assert running.end().code == 0


def everywhere(cli: Cli, site: Site, *flags: str, nodes: tuple[int, ...] = NODES) -> list[Path]:
    """The same load in each client's namespace, begun at one moment; returns their results' files."""
    start = f"{time.time() + 4:.3f}"
    common = ("--rate", "900", "--for", "1s", "--warmup", "200ms", "--timeout", "500ms", "--seed", "7", "--quiet")
    running = []
    for node in nodes:
        # What it writes are files of its own.
        own = ("--node", f"{node}/3", "--json", f"node{node}.json", "--log", f"node{node}.csv")
        target = f"{site.address}:{PORT}"
        command = ("load", "dns", target, *common, "--start-at", start, *own, *flags)
        running.append(cli.start(*command, inside=site.clients[node - 1]))
    for process in running:
        done = process.end()
        assert done.code in {0, 4}, done.err
    return [cli.folder / f"node{node}.json" for node in nodes]


def results(files: list[Path]) -> list[flatout.LoadResult]:
    found = [stored.read(file) for file in files]
    return [run for run in found if isinstance(run, flatout.LoadResult)]


def assert_sums(merged: flatout.LoadResult, runs: list[flatout.LoadResult]) -> None:
    """Each number of the whole is the sum of its parts."""
    accounts.check(merged)
    assert merged.outcomes.received is None, "these are answered"
    for name in set(merged.outcomes.__struct_fields__) - {"received"}:
        assert getattr(merged.outcomes, name) == sum(getattr(run.outcomes, name) for run in runs), name
    assert merged.tallies == dict(sum((Counter(run.tallies) for run in runs), Counter()) | Counter()) | {
        word: 0 for word, number in merged.tallies.items() if not number
    }
    for which in ("from_due", "from_sent"):
        whole, parts = getattr(merged.latency_ns, which), [getattr(run.latency_ns, which) for run in runs]
        assert whole.count == sum(part.count for part in parts)
        assert whole.max == max(part.max for part in parts)
        assert whole.min == min(part.min for part in parts)
    assert merged.latency_ns.from_sent is not None
    assert merged.latency_ns.from_sent.count == merged.outcomes.answered
    if merged.connections is not None:
        for name in ("opened", "established", "live", "closed", "reset", "failed", "peak"):
            parts = [getattr(run.connections, name) for run in runs]
            assert getattr(merged.connections, name) == sum(parts), name


def dues(cli: Cli, node: int) -> list[int]:
    """When a node's requests were due, ns since the counted beginning."""
    lines = (cli.folder / f"node{node}.csv").read_text(encoding="ascii").splitlines()[1:]
    return [int(line.split(",")[0]) for line in lines]


@pytest.mark.parametrize("transport", ["tcp", pytest.param("udp", marks=pytest.mark.slow)])
def test_three_nodes_make_one_load(site: Site, cli: Cli, transport: str) -> None:
    flags = ("--transport", transport, "--connections", "10", *(("--connect-rate", "300") * (transport == "tcp")))
    with serving(cli, site):
        files = everywhere(cli, site, *flags)
    runs = results(files)
    for run in runs:
        accounts.check(run)
        assert run.outcomes.planned == 300, "a third of the rate"
    done = cli("merge", *files, "--json", "-", "--quiet")
    assert done.code in {0, 4}, done.err
    merged = stored.from_json(done.out)
    assert isinstance(merged, flatout.LoadResult)
    assert_sums(merged, runs)
    assert merged.outcomes.planned == 900
    assert [node.node for node in merged.nodes] == [1, 2, 3]
    assert not any("missing" in text for text in merged.warnings)
    if transport == "tcp":
        assert [run.connections.opened for run in runs if run.connections] == [4, 3, 3], "ten shared out"
    served = json.loads((cli.folder / "served.json").read_text().splitlines()[-1])
    assert served["received"] >= merged.outcomes.sent, "the warm-up's came too"
    # All of them began at one moment of the calendar.
    assert len({run.started_at[:21] for run in runs}) <= 2, [run.started_at for run in runs]
    whole_schedule(cli, runs)


def whole_schedule(cli: Cli, runs: list[flatout.LoadResult]) -> None:
    """Constant arrivals of 900/s: node i's are due every 1/300 s, and all of them every 1/900 s."""
    for node, run in zip(NODES, runs, strict=True):
        times = dues(cli, node)
        assert len(times) == len(set(times)) == run.outcomes.sent + run.outcomes.unsent
        for due in times:
            # Which request of the whole schedule it is.
            number = due * 900 / 1e9
            assert number == pytest.approx(round(number), abs=1e-3)
            assert round(number) % 3 == node - 1
    everyone = sorted(due for node in NODES for due in dues(cli, node))
    gaps = [after - before for before, after in itertools.pairwise(everyone)]
    assert len(everyone) == 900
    assert max(gaps) - min(gaps) < 10, "no gap and nothing twice"


def test_a_missing_node_is_named(site: Site, cli: Cli) -> None:
    with serving(cli, site):
        files = everywhere(cli, site, "--transport", "tcp", "--connections", "6", nodes=(1, 3))
    done = cli("merge", *files, "--json", "-", "--quiet")
    # On a machine that is too busy for this load that comes first.
    assert done.code == (1 if done.json["verdict"] == "ok" else 4)
    assert "node 2 of 3 is missing" in " ".join(done.err.split()), done.err
    merged = stored.from_json(done.out)
    assert isinstance(merged, flatout.LoadResult)
    assert "node 2 of 3 is missing" in merged.warnings
    assert_sums(merged, results(files))
    assert [node.node for node in merged.nodes] == [1, 3]
    twice = cli("merge", files[0], files[0])
    assert (twice.code, twice.out) == (1, "")
    assert "node 1 of 3 is there 2 times" in " ".join(twice.err.split())


# Which addresses have asked, as the server's namespace sees them.
WHO = f"""table inet who {{
    set seen {{ type ipv4_addr; size 1024; flags dynamic; }}
    chain in {{ type filter hook input priority 0; tcp dport {PORT} add @seen {{ ip saddr }}; }}
}}
"""


def test_sources_and_chance_are_shared_out(site: Site, cli: Cli, peer: Callable[[str], str]) -> None:
    """Of one list of sources each node takes its stretch; of random arrivals each draws its own."""
    nft, rules = peer("nft"), cli.folder / "who.nft"
    rules.write_text(WHO, encoding="ascii")
    ip("netns", "exec", site.server, nft, "-f", str(rules))
    sources = [site.source(node, number) for node in NODES for number in range(4)]
    flags = ("--arrivals", "poisson", "--transport", "tcp", "--connections", "24", "--connect-rate", "300")
    with serving(cli, site):
        files = everywhere(cli, site, *flags, "--sources", *sources)
    listing = ["ip", "netns", "exec", site.server, nft, "-j", "list", "set", "inet", "who", "seen"]
    listed = json.loads(subprocess.run(listing, capture_output=True, text=True, check=True).stdout)["nftables"]
    elements = next(entry["set"]["elem"] for entry in listed if "set" in entry)
    assert sorted(map(str, elements)) == sorted(sources), "each of them, from the host that has it"
    runs = results(files)
    merged = merge(runs)
    assert_sums(merged, runs)
    assert merged.connections is not None
    assert merged.connections.established == 24
    assert sorted(merged.scenario.sources) == sorted(sources)
    drawn = [dues(cli, node)[:20] for node in NODES]
    assert 700 < merged.outcomes.planned < 1100
    assert drawn[0] != drawn[1] != drawn[2] != drawn[0], "not the same chance thrice"
