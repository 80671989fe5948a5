"""`load --prometheus`: what runs is served while it runs, and no longer."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest

import flatout
from conftest import Cli, free_tcp_port, wait_until


def page(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return str(answer.read().decode())
    except urllib.error.URLError:
        return ""


def sent(text: str) -> int:
    found = [line for line in text.splitlines() if line.startswith("flatout_load_sent_total{")]
    return int(found[0].split()[-1]) if found else 0


def test_a_running_load_is_served(cli: Cli, ntp_server: flatout.Server) -> None:
    port = free_tcp_port()
    running = cli.start(
        "load", "ntp", ntp_server.address, "--rate", "500", "--for", "30s", "--prometheus", f"127.0.0.1:{port}"
    )
    seen = wait_until(lambda: sent(page(port)), message="served")
    wait_until(lambda: sent(page(port)) > seen, message="going on")
    running.interrupt()
    assert running.end().code == 130
    assert page(port) == ""


@pytest.mark.parametrize("bad", ["x", "127.0.0.1", "127.0.0.1:99999"])
def test_a_bad_address_is_found_before_anything_is_sent(cli: Cli, bad: str) -> None:
    assert cli("load", "ntp", "127.0.0.1:9", "--prometheus", bad).code == 2
    assert cli("limit", "ntp", "127.0.0.1:9", "--prometheus", bad).code == 2
