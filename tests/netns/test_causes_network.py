"""Causes between generator and server, provoked in network namespaces under a small load: queues, devices, filters."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from provoking import PORT, count, first, loaded, named, serving
from provoking import with_own_addresses as own_addresses

from conftest import Cli, Net

pytestmark = pytest.mark.root
SHAPED = ("rate", "200kbit", "burst", "1600", "limit", "3000")
Peer = Callable[[str], str]


@pytest.fixture
def net(net: Net) -> Net:
    return own_addresses(net)


def serve_and_load(cli: Cli, net: Net, *more: str):
    with serving(cli, net.right, f"{net.right_v4}:{PORT}"):
        return loaded(cli, net, f"{net.right_v4}:{PORT}", *more)


# --- Queues ---


@pytest.mark.provokes("send queue")
def test_a_queue_that_shapes(net: Net, cli: Cli, peer: Peer) -> None:
    net.run(net.left, peer("tc"), "qdisc", "add", "dev", "eth0", "root", "tbf", *SHAPED)
    run = serve_and_load(cli, net)
    found = named(run, "send queue", at_least=count(run, "own_queue"))
    assert "This host's own queue of eth0 was full" in found.sentence
    assert any(text.startswith("queue of eth0 (tbf): ") and " drops" in text for text in found.evidence)
    # What sending saw is not counted again.
    assert count(run, "qdisc") <= 0.01 * count(run, "own_queue")


@pytest.mark.provokes("send queue")
def test_a_queue_that_drops_what_it_took(net: Net, cli: Cli, peer: Peer) -> None:
    shape_and_drop_heads(net, net.left, peer("tc"))
    run = serve_and_load(cli, net)
    found = named(run, "send queue", at_least=run.outcomes.lost)
    assert "eth0 (tbf): " in found.sentence
    assert "requests were dropped there after it had taken them" in found.sentence
    assert count(run, "own_queue") == 0
    assert count(run, "qdisc") == run.outcomes.lost > 0.5 * run.outcomes.sent


@pytest.mark.provokes("send queue")
def test_a_queue_that_holds_packets_longer_than_they_are_awaited(net: Net, cli: Cli, peer: Peer) -> None:
    qdisc(net, net.left, peer("tc"), "root", "tbf", "rate", "8kbit", "burst", "1600", "limit", "10000000")
    run = serve_and_load(cli, net)
    found = named(run, "send queue", at_least=run.outcomes.lost)
    assert run.ledger is not None
    assert f"queue of eth0: {run.ledger.surroundings.queued['eth0']:,} packets waiting at the end" in found.evidence
    assert count(run, "qdisc") == run.outcomes.lost > 0.9 * run.outcomes.sent


def qdisc(net: Net, inside: str, tc: str, *what: object) -> None:
    """Gives eth0 a queue; skips the test where this kernel has none of its kind."""
    try:
        net.run(inside, tc, "qdisc", "add", "dev", "eth0", *what)
    except AssertionError as error:
        if "kind is unknown" in str(error):
            pytest.skip(f"this kernel has no such queue: {what}")
        raise


def shape_and_drop_heads(net: Net, inside: str, tc: str) -> None:
    """A shaper whose queue drops its oldest packet for a new one, so that who sends never sees a drop."""
    qdisc(net, inside, tc, "root", "handle", "1:", "tbf", *SHAPED)
    qdisc(net, inside, tc, "parent", "1:1", "pfifo_head_drop", "limit", "5")


@pytest.mark.provokes("answers' queue")
def test_answers_that_their_host_drops(net: Net, cli: Cli, peer: Peer) -> None:
    net.run(net.right, peer("tc"), "qdisc", "add", "dev", "eth0", "root", "tbf", *SHAPED)
    run = serve_and_load(cli, net)
    found = named(run, "answers' queue", at_least=int(0.9 * run.outcomes.lost))
    assert "the queue of eth0 (tbf) in the target's network namespace was full, or shapes" in found.sentence
    # Udp SndbufErrors has the queue's drops too.
    assert count(run, "answer_send_buffer") <= 0.01 * count(run, "answer_qdisc")


@pytest.mark.provokes("answers' queue")
def test_answers_that_a_queue_drops_after_it_took_them(net: Net, cli: Cli, peer: Peer) -> None:
    shape_and_drop_heads(net, net.right, peer("tc"))
    run = serve_and_load(cli, net)
    named(run, "answers' queue", at_least=run.outcomes.lost)
    assert count(run, "answer_send_buffer") == 0
    assert count(run, "answer_qdisc") == run.outcomes.lost > 0


# --- Devices and neighbours ---


@pytest.mark.provokes("neighbour")
@pytest.mark.parametrize("version", [4, 6])
def test_a_neighbour_that_is_not_there(net: Net, cli: Cli, version: int) -> None:
    nobody = (net.left_v4[:-1] if version == 4 else net.left_v6[:-1]) + "200"
    run = loaded(cli, net, f"{nobody}:{PORT}" if version == 4 else f"[{nobody}]:{PORT}")
    found = named(run, "neighbour", at_least=run.outcomes.lost)
    asked = "ARP" if version == 4 else "neighbour discovery"
    assert f"The next hop {nobody} does not answer {asked} on eth0" in found.sentence


@pytest.mark.provokes("wrong hardware address")
def test_a_neighbour_with_the_address_of_another(net: Net, cli: Cli) -> None:
    net.run(net.left, "ip", "neighbour", "add", net.right_v4, "lladdr", "02:00:00:00:00:01", "dev", "eth0")
    run = serve_and_load(cli, net)
    named(run, "wrong hardware address", at_least=run.outcomes.lost)
    assert run.outcomes.lost == run.outcomes.sent > 0


@pytest.mark.provokes("device")
def test_a_device_whose_other_end_is_down(net: Net, cli: Cli) -> None:
    net.run(net.left, "ip", "neighbour", "add", net.right_v4, "lladdr", "02:00:00:00:00:01", "dev", "eth0")
    net.run(net.right, "ip", "link", "set", "eth0", "down")
    run = loaded(cli, net, f"{net.right_v4}:{PORT}")
    assert first(run).name == "device", run.findings
    assert first(run).sentence == "The device eth0 towards the target is down, or has no carrier."


# --- Filters and routes ---


@pytest.mark.provokes("firewall")
def test_a_packet_filter(net: Net, cli: Cli, peer: Peer) -> None:
    rules = cli.folder / "drop.nft"
    drop = f'udp dport {PORT} numgen inc mod 10 0 counter drop comment "one in ten";'
    rules.write_text(f"table inet wall {{ chain in {{ type filter hook input priority 0; {drop} }}\n}}\n")
    net.run(net.right, peer("nft"), "-f", rules)
    run = serve_and_load(cli, net)
    found = named(run, "firewall", at_least=run.outcomes.lost)
    assert count(run, "firewall") == pytest.approx(run.outcomes.sent / 10, rel=0.02)
    rule = 'inet wall in handle 2 "one in ten" of the target'
    assert f"The rule that dropped most is {rule}" in found.sentence
    assert f"nft counter of {rule}: {run.outcomes.lost:,} packets" in found.evidence


@pytest.mark.provokes("dropped by the kernel")
def test_a_filter_of_traffic_control(net: Net, cli: Cli, peer: Peer) -> None:
    tc = peer("tc")
    net.run(net.right, tc, "qdisc", "add", "dev", "eth0", "clsact")
    # Classic BPF: drop (2) what is IPv4, let the rest pass.
    program = "4,40 0 0 12,21 0 1 2048,6 0 0 2,6 0 0 4294967295"
    net.run(net.right, tc, "filter", "add", "dev", "eth0", "ingress", "bpf", "da", "bytecode", program)
    run = serve_and_load(cli, net)
    found = named(run, "dropped by the kernel", at_least=run.outcomes.lost)
    assert "TC_INGRESS (a filter or program of tc at a device's input)" in found.sentence


@pytest.mark.provokes("reverse path filter")
def test_sources_that_the_reverse_path_filter_drops(net: Net, cli: Cli) -> None:
    foreign_source(net)
    net.run(net.right, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1", "net.ipv4.conf.eth0.rp_filter=1")
    run = serve_and_load(cli, net)
    named(run, "reverse path filter", at_least=run.outcomes.lost)
    assert run.outcomes.lost == run.outcomes.sent > 0


@pytest.mark.provokes("no route back")
def test_sources_without_a_route_back(net: Net, cli: Cli) -> None:
    foreign_source(net)
    run = serve_and_load(cli, net)
    named(run, "no route back", at_least=run.outcomes.lost)
    assert run.outcomes.lost == run.outcomes.sent > 0


def foreign_source(net: Net) -> None:
    """The left namespace sends from an address that the right one has no route to."""
    net.run(net.left, "ip", "address", "add", "10.77.0.1/32", "dev", "eth0")
    net.run(net.left, "ip", "route", "change", net.left_v4[:-1] + "0/24", "dev", "eth0", "src", "10.77.0.1")
    # A host without a route does not answer ARP either.
    at = net.run(net.right, "cat", "/sys/class/net/eth0/address").strip()
    net.run(net.left, "ip", "neighbour", "add", net.right_v4, "lladdr", at, "dev", "eth0")


@pytest.mark.provokes("wrong checksum")
def test_datagrams_that_are_changed_on_the_way(net: Net, cli: Cli, peer: Peer) -> None:
    net.run(net.left, peer("ethtool"), "-K", "eth0", "tx", "off")
    rules = cli.folder / "change.nft"
    change = f"udp dport {PORT} numgen inc mod 10 0 udp checksum set 0x1234"
    rules.write_text(
        f"table netdev change {{ chain in {{ type filter hook ingress device eth0 priority 0; {change}; }}\n}}\n"
    )
    net.run(net.right, peer("nft"), "-f", rules)
    run = serve_and_load(cli, net)
    named(run, "wrong checksum", at_least=run.outcomes.lost)
    assert run.outcomes.lost == pytest.approx(run.outcomes.sent / 10, rel=0.02)


@pytest.mark.provokes("refused")
def test_a_filter_that_rejects(net: Net, cli: Cli, peer: Peer) -> None:
    net.run(net.right, "sysctl", "-qw", "net.ipv4.icmp_ratelimit=0", "net.ipv4.icmp_msgs_per_sec=100000")
    rules = cli.folder / "reject.nft"
    reject = f"udp dport {PORT} counter reject;"
    rules.write_text(f"table inet wall {{ chain in {{ type filter hook input priority 0; {reject} }}\n}}\n")
    net.run(net.right, peer("nft"), "-f", rules)
    run = serve_and_load(cli, net)
    assert first(run).name == "refused", run.findings
    assert first(run).explains == run.outcomes.refused >= 0.99 * run.outcomes.sent > 0


@pytest.mark.provokes("send errors")
def test_a_filter_of_this_host_that_drops_what_it_sends(net: Net, cli: Cli, peer: Peer) -> None:
    rules = cli.folder / "output.nft"
    drop = f"udp dport {PORT} numgen inc mod 10 0 counter drop;"
    rules.write_text(f"table inet wall {{ chain out {{ type filter hook output priority 0; {drop} }}\n}}\n")
    net.run(net.left, peer("nft"), "-f", rules)
    run = serve_and_load(cli, net)
    named(run, "send errors", at_least=int(0.08 * run.outcomes.planned))
