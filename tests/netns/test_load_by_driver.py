"""Loads by the driver of a veth, past the kernel's sockets: what is asked, answered, refused, and left behind."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest
from provoking import LOAD, PORT, check, count, first, loaded, serving
from provoking import with_own_addresses as own_addresses

import flatout
from conftest import Cli, Net, wait_until
from flatout.host.drops import DropReader
from flatout.result import files

pytestmark = pytest.mark.root
Peer = Callable[[str], str]
BY_DRIVER = ("--link", "xdp")
# By name, for `setpriv --bounding-set`; CAP_SYS_ADMIN has CAP_BPF in it.
WITHOUT_BPF = ("setpriv", "--bounding-set=-bpf,-sys_admin", "--inh-caps=-bpf,-sys_admin")


@pytest.fixture(scope="module", autouse=True)
def _bpf_is_permitted() -> None:
    reader = DropReader([(ip_address("192.0.2.1"), PORT)], stream=False)
    blind = reader.blind
    reader.stop()
    if blind:
        pytest.skip(blind)


@pytest.fixture
def net(net: Net, peer: Peer) -> Net:
    """The other end takes frames of a driver."""
    net.run(net.right, peer("ethtool"), "-K", "eth0", "gro", "on")
    return own_addresses(net)


def by_driver(
    cli: Cli, net: Net, target: str, *more: str, protocol: str = "echo", **options: Any
) -> flatout.LoadResult:
    run = loaded(cli, net, target, *BY_DRIVER, *more, protocol=protocol, **options)
    assert run.link is not None
    assert attached(net) == ""
    return run


def attached(net: Net) -> str:
    """The XDP program on the asking end, as `ip` shows it; empty: none."""
    found = re.search(r"xdp\w*", net.run(net.left, "ip", "link", "show", "eth0"))
    return found[0] if found else ""


def all_answered(run: flatout.LoadResult) -> None:
    """On a busy machine many are not sent; what is sent is answered."""
    outcomes = run.outcomes
    assert outcomes.answered + outcomes.late == outcomes.sent > 50, (outcomes, run.ledger)
    assert run.latency_ns.from_sent is not None
    assert 1_000 < run.latency_ns.from_sent.p50 < 1e9


@pytest.mark.parametrize(("family", "protocol"), [("v4", "ntp"), ("v6", "dns")])
def test_each_request_is_answered_by_a_server_with_sockets(net: Net, cli: Cli, family: str, protocol: str) -> None:
    target = f"{net.right_v4}:{PORT}" if family == "v4" else f"[{net.right_v6}]:{PORT}"
    with serving(cli, net.right, target, protocol=protocol):
        run = by_driver(cli, net, target, protocol=protocol)
    all_answered(run)
    assert run.link is not None
    assert (run.link.interface, run.link.kind, run.link.mode, run.link.transmit) == ("eth0", "veth", "native", "live")
    assert run.link.carrier == "live frames, AF_XDP (copy)"
    assert any(note.startswith("--link xdp: eth0 (veth): native") for note in run.notes)
    # The kernel sent none of them, and received no answer.
    assert run.ledger is not None
    assert {name for name in run.ledger.counters if name.startswith(("Udp.Out", "Udp6Out"))} == set()


def test_without_gro_at_the_other_end_an_af_xdp_socket_sends(net: Net, cli: Cli, peer: Peer) -> None:
    net.run(net.right, peer("ethtool"), "-K", "eth0", "gro", "off")
    with serving(cli, net.right, f"{net.right_v4}:{PORT}"):
        run = by_driver(cli, net, f"{net.right_v4}:{PORT}")
    all_answered(run)
    assert run.link is not None
    assert (run.link.transmit, run.link.carrier) == ("af_xdp", "AF_XDP (copy)")
    assert any("ethtool -K DEVICE gro on" in note for note in run.notes)


def test_sources_that_this_host_does_not_have(net: Net, cli: Cli) -> None:
    net.run(net.right, "ip", "route", "add", "10.95.0.0/28", "via", net.left_v4)
    with serving(cli, net.right, f"{net.right_v4}:{PORT}"):
        run = by_driver(cli, net, f"{net.right_v4}:{PORT}", "--sources", "10.95.0.0/28", "--flows", "28")
    all_answered(run)
    assert run.link is not None
    assert run.link.ports[1] - run.link.ports[0] + 1 == 2, "each address has two"


def test_one_way_messages_arrive(net: Net, cli: Cli) -> None:
    with serving(cli, net.right, f"{net.right_v4}:{PORT}", protocol="record"):
        options = ("--rate", "2k", "--for", "700ms", "--quiet", "--json", "-", *BY_DRIVER)
        done = cli("load", "record", f"{net.right_v4}:{PORT}", *options, inside=net.left)
    run = files.from_json(done.out)
    assert isinstance(run, flatout.LoadResult)
    check(run)
    assert run.link is not None
    assert run.outcomes.sent - run.outcomes.lost == run.outcomes.received > 0


@pytest.mark.slow
def test_a_search_by_the_driver(net: Net, cli: Cli) -> None:
    options = ("--min", "500", "--max", "1k", "--budget", "5s", "--quiet", "--json", "-", *BY_DRIVER)
    with serving(cli, net.right, f"{net.right_v4}:{PORT}", protocol="ntp"):
        done = cli("limit", "ntp", f"{net.right_v4}:{PORT}", *options, inside=net.left)
    assert done.out, done.err
    found = files.from_json(done.out)
    assert isinstance(found, flatout.LimitResult)
    assert {trial.link.transmit for trial in found.trials if trial.link} == {"live"}
    assert attached(net) == ""


# --- What goes wrong ---


def test_a_wrong_hardware_address_is_named(net: Net, cli: Cli) -> None:
    with serving(cli, net.right, f"{net.right_v4}:{PORT}"):
        run = by_driver(cli, net, f"{net.right_v4}:{PORT}", "--gateway-mac", "02:00:00:00:00:99")
    assert run.outcomes.answered == 0
    assert first(run).name == "wrong hardware address"
    assert count(run, "other_host") == run.outcomes.lost


def test_a_closed_port_is_known_by_what_the_kernel_was_told(net: Net, cli: Cli) -> None:
    run = by_driver(cli, net, f"{net.right_v4}:{PORT}")
    assert (run.outcomes.answered, run.outcomes.refused) == (0, 0)
    assert first(run).name == "port closed"


def test_a_filter_of_this_host_is_passed_by(net: Net, cli: Cli, peer: Peer) -> None:
    net.run(
        net.left,
        peer("tc"),
        "qdisc",
        "add",
        "dev",
        "eth0",
        "root",
        "tbf",
        "rate",
        "8kbit",
        "burst",
        "1600",
        "limit",
        "3000",
    )
    with serving(cli, net.right, f"{net.right_v4}:{PORT}"):
        run = by_driver(cli, net, f"{net.right_v4}:{PORT}")
    all_answered(run)
    assert count(run, "qdisc") == 0


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (("--interface", "lo"), 2, "lo is the loopback interface"),
        (("--threads", "2"), 2, "leave --threads out"),
        (("--interface", "eth9"), 2, "there is no such interface"),
    ],
)
def test_what_is_refused(net: Net, cli: Cli, more: tuple[str, ...], code: int, said: str) -> None:
    done = cli("load", "ntp", f"{net.right_v4}:{PORT}", *LOAD, *BY_DRIVER, *more, inside=net.left)
    assert (done.code, done.out) == (code, "")
    assert said in done.err


def test_a_next_hop_that_is_not_there(net: Net, cli: Cli) -> None:
    gone = net.right_v4.rpartition(".")[0] + ".77"
    done = cli("load", "ntp", f"{gone}:{PORT}", *LOAD, *BY_DRIVER, inside=net.left)
    assert done.code == 3
    assert f"{gone} does not tell its hardware address on eth0 (by ARP)" in done.err


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_behind_however_it_ends(net: Net, cli: Cli, end: signal.Signals) -> None:
    with serving(cli, net.right, f"{net.right_v4}:{PORT}"):
        flags = ("--transport", "udp", "--rate", "200", "--for", "60s", *BY_DRIVER, "--quiet")
        running = cli.start("load", "echo", f"{net.right_v4}:{PORT}", *flags, inside=net.left)
        wait_until(lambda: attached(net) or running.process.poll() is not None, message="attached")
        assert attached(net) == "xdp", running.err.read_text()
        running.process.send_signal(end)
        assert running.end().code == (130 if end == signal.SIGINT else -signal.SIGKILL)
        wait_until(lambda: attached(net) == "", message="detached")


def test_a_program_of_another_is_left_alone(net: Net, cli: Cli) -> None:
    with serving(cli, net.left, "*:1999", "--xdp", "generic", "--interface", "eth0", protocol="ntp"):
        done = cli("load", "ntp", f"{net.right_v4}:{PORT}", *LOAD, *BY_DRIVER, inside=net.left)
        assert attached(net) == "xdpgeneric"
    assert done.code == 2
    assert "eth0 has an XDP program already (number " in done.err


def test_without_rights_the_reason_is_one_line(net: Net, cli: Cli) -> None:
    command = ("load", "ntp", f"{net.right_v4}:{PORT}", *LOAD, *BY_DRIVER, "--gateway-mac", "02:00:00:00:00:01")
    done = cli.start(*command, inside=net.left, through=WITHOUT_BPF).end()
    assert done.code == 2, done.err
    assert done.err.count("\n") == 1
    assert "--link xdp on eth0: not permitted to run XDP programs: needs root, or CAP_BPF" in done.err


def test_a_ledger_that_closes(net: Net, cli: Cli) -> None:
    with serving(cli, net.right, f"{net.right_v4}:{PORT}"):
        check(by_driver(cli, net, f"{net.right_v4}:{PORT}", rate="20k"))
