"""Ping-pong over a device that has a receive queue to poll."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from conftest import Cli, Net, until_good, wait_until

pytestmark = pytest.mark.root

PORT = 1007
ASKED = ("--transport", "udp", "--arrivals", "ping-pong", "--for", "300ms", "--json", "-", "--quiet")


@pytest.mark.parametrize("flags", [(), ("--wait", "spin"), ("--busy-poll", "100us")])
def test_each_way_to_wait_hears_every_answer(
    net: Net, cli: Cli, peer: Callable[[str], str], flags: tuple[str, ...]
) -> None:
    # With GRO veth takes packets in through NAPI, as cards do.
    net.run(net.left, peer("ethtool"), "-K", "eth0", "gro", "on")
    server = cli.start("serve", "echo", "--listen", f"{net.right_v4}:{PORT}", "--for", "60s", inside=net.right)
    wait_until(lambda: "Ctrl-C" in server.err.read_text(), message="serving")
    target = f"{net.right_v4}:{PORT}"
    done = until_good(lambda: cli("load", "echo", target, *ASKED, *flags, inside=net.left), lambda done: done.code == 0)
    run = done.json
    assert done.code == 0, run["why"]
    assert run["outcomes"]["answered"] == run["outcomes"]["sent"] > 20
    assert run["reading_ns"]["count"] == run["outcomes"]["answered"]
    assert run["notes"] == []
