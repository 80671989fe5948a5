"""Runs in which nothing is wrong have no findings: datagrams, connections, each protocol, few flows and many."""

from __future__ import annotations

import os

import pytest
from provoking import BUSY, PORT, loaded, over_tcp, serving, undisturbed, unexplained
from provoking import with_own_addresses as own_addresses

import flatout
from conftest import Cli, Net, until_good

pytestmark = pytest.mark.root
ROUNDS = [
    pytest.param("echo", (), False, id="echo"),
    pytest.param("echo", ("--flows", "1"), False, id="echo, one flow"),
    pytest.param("echo", ("--flows", "1000"), False, id="echo, many flows"),
    pytest.param("echo", ("--size", "1000"), False, id="echo, long messages"),
    pytest.param("echo", ("--arrivals", "poisson"), False, id="echo, random arrivals"),
    pytest.param("ntp", (), False, id="ntp"),
    pytest.param("dns", (), False, id="dns"),
    pytest.param("echo over tcp", ("--connections", "1"), False, id="one connection"),
    pytest.param("echo over tcp", ("--connections", "200"), False, id="many connections"),
    pytest.param("echo", (), True, id="one shared CPU"),
    pytest.param("echo over tcp", ("--connections", "10"), True, id="connections on one shared CPU"),
]


@pytest.fixture
def net(net: Net) -> Net:
    return own_addresses(net)


def healthy(net: Net, cli: Cli, what: str, options: tuple[str, ...], *, shared: bool) -> flatout.LoadResult:
    protocol, target = what.split(maxsplit=1)[0], f"{net.right_v4}:{PORT}"
    cpu = str(min(os.sched_getaffinity(0)))
    with serving(cli, net.right, target, *(("--cpus", cpu) if shared else ()), protocol=protocol):
        more = (*options, *(("--cpus", cpu) if shared else ()))
        load = over_tcp if what.endswith("tcp") else loaded
        keywords = {} if what.endswith("tcp") else {"protocol": protocol}
        return until_good(lambda: load(cli, net, target, *more, **keywords), undisturbed, seconds=15)


def test_a_healthy_run_has_no_findings(net: Net, cli: Cli) -> None:
    run = healthy(net, cli, "echo", (), shared=False)
    # On a machine that held the generator up that is what is found, and nothing else.
    assert {finding.name for finding in run.findings} <= (set() if undisturbed(run) else BUSY)


@pytest.mark.slow
@pytest.mark.parametrize(("what", "options", "shared"), ROUNDS)
def test_no_healthy_run_has_findings(net: Net, cli: Cli, what: str, options: tuple[str, ...], shared: bool) -> None:
    run = healthy(net, cli, what, options, shared=shared)
    assert {finding.name for finding in run.findings} <= (set() if undisturbed(run) else BUSY), run.ledger
    assert undisturbed(run) or unexplained(run) <= 1
