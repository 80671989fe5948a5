"""Causes at the server, provoked in network namespaces under a small load: each named first, with its number."""

from __future__ import annotations

import os
import signal

import pytest
from provoking import PORT, SLOW, WORKERS, control_group, count, first, loaded, named, quiet_enough, running, serving
from provoking import with_own_addresses as own_addresses

from conftest import Cli, Net

pytestmark = pytest.mark.root


@pytest.fixture
def net(net: Net) -> Net:
    return own_addresses(net)


@pytest.mark.provokes("receive buffer")
@pytest.mark.parametrize("place", ["the same namespace", "another namespace"])
def test_a_receive_buffer_that_is_not_read(net: Net, cli: Cli, place: str) -> None:
    where, address = (net.left, net.left_v4) if place == "the same namespace" else (net.right, net.right_v4)
    with running(where, SLOW, address, PORT, 4096, 60, 0) as server:
        run = loaded(cli, net, f"{address}:{PORT}")
    found = named(run, "receive buffer", at_least=int(0.95 * run.outcomes.lost))
    assert f"(process {server.pid}), {address}:{PORT} was full" in found.sentence
    assert found.explains == count(run, "receive_buffer")


@pytest.mark.provokes("application")
def test_a_stopped_server_with_a_large_buffer(net: Net, cli: Cli) -> None:
    with serving(cli, net.right, f"{net.right_v4}:{PORT}") as pid:
        os.kill(pid, signal.SIGSTOP)
        try:
            run = loaded(cli, net, f"{net.right_v4}:{PORT}")
        finally:
            os.kill(pid, signal.SIGCONT)
    found = named(run, "application", at_least=run.outcomes.lost)
    assert f"still lay unread in its receive buffer at the end; its process {pid} is stopped" in found.sentence
    assert count(run, "unread") == run.outcomes.lost


@pytest.mark.provokes("application")
def test_a_server_that_does_not_answer(net: Net, cli: Cli) -> None:
    with running(net.right, SLOW, net.right_v4, PORT, 1 << 20, 0, 0):
        run = loaded(cli, net, f"{net.right_v4}:{PORT}")
    found = named(run, "application", at_least=int(0.999 * run.outcomes.lost))
    assert "were read and not answered" in found.sentence


@pytest.mark.provokes("port closed")
def test_a_port_that_nobody_is_bound_to(net: Net, cli: Cli) -> None:
    with running(net.right, SLOW, net.right_v4, PORT + 1, 4096, 0, 1):
        net.run(net.right, "sysctl", "-qw", "net.ipv4.icmp_ratelimit=0", "net.ipv4.icmp_msgs_per_sec=100000")
        run = loaded(cli, net, f"{net.right_v4}:{PORT}")
    assert first(run).name == "port closed", run.findings
    # A socket may lose one of two refusals that come at once.
    assert first(run).explains == run.outcomes.refused >= 0.99 * run.outcomes.sent > 0


@pytest.mark.provokes("single thread")
def test_a_server_of_one_thread_that_works_all_the_time(net: Net, cli: Cli) -> None:
    with running(net.right, SLOW, net.right_v4, PORT, 65536, -0.002, 1):
        run = quiet_enough(lambda: loaded(cli, net, f"{net.right_v4}:{PORT}"), "single thread")
    assert "does its work in one thread" in named(run, "single thread", at_least=count(run, "receive_buffer")).sentence


@pytest.mark.provokes("slow application")
def test_a_server_that_sleeps_between_requests(net: Net, cli: Cli) -> None:
    with running(net.right, SLOW, net.right_v4, PORT, 8192, 0.004, 1):
        run = quiet_enough(lambda: loaded(cli, net, f"{net.right_v4}:{PORT}"), "slow application")
    found = named(run, "slow application", at_least=count(run, "receive_buffer"))
    assert "it waits for something between requests" in found.sentence


@pytest.mark.provokes("uneven workers")
def test_one_of_four_workers_that_gets_every_flow(net: Net, cli: Cli) -> None:
    with running(net.right, WORKERS, net.right_v4, PORT, 4):
        run = loaded(cli, net, f"{net.right_v4}:{PORT}", "--flows", "1")
    found = named(run, "uneven workers", at_least=count(run, "receive_buffer"))
    assert "One of the 4 sockets of python" in found.sentence
    assert "had 100% of the drops" in found.sentence


@pytest.mark.provokes("CPU quota")
def test_a_server_with_a_cpu_quota(net: Net, cli: Cli) -> None:
    with control_group(quota_us=10_000) as group:
        if group is None:
            pytest.skip("control groups cannot be made here")

        def join() -> None:
            (group / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")

        with running(net.right, SLOW, net.right_v4, PORT, 8192, -0.001, 1, before=join):
            run = quiet_enough(lambda: loaded(cli, net, f"{net.right_v4}:{PORT}", with_cgroups=True), "CPU quota")
        found = named(run, "CPU quota", at_least=count(run, "receive_buffer"))
    assert "from python (process" in found.sentence


@pytest.mark.provokes("shared CPU")
def test_generator_and_server_on_one_cpu(net: Net, cli: Cli) -> None:
    cpu = min(os.sched_getaffinity(0))

    def pin() -> None:
        os.sched_setaffinity(0, {cpu})
        # The generator comes first, and the server waits.
        os.nice(19)

    # Nine tenths of the CPU's time is the server's: it always waits, whether or not something is lost by that.
    with running(net.right, SLOW, net.right_v4, PORT, 4096, -0.00045, 1, before=pin):
        run = quiet_enough(lambda: loaded(cli, net, f"{net.right_v4}:{PORT}", "--cpus", str(cpu)), "shared CPU")
    found = named(run, "shared CPU")
    assert f"CPU {cpu} is shared with this generator" in found.sentence


def test_the_first_is_what_is_provoked_and_no_more(net: Net, cli: Cli) -> None:
    """A slow server in a namespace without filters: no cause of the network is made up."""
    with running(net.right, SLOW, net.right_v4, PORT, 4096, 60, 0):
        run = loaded(cli, net, f"{net.right_v4}:{PORT}")
    network = {"firewall", "device", "send queue", "answers' queue", "softnet backlog", "no route back"}
    assert first(run).name == "receive buffer"
    assert not network & {each.name for each in run.findings}
